//! `kiln verify`: what it compares, and what it says to what it can't.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use kiln::checkpoint::{Checkpoint, SaveOptions, save, save_tensors};
use kiln::denoisers::unet2d::{DownBlockType, UpBlockType};
use kiln::denoisers::{UNet2DConfig, seeded};
use rstest::rstest;

use crate::{fails, kiln};

/// A small network with classes.
pub fn config() -> UNet2DConfig {
    UNet2DConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![8, 8],
        norm_num_groups: Some(4),
        layers_per_block: 1,
        down_block_types: vec![DownBlockType::DownBlock2D; 2],
        up_block_types: vec![UpBlockType::UpBlock2D; 2],
        num_class_embeds: Some(3),
        ..UNet2DConfig::default()
    }
}

/// The network's folder, as diffusers writes one.
pub fn write_model(folder: &Path) {
    let device = kiln::backend::open(Some("flex")).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config().to_json()).unwrap();
    let network = seeded(config().init(&device).unwrap(), 1);
    save(&network, folder.join("diffusion_pytorch_model.safetensors"), &SaveOptions::default()).unwrap();
}

type Tensors = BTreeMap<String, TensorData>;

/// A call of that network and what it gives, by the library.
pub fn reference() -> Tensors {
    let device = kiln::backend::open(Some("flex")).unwrap();
    let network = seeded(config().init(&device).unwrap(), 1);
    let sample: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
    let sample = TensorData::new(sample, [2, 1, 8, 8]);
    let times = Tensor::from_data([700.0, 700.0], &device);
    let classes = Tensor::from_data([2, 0], &device);
    let output = network.forward(Tensor::from_data(sample.clone(), &device), times, Some(classes));
    BTreeMap::from([
        ("input.sample".to_owned(), sample),
        ("input.timestep".to_owned(), TensorData::new(vec![700_i64, 700], [2])),
        ("input.class_labels".to_owned(), TensorData::new(vec![2_i64, 0], [2])),
        ("output.sample".to_owned(), output.into_data()),
    ])
}

pub fn write_reference(tensors: Tensors, request: &str, path: &Path) {
    let metadata = BTreeMap::from([("request".to_owned(), request.to_owned())]);
    save_tensors(tensors, &metadata, path).unwrap();
}

/// A folder with `model` and `reference.safetensors`, the latter changed.
fn case(change: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    let mut tensors = reference();
    change(&mut tensors);
    write_reference(tensors, "{}", &dir.path().join("reference.safetensors"));
    dir
}

const VERIFY: [&str; 3] = ["verify", "model", "reference.safetensors"];

/// What is printed, and the status.
#[track_caller]
fn verify(dir: &Path, options: &[&str]) -> (i32, String) {
    let output = kiln(dir, &[&VERIFY[..], options].concat());
    let (told, complained) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    let status = output.status.code().expect("it ends by itself");
    assert!(status < 2 && complained.is_empty(), "status {status}: {complained}");
    (status, String::from_utf8(told).unwrap())
}

fn floats(data: &TensorData) -> Vec<f32> {
    data.iter().collect()
}

fn changed(tensors: &mut Tensors, name: &str, change: impl FnOnce(&mut Vec<f32>)) {
    let data = &tensors[name];
    let (shape, mut values) = (data.shape().to_vec(), floats(data));
    change(&mut values);
    tensors.insert(name.to_owned(), TensorData::new(values, shape));
}

#[test]
fn what_agrees_is_status_0_and_can_be_saved() {
    let dir = case(|_| ());
    let (status, told) = verify(dir.path(), &["--save", "out.safetensors", "--tolerance", "1e-6"]);
    assert_eq!(status, 0, "{told}");
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with("output") && lines[0].ends_with("relative"), "{told}");
    assert!(lines[1].starts_with("sample  [2, 1, 8, 8]") && lines[1].ends_with("ok"), "{told}");
    assert_eq!(lines[2], "all within 1e-6");
    let saved = Checkpoint::open(dir.path().join("out.safetensors")).unwrap();
    assert_eq!(saved.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["output.sample"]);
    let (saved, expected) = (saved.tensor("output.sample").unwrap(), &reference()["output.sample"]);
    assert_eq!(saved.shape(), expected.shape());
    let off = floats(&saved).iter().zip(floats(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-6, "{off}");
}

#[test]
fn what_differs_is_status_1_and_is_saved_all_the_same() {
    let dir = case(|tensors| changed(tensors, "output.sample", |values| values[5] += 0.5));
    let (status, told) = verify(dir.path(), &["--save", "out.safetensors"]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("FAILS") && told.contains("1 of 1 not within 1e-3"), "{told}");
    assert!(told.contains("5.000e-1"), "the largest error: {told}");
    assert!(dir.path().join("out.safetensors").exists());
    assert_eq!(verify(dir.path(), &["--tolerance", "0.9"]).0, 0);
}

