//! Numbers that diffusers computes (tests/reference/denoisers.py), on every backend compiled in.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::testing;
use kiln_blocks::SinusoidalConfig;
use kiln_checkpoint::{Checkpoint, SaveOptions, StoredDType, to_bytes};
use kiln_denoisers::unet2d::{ClassCondition, ClassEmbedType};
use kiln_denoisers::{UNet2D, UNet2DConfig};
use rstest::rstest;

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

fn read_config(checkpoint: &Path) -> UNet2DConfig {
    UNet2DConfig::from_json(&std::fs::read_to_string(checkpoint.join("config.json")).unwrap()).unwrap()
}

fn load(checkpoint: &Path, config: &UNet2DConfig, device: &Device) -> UNet2D {
    let weights = Checkpoint::open(checkpoint.join("diffusion_pytorch_model.safetensors")).unwrap();
    let loaded = weights.load_into(config.init(device).unwrap()).unwrap();
    assert_eq!(loaded.surplus, Vec::<String>::new(), "every tensor of diffusers' is a parameter here");
    loaded.module
}

fn compute(model: &UNet2D, config: &UNet2DConfig, reference: &Checkpoint, device: &Device) -> TensorData {
    let input = |name: &str| reference.tensor(&format!("input.{name}")).unwrap();
    let sample = Tensor::<4>::from_data(input("sample"), device);
    let batch = sample.dims()[0];
    let times: Vec<f32> = input("timestep").iter().collect();
    let times: Vec<f32> = times.iter().cycle().take(batch).copied().collect();
    let condition = reference.info("input.class_labels").map(|_| match config.class_embed_type {
        None => ClassCondition::Labels(Tensor::from_data(input("class_labels"), device)),
        Some(ClassEmbedType::Timestep) => {
            ClassCondition::Numbers(Tensor::from_data(input("class_labels"), device))
        }
        Some(ClassEmbedType::Identity) => {
            ClassCondition::Vectors(Tensor::from_data(input("class_labels"), device))
        }
    });
    model.forward_with(sample, Tensor::from_data(times.as_slice(), device), condition).into_data()
}

/// Largest difference, relative to the largest value expected.
#[track_caller]
fn assert_close(what: &str, found: &TensorData, expected: &TensorData, tolerance: f32) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let error =
        found.iter::<f32>().zip(expected.iter::<f32>()).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    assert!(error <= tolerance * largest, "{what}: relative error {}", error / largest);
}

#[rstest]
#[case::class_conditional("class_conditional")]
#[case::scale_shift("scale_shift")]
#[case::scale_shift_no_attention_norm("scale_shift_no_attention_norm")]
#[case::no_attention("no_attention")]
#[case::resnet_resampling("resnet_resampling")]
#[case::fourier("fourier")]
#[case::learned("learned")]
#[case::odd_sides("odd_sides")]
fn unet2d_computes_what_diffusers_does(#[case] case: &str) {
    let folder = golden(case);
    let config = read_config(&folder);
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let expected = reference.tensor("output.sample").unwrap();
    for (backend, device) in testing::devices() {
        let model = load(&folder, &config, &device);
        let found = compute(&model, &config, &reference, &device);
        assert_close(&format!("{case} on {backend}"), &found, &expected, 1e-5);
    }
}

/// What was loaded is written with the names, shapes and bits of diffusers' own file.
#[rstest]
#[case::class_conditional("class_conditional")]
#[case::resnet_resampling("resnet_resampling")]
#[case::fourier("fourier")]
fn a_checkpoint_is_written_as_it_was(#[case] case: &str) {
    let folder = golden(case);
    let theirs = Checkpoint::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = load(&folder, &read_config(&folder), &Device::flex());
    let options = SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() };
    let ours = Checkpoint::from_bytes(to_bytes(&model, &options).unwrap()).unwrap();
    assert!(ours.tensors().eq(theirs.tensors()), "names, types and shapes");
    for (name, _) in theirs.tensors() {
        assert_eq!(ours.tensor(name).unwrap().as_bytes(), theirs.tensor(name).unwrap().as_bytes(), "{name}");
    }
}

/// A folder of reference cases beside the repository (`CASE/checkpoint`, `CASE/reference.safetensors`), where there is one.
#[test]
#[ignore = "reads the case in the folder that KILN_REFERENCE_CASE names"]
fn unet2d_computes_a_case_from_elsewhere() {
    let folder =
        PathBuf::from(std::env::var_os("KILN_REFERENCE_CASE").expect("KILN_REFERENCE_CASE names a folder"));
    let config = read_config(&folder.join("checkpoint"));
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let expected = reference.tensor("output.sample").unwrap();
    for (backend, device) in testing::devices() {
        let model = load(&folder.join("checkpoint"), &config, &device);
        let found = compute(&model, &config, &reference, &device);
        assert_close(backend, &found, &expected, 1e-3);
    }
}

/// The time embedding alone, at times where 159 turns are taken off a phase.
///
/// A CPU takes them off in two parts, to the last place; a GPU's driver may merge the parts into one product with `2 pi`
/// in f32, which is 1.75e-7 off: 2.8e-5 after 159 turns.
#[test]
fn phases_of_a_thousand_keep_their_place() {
    for (backend, device) in testing::devices() {
        let tolerance = if ["flex", "ndarray"].contains(&backend) { 2e-6 } else { 3.5e-5 };
        let times = Tensor::from_data([999.0, 998.5, 1.0, 0.0], &device);
        let found: Vec<f32> = SinusoidalConfig::new(8).init().forward(times).into_data().iter().collect();
        for (row, time) in [999.0_f64, 998.5, 1.0, 0.0].into_iter().enumerate() {
            for i in 0..4 {
                let frequency = f64::from((-(10_000.0_f64.ln() as f32) * i as f32 / 4.0).exp());
                let phase = f64::from((time * frequency) as f32);
                for (column, expected) in [(i, phase.cos()), (i + 4, phase.sin())] {
                    let found = f64::from(found[8 * row + column]);
                    assert!(
                        (found - expected).abs() < tolerance,
                        "{backend}: {found} for {expected} at time {time}"
                    );
                }
            }
        }
    }
}
