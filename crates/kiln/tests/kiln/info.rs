//! `kiln info`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use kiln::PictureModel;
use kiln::checkpoint::{StoredDType, save_tensors};
use serde_json::Value;

use crate::bare;
use crate::verify::write_model;

fn told(dir: &Path, path: &str) -> String {
    let output = bare(dir, &["info", path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(dir: &Path, path: &str) -> Value {
    let output = bare(dir, &["info", path, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_model_folder() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    let info = json(dir.path(), "model");
    assert_eq!(info["kind"], "model");
    assert_eq!(info["class"], "UNet2DModel");
    assert_eq!(info["layout"], "diffusers");
    assert_eq!(info["verify"]["can"], true);
    assert_eq!(info["convert"]["can"], true);
    assert_eq!(info["generate"]["can"], false);
    let [part] = info["parts"].as_array().unwrap().as_slice() else { panic!("{info}") };
    let parameters = part["parameters"].as_u64().unwrap();
    assert!((5_000..50_000).contains(&parameters), "{parameters}");
    assert_eq!(part["bytes"], 4 * parameters);
    assert_eq!(part["memory"]["f16"], 2 * parameters);
    assert_eq!(part["dtypes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["F32"]);
    let size: u64 =
        fs::read_dir(dir.path().join("model")).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(info["bytes"], size);

    let table = told(dir.path(), "model");
    assert!(table.starts_with("model: model, UNet2DModel\n"), "{table}");
    assert!(table.contains("verify    yes") && table.contains("F32"), "{table}");
}

#[test]
fn what_is_not_supported_says_why() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    let config = dir.path().join("model/config.json");
    let right = fs::read_to_string(&config).unwrap();
    for (from, to, why) in [
        ("UNet2DModel", "MysteryModel", "`MysteryModel` is no class"),
        ("\"DownBlock2D\"", "\"MysteryBlock2D\"", "down_block_types"),
    ] {
        fs::write(&config, right.replace(from, to)).unwrap();
        let info = json(dir.path(), "model");
        assert_eq!(info["verify"]["can"], false);
        assert!(info["verify"]["why"].as_str().unwrap().contains(why), "{info}");
    }
}

#[test]
fn a_pipeline_with_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("pipeline/unet"));
    fs::create_dir(dir.path().join("pipeline/scheduler")).unwrap();
    fs::write(
        dir.path().join("pipeline/scheduler/scheduler_config.json"),
        r#"{"_class_name": "DDPMScheduler"}"#,
    )
    .unwrap();
    let index = r#"{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"],
                    "scheduler": ["diffusers", "DDPMScheduler"]}"#;
    fs::write(dir.path().join("pipeline/model_index.json"), index).unwrap();
    let info = json(dir.path(), "pipeline");
    assert_eq!(info["kind"], "pipeline");
    assert_eq!(info["class"], "DDPMPipeline");
    assert_eq!(info["parts"][0]["name"], "unet");
    assert_eq!(info["others"][0], "scheduler");
    let info = json(dir.path(), "pipeline/scheduler");
    assert_eq!((&info["kind"], &info["class"]), (&"scheduler".into(), &"DDPMScheduler".into()));
}

#[test]
fn models_of_kiln_itself() {
    let dir = tempfile::tempdir().unwrap();
    let device = kiln::backend::open(Some("flex")).unwrap();
    let model = PictureModel::digits(&device).unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    model.save(dir.path().join("run/model.safetensors"), StoredDType::F16).unwrap();
    for path in ["run", "run/model.safetensors"] {
        let info = json(dir.path(), path);
        assert_eq!(info["kind"], "picture model");
        assert_eq!(info["generate"]["can"], true);
        assert_eq!(info["parts"][0]["parameters"], 874_057);
        assert_eq!(info["parts"][0]["dtypes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["F16"]);
    }
    assert!(told(dir.path(), "run").contains("28 x 28"));
}

#[test]
fn files_that_nothing_is_known_of_show_their_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let tensors: BTreeMap<_, _> =
        (0..20).map(|i| (format!("layer.{i:02}.w"), TensorData::zeros::<f32, _>([2, i + 1]))).collect();
    save_tensors(tensors, &BTreeMap::new(), dir.path().join("x.safetensors")).unwrap();
    let info = json(dir.path(), "x.safetensors");
    assert_eq!(info["kind"], "tensors");
    assert_eq!(info["parts"][0]["parameters"], 2 * (1..=20).sum::<u64>());
    assert_eq!(info["tensors"][0], "layer.00.w F32 [2, 1]");
    assert_eq!(info["tensors"].as_array().unwrap().last().unwrap(), "and 8 more");
    assert_eq!((&info["verify"]["can"], &info["convert"]["can"]), (&false.into(), &false.into()));
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_error() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .current_dir(dir.path())
        .args(["info", "model"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_tokenizer_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("vocab.json"), "{}").unwrap();
    fs::write(dir.path().join("merges.txt"), "").unwrap();
    assert_eq!(json(dir.path(), ".")["kind"], "tokenizer");
}

#[test]
fn what_cannot_be_read_is_status_2() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.safetensors"), b"no tensors").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for path in ["x.safetensors", "empty", "./none"] {
        let output = bare(dir.path(), &["info", path]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(path.trim_start_matches("./")) && told.lines().count() == 1, "{told}");
    }
}