#[rstest]
#[case::not_a_number(|t: &mut Tensors| changed(t, "output.sample", |v| v[9] = f32::NAN), "NaN")]
#[case::infinite(|t: &mut Tensors| changed(t, "output.sample", |v| v[9] = f32::INFINITY), "FAILS")]
#[case::another_shape(|t: &mut Tensors| {
    let values = floats(&t["output.sample"]);
    t.insert("output.sample".into(), TensorData::new(values, [1, 2, 8, 8]));
}, "computed as [2, 1, 8, 8]")]
#[case::missing(|t: &mut Tensors| {
    t.insert("output.other".into(), TensorData::zeros::<f32, _>([3]));
}, "other   [3]                    -           -  FAILS: not computed")]
fn what_cannot_be_compared_is_status_1(#[case] change: fn(&mut Tensors), #[case] message: &str) {
    let dir = case(change);
    let (status, told) = verify(dir.path(), &["--tolerance", "1e9", "--save", "out.safetensors"]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains(message), "{told}");
    assert!(dir.path().join("out.safetensors").exists());
}

#[test]
fn weights_that_are_not_finite_are_named_and_status_1() {
    let dir = case(|_| ());
    let path = dir.path().join("model/diffusion_pytorch_model.safetensors");
    let file = Checkpoint::open(&path).unwrap();
    let names: Vec<_> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    let mut tensors: Tensors = names.iter().map(|name| (name.clone(), file.tensor(name).unwrap())).collect();
    drop(file);
    changed(&mut tensors, "conv_in.bias", |values| values[0] = f32::NAN);
    save_tensors(tensors, &BTreeMap::new(), &path).unwrap();
    let output = kiln(dir.path(), &VERIFY);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("conv_in.bias"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("NaN"), "{output:?}");
}

#[rstest]
#[case(5e-4, 0)]
#[case(2e-3, 1)]
fn an_output_that_should_be_zero_is_compared_absolutely(#[case] bias: f32, #[case] expected: i32) {
    let dir = case(|tensors| changed(tensors, "output.sample", |values| values.fill(0.0)));
    let path = dir.path().join("model/diffusion_pytorch_model.safetensors");
    let file = Checkpoint::open(&path).unwrap();
    let names: Vec<_> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    let mut tensors: Tensors = names.iter().map(|name| (name.clone(), file.tensor(name).unwrap())).collect();
    drop(file);
    changed(&mut tensors, "conv_out.weight", |values| values.fill(0.0));
    changed(&mut tensors, "conv_out.bias", |values| values.fill(bias));
    save_tensors(tensors, &BTreeMap::new(), &path).unwrap();
    let (status, told) = verify(dir.path(), &[]);
    assert_eq!(status, expected, "{told}");
}

#[rstest]
#[case::of_one(TensorData::new(vec![700_i64], [1]))]
#[case::without_dimensions(TensorData::new::<i64, [usize; 0]>(vec![700_i64], []))]
#[case::float(TensorData::new(vec![700.0_f32], [1]))]
#[case::i32(TensorData::new(vec![700_i32, 700], [2]))]
fn a_time_may_be_of_any_type_and_stand_for_all(#[case] time: TensorData) {
    let dir = case(|tensors| drop(tensors.insert("input.timestep".to_owned(), time)));
    let (status, told) = verify(dir.path(), &["--tolerance", "1e-6"]);
    assert_eq!(status, 0, "{told}");
}

