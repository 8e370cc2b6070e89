//! Bad input ends with status 2 and one line that says what and where; nothing is half written.

use std::fs;

use kiln::PictureModel;
use kiln::checkpoint::{Checkpoint, StoredDType, save_tensors};
use rstest::rstest;

use crate::{fails, idx, kiln};

#[rstest]
#[case::class(&["generate", "--class", "12"], "there is no class 12: the model has 10, numbered 0 to 9")]
#[case::class_name(&["generate", "--class", "seven"], "there is no class seven")]
#[case::model_missing(&["generate", "--model", "none.safetensors"], "none.safetensors")]
#[case::no_folder(&["generate", "--out", "no/such/folder/a.png"], "no/such/folder")]
#[case::data_missing(&["train", "--data", "nowhere", "--out", "run"], "nowhere")]
#[case::no_run(&["train", "--data", "idx", "--out", "run", "--resume"], "run")]
#[case::steps(&["train", "--data", "idx", "--out", "run", "--steps", "0"], "steps")]
#[case::rate(&["train", "--data", "idx", "--out", "run", "--learning-rate", "0"], "learning_rate")]
#[case::channels(&["train", "--data", "idx", "--out", "run", "--channels", "0,8"], "channel")]
#[case::levels(&["train", "--data", "idx", "--out", "run", "--channels", "8,8,8,8,8"], "multiple of 16")]
fn options(#[case] arguments: &[&str], #[case] message: &str) {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("idx"), 4);
    fails(dir.path(), arguments, message);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was written");
}

#[test]
fn a_backend_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    for (name, message) in [("abacus", "there is no backend `abacus`"), ("cuda", "--features cuda")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"))
            .current_dir(dir.path())
            .args(["generate", "--backend", name])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(message) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn an_option_that_does_not_exist_is_status_2() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(kiln(dir.path(), &["generate", "--colour", "red"]).status.code(), Some(2));
    assert_eq!(kiln(dir.path(), &["generate", "--solver", "magic"]).status.code(), Some(2));
    assert_eq!(kiln(dir.path(), &["generate", "--count", "0"]).status.code(), Some(2));
    assert_eq!(kiln(dir.path(), &["generate", "--guidance", "nan"]).status.code(), Some(2));
}

#[test]
fn data_that_are_broken() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let images = data.join("train-images-idx3-ubyte");
    let train = ["train", "--data", "data", "--out", "run"];

    idx(&data, 4);
    let whole = fs::read(&images).unwrap();
    fs::write(&images, &whole[..100]).unwrap();
    fails(dir.path(), &train, "train-images-idx3-ubyte");

    let mut magic = whole.clone();
    magic[2] = 9;
    fs::write(&images, magic).unwrap();
    fails(dir.path(), &train, "train-images-idx3-ubyte");

    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    fails(dir.path(), &["train", "--data", "pictures", "--out", "run"], "pictures");
    fs::write(pictures.join("broken.png"), b"\x89PNG\r\n\x1a\nand then nothing").unwrap();
    fails(dir.path(), &["train", "--data", "pictures", "--out", "run"], "broken.png");
    assert!(!dir.path().join("run").exists(), "a run was begun");
}

#[test]
fn model_files_that_are_broken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let device = kiln::backend::open(Some("flex")).unwrap();
    PictureModel::digits(&device).unwrap().save(&path, StoredDType::F16).unwrap();
    let whole = fs::read(&path).unwrap();
    let generate = ["generate", "--model", "model.safetensors"];

    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        fails(dir.path(), &generate, "model.safetensors");
    }
    fs::write(&path, b"a picture of a digit, perhaps").unwrap();
    fails(dir.path(), &generate, "model.safetensors");

    // A safetensors file of something else; one of this kind without a tensor; one with a tensor of another shape.
    let file = Checkpoint::from_bytes(whole).unwrap();
    let names: Vec<_> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    let tensors = || names.iter().map(|name| (name.clone(), file.tensor(name).unwrap()));
    save_tensors(tensors().collect(), &Default::default(), &path).unwrap();
    fails(dir.path(), &generate, "is no picture model");

    save_tensors(tensors().filter(|(name, _)| name != "conv_in.weight").collect(), file.metadata(), &path)
        .unwrap();
    fails(dir.path(), &generate, "conv_in.weight");

    let other = tensors().map(|(name, data)| match name.as_str() {
        "conv_in.weight" => (name, burn::tensor::TensorData::zeros::<f32, _>([3, 1, 3, 3])),
        _ => (name, data),
    });
    save_tensors(other.collect(), file.metadata(), &path).unwrap();
    fails(dir.path(), &generate, "conv_in.weight");

    // A description that asks for what the program can't give is an error too, and no panic.
    for (field, value, message) in [
        ("class_embed_type", serde_json::json!("timestep"), "class_embed_type"),
        ("block_out_channels", serde_json::json!(vec![8; 70]), "model.safetensors"),
    ] {
        let (key, card) = file.metadata().iter().next().unwrap();
        let mut card: serde_json::Value = serde_json::from_str(card).unwrap();
        card["unet2d"][field] = value;
        let metadata = [(key.clone(), card.to_string())].into();
        save_tensors(tensors().collect(), &metadata, &path).unwrap();
        fails(dir.path(), &generate, message);
    }
    assert!(!dir.path().join("kiln.png").exists());
}

#[test]
#[cfg(unix)]
fn a_folder_that_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    fails(dir.path(), &["generate", "--out", "file/under"], "file/under");
}