#[test]
fn inputs_may_be_half_as_wide_and_so_may_the_computation() {
    let dir = case(|tensors| {
        let half = tensors["input.sample"].clone().convert::<burn::tensor::f16>();
        tensors.insert("input.sample".to_owned(), half);
    });
    assert_eq!(verify(dir.path(), &[]).0, 0);
    for dtype in ["f16", "bf16"] {
        let (status, told) = verify(dir.path(), &["--dtype", dtype, "--tolerance", "3e-2"]);
        assert_eq!(status, 0, "{dtype}: {told}");
        let (status, told) = verify(dir.path(), &["--dtype", dtype, "--tolerance", "1e-6"]);
        assert_eq!(status, 1, "{dtype} is no f32: {told}");
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"))
        .current_dir(dir.path())
        .args(VERIFY)
        .args(["--dtype", "f16", "--backend", "ndarray"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("ndarray") && told.lines().count() == 1, "{told}");
}

#[rstest]
#[case::missing(|t: &mut Tensors| drop(t.remove("input.sample")), "input.sample is missing")]
#[case::no_time(|t: &mut Tensors| drop(t.remove("input.timestep")), "input.timestep is missing")]
#[case::no_class(|t: &mut Tensors| drop(t.remove("input.class_labels")), "input.class_labels is missing")]
#[case::unknown(|t: &mut Tensors| {
    t.insert("input.colour".into(), TensorData::zeros::<f32, _>([2]));
}, "input.colour is not understood")]
#[case::channels(|t: &mut Tensors| {
    t.insert("input.sample".into(), TensorData::zeros::<f32, _>([2, 3, 8, 8]));
}, "input.sample has shape [2, 3, 8, 8], expected [batch, 1, height, width]")]
#[case::dimensions(|t: &mut Tensors| {
    t.insert("input.sample".into(), TensorData::zeros::<f32, _>([2, 1, 64]));
}, "input.sample has shape [2, 1, 64]")]
#[case::empty(|t: &mut Tensors| {
    t.insert("input.sample".into(), TensorData::zeros::<f32, _>([0, 1, 8, 8]));
}, "input.sample has shape [0, 1, 8, 8]")]
#[case::sides(|t: &mut Tensors| {
    t.insert("input.sample".into(), TensorData::zeros::<f32, _>([2, 1, 8, 7]));
}, "8 x 7 can't be halved 1 times")]
#[case::integers(|t: &mut Tensors| {
    t.insert("input.sample".into(), TensorData::zeros::<i64, _>([2, 1, 8, 8]));
}, "input.sample holds I64, expected floats")]
#[case::times(|t: &mut Tensors| {
    t.insert("input.timestep".into(), TensorData::zeros::<i64, _>([3]));
}, "input.timestep holds 3 times for a batch of 2")]
#[case::no_such_class(|t: &mut Tensors| {
    t.insert("input.class_labels".into(), TensorData::new(vec![0_i64, 3], [2]));
}, "input.class_labels holds 3, expected 0 to 2")]
#[case::negative_class(|t: &mut Tensors| {
    t.insert("input.class_labels".into(), TensorData::new(vec![-1_i64, 0], [2]));
}, "input.class_labels holds -1")]
#[case::class_of_floats(|t: &mut Tensors| {
    t.insert("input.class_labels".into(), TensorData::zeros::<f32, _>([2]));
}, "expected integers")]
#[case::no_outputs(|t: &mut Tensors| drop(t.remove("output.sample")), "nothing to compare with")]
fn inputs_that_make_no_call_are_status_2(#[case] change: fn(&mut Tensors), #[case] message: &str) {
    let dir = case(change);
    fails(dir.path(), &[&VERIFY[..], &["--save", "out.safetensors"]].concat(), message);
    assert!(!dir.path().join("out.safetensors").exists());
}

#[rstest]
#[case::unknown(r#"{"eta": 1}"#, "`eta` of the request is not understood")]
#[case::no_json("no JSON", "request")]
#[case::no_object("[1]", "request")]
#[case::type_of_a_value(r#"{"train_steps": "many"}"#, "`train_steps` of the request is \"many\"")]
#[case::training_with_classes(r#"{"train_steps": 1}"#, "classes")]
fn requests_that_are_not_understood_are_status_2(#[case] request: &str, #[case] message: &str) {
    let dir = case(|_| ());
    write_reference(reference(), request, &dir.path().join("reference.safetensors"));
    fails(dir.path(), &VERIFY, message);
}

#[test]
fn checkpoints_that_cannot_be_read_are_status_2() {
    let dir = case(|_| ());
    let (config, weights) =
        (dir.path().join("model/config.json"), dir.path().join("model/diffusion_pytorch_model.safetensors"));
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        fails(dir.path(), &VERIFY, "diffusion_pytorch_model.safetensors");
    }
    fs::write(&weights, &whole).unwrap();
    let right = fs::read_to_string(&config).unwrap();
    for (from, to, message) in [
        (
            "UNet2DModel",
            "FluxTransformer2DModel",
            "`FluxTransformer2DModel` is no class that is known here; known are UNet2DModel",
        ),
        ("\"DownBlock2D\"", "\"MysteryBlock2D\"", "MysteryBlock2D"),
        ("_class_name", "_name", "names no class"),
        ("{", "", "not a JSON object"),
        ("\"in_channels\": 1", "\"in_channels\": 2", "input.sample"),
        ("\"out_channels\": 1", "\"out_channels\": 2", "conv_out.weight"),
    ] {
        fs::write(&config, right.replacen(from, to, 9)).unwrap();
        fails(dir.path(), &VERIFY, message);
    }
    fs::remove_file(&config).unwrap();
    fails(dir.path(), &VERIFY, "config.json");
    fails(dir.path(), &["verify", "./none", "reference.safetensors"], "./none: there is no such file");
}

#[test]
fn references_and_options_that_cannot_be_used_are_status_2() {
    let dir = case(|_| ());
    let path = dir.path().join("reference.safetensors");
    let whole = fs::read(&path).unwrap();
    fails(dir.path(), &["verify", "model", "none.safetensors"], "none.safetensors");
    fails(dir.path(), &[&VERIFY[..], &["--save", "no/such/folder/x.safetensors"]].concat(), "no/such/folder");
    fails(dir.path(), &[&VERIFY[..], &["--part", "unet"]].concat(), "no part `unet`");
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    fails(dir.path(), &VERIFY, "reference.safetensors");
    for option in [["--tolerance", "-1"], ["--tolerance", "nan"], ["--dtype", "f8"]] {
        assert_eq!(kiln(dir.path(), &[&VERIFY[..], &option].concat()).status.code(), Some(2));
    }
}

#[test]
fn the_part_of_a_pipeline_follows_from_the_inputs() {
    let dir = case(|_| ());
    fs::create_dir(dir.path().join("pipeline")).unwrap();
    fs::rename(dir.path().join("model"), dir.path().join("pipeline/unet")).unwrap();
    let index = r#"{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}"#;
    fs::write(dir.path().join("pipeline/model_index.json"), index).unwrap();
    let whole = ["verify", "pipeline", "reference.safetensors"];
    for part in [&[][..], &["--part", "unet"]] {
        let output = kiln(dir.path(), &[&whole[..], part].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    fails(dir.path(), &[&whole[..], &["--part", "vae"]].concat(), "no part `vae`; it has unet");

    let second = r#"{"_class_name": "P", "unet": ["diffusers", "UNet2DModel"], "prior": ["diffusers", "UNet2DModel"]}"#;
    fs::write(dir.path().join("pipeline/model_index.json"), second).unwrap();
    write_model(&dir.path().join("pipeline/prior"));
    fails(dir.path(), &whole, "say --part prior or unet");

    let mut tensors = reference();
    let sample = tensors.remove("input.sample").unwrap();
    tensors.insert("input.latents".to_owned(), sample);
    write_reference(tensors, "{}", &dir.path().join("reference.safetensors"));
    fails(dir.path(), &whole, "`P` is no class that is known here");
}

#[test]
fn the_part_of_a_file_of_several_networks_follows_from_the_inputs_too() {
    let original = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../checkpoint/tests/golden/layouts/stable_diffusion_1/original.safetensors"
    );
    let dir = tempfile::tempdir().unwrap();
    let output = crate::bare(dir.path(), &["convert", original, "folder"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let config = fs::read_to_string(dir.path().join("folder/unet/config.json")).unwrap();
    let unet = kiln::denoisers::UNet2DConditionConfig::from_json(&config).unwrap().encoder;
    let width = unet.cross_attention_dim.get(0).unwrap();
    let ones = |shape: &[usize]| TensorData::ones::<f32, _>(shape.to_vec());
    let calls = [
        ("vae", "latent_mean", Tensors::from([("input.image".to_owned(), ones(&[1, 3, 16, 16]))])),
        (
            "unet",
            "sample",
            Tensors::from([
                ("input.sample".to_owned(), ones(&[1, unet.in_channels, 8, 8])),
                ("input.timestep".to_owned(), TensorData::new(vec![500_i64], [1])),
                ("input.encoder_hidden_states".to_owned(), ones(&[1, 3, width])),
            ]),
        ),
    ];
    let path = dir.path().join("reference.safetensors");
    for (part, output, mut tensors) in calls {
        // What the part's folder gives is what the file must give.
        tensors.insert(format!("output.{output}"), ones(&[1]));
        write_reference(tensors.clone(), "{}", &path);
        let folder = format!("folder/{part}");
        kiln(dir.path(), &["verify", &folder, "reference.safetensors", "--save", "saved.safetensors"]);
        let saved = Checkpoint::open(dir.path().join("saved.safetensors")).unwrap();
        let name = format!("output.{output}");
        tensors.insert(name.clone(), saved.tensor(&name).unwrap());
        write_reference(tensors, "{}", &path);
        let verified = kiln(dir.path(), &["verify", original, "reference.safetensors"]);
        assert_eq!(verified.status.code(), Some(0), "{part}: {verified:?}");
    }
}
