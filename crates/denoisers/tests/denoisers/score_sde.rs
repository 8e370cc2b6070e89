//! `UNet2DModel` with NCSN++'s stages, and as files of 2022 have it (tests/reference/score_sde.py).

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, SaveOptions, StoredDType, StoredModel, parameters, to_bytes};
use kiln_denoisers::{ConfigError, UNet2D, UNet2DConfig, seeded};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name)
}

fn weights(case: &Path) -> Checkpoint {
    Checkpoint::open(case.join("checkpoint/diffusion_pytorch_model.safetensors")).unwrap()
}

/// As a program loads it, old names and all.
fn load(case: &Path, device: &Device) -> UNet2D {
    let config = std::fs::read_to_string(case.join("checkpoint/config.json")).unwrap();
    let model: UNet2D = StoredModel::new(config, weights(case)).load(device).unwrap();
    assert_eq!(parameters(&model).len(), weights(case).tensors().count(), "one parameter a tensor");
    model
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

/// Phases of `2 pi w ln 47` with w up to 50 are near 1,000, where a unit in the last place of a logarithm is 1e-4.
const FOURIER: f32 = 1e-4;

#[rstest]
#[case::ncsnpp("unet2d_ncsnpp", FOURIER)]
#[case::attention_within("unet2d_ncsnpp_attention_within", FOURIER)]
#[case::mixed_with_plain_stages("unet2d_ncsnpp_mixed", 1e-5)]
#[case::ddpm_of_2022("unet2d_ddpm_2022", 1e-5)]
fn it_computes_what_diffusers_does(#[case] name: &str, #[case] tolerance: f32) {
    let folder = case(name);
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let expected = reference.tensor("output.sample").unwrap();
    for (backend, device) in testing::devices() {
        let times: Vec<f32> = reference.tensor("input.timestep").unwrap().iter().collect();
        let sample = Tensor::from_data(reference.tensor("input.sample").unwrap(), &device);
        let times = Tensor::from_data(times.as_slice(), &device);
        let found = load(&folder, &device).forward(sample, times, None).into_data();
        // Samples differ in size by 3,000, as their noise does: each is held to its own values.
        for i in 0..expected.shape()[0] {
            let what = format!("sample {i} of {name} on {backend}");
            assert_close(&what, &sample_of(&found, i), &sample_of(&expected, i), tolerance);
        }
    }
}

fn sample_of(batch: &TensorData, i: usize) -> TensorData {
    let shape = batch.shape();
    let size = shape.iter().skip(1).product();
    let values: Vec<f32> = batch.iter::<f32>().skip(i * size).take(size).collect();
    TensorData::new(values, [shape[1], shape[2], shape[3]])
}

/// What was loaded is written with the names, shapes and bits of diffusers' own file.
#[rstest]
#[case::ncsnpp("unet2d_ncsnpp")]
#[case::attention_within("unet2d_ncsnpp_attention_within")]
fn a_checkpoint_is_written_as_it_was(#[case] name: &str) {
    let theirs = weights(&case(name));
    let options = SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() };
    let ours = to_bytes(&load(&case(name), &Device::flex()), &options).unwrap();
    let ours = Checkpoint::from_bytes(ours).unwrap();
    assert!(ours.tensors().eq(theirs.tensors()), "names, types and shapes");
    for (name, _) in theirs.tensors() {
        assert_eq!(ours.tensor(name).unwrap().as_bytes(), theirs.tensor(name).unwrap().as_bytes(), "{name}");
    }
}

/// The config of google/ncsnpp-celebahq-256, field by field.
const CELEBA_HQ: &str = r#"{
    "_class_name": "UNet2DModel", "_diffusers_version": "0.1.2", "act_fn": "silu", "attention_head_dim": null,
    "block_out_channels": [128, 128, 256, 256, 256, 256, 256], "center_input_sample": false,
    "down_block_types": ["SkipDownBlock2D", "SkipDownBlock2D", "SkipDownBlock2D", "SkipDownBlock2D",
        "AttnSkipDownBlock2D", "SkipDownBlock2D", "SkipDownBlock2D"],
    "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 3, "layers_per_block": 2,
    "mid_block_scale_factor": 1.41421356237, "norm_eps": 1e-06, "norm_num_groups": null, "out_channels": 3,
    "sample_size": 256, "time_embedding_type": "fourier",
    "up_block_types": ["SkipUpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D", "SkipUpBlock2D",
        "SkipUpBlock2D", "SkipUpBlock2D"]
}"#;

/// The published network can be made, and has as many parameters as in PyTorch; none of them is drawn.
#[test]
fn celeba_hqs_network_is_described() {
    let model = UNet2DConfig::from_json(CELEBA_HQ).unwrap().init(&Device::flex()).unwrap();
    let count: usize =
        parameters(&model).iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    assert_eq!(count, 65_574_549);
}

/// Sides that do not halve evenly come back too.
#[test]
fn odd_sides_keep_their_size() {
    let device = Device::flex();
    let config = std::fs::read_to_string(case("unet2d_ncsnpp_mixed").join("checkpoint/config.json")).unwrap();
    let config = UNet2DConfig {
        up_block_types: vec![kiln_denoisers::unet2d::UpBlockType::SkipUpBlock2D; 3],
        ..UNet2DConfig::from_json(&config).unwrap()
    };
    let model = seeded(config.init(&device).unwrap(), 1);
    let times = Tensor::from_data([3.0], &device);
    assert_eq!(model.forward(Tensor::zeros([1, 3, 11, 7], &device), times, None).dims(), [1, 3, 11, 7]);
}

#[rstest]
#[case::groups_of_a_plain_stage(
    r#""down_block_types": ["SkipDownBlock2D", "DownBlock2D"]"#,
    "down_block_types"
)]
#[case::groups_of_a_plain_stage_up(r#""up_block_types": ["UpBlock2D", "SkipUpBlock2D"]"#, "up_block_types")]
#[case::grey(r#""in_channels": 1"#, "in_channels")]
#[case::grey_result(r#""out_channels": 1"#, "out_channels")]
#[case::no_groups_of_four(r#""block_out_channels": [2, 8]"#, "down_block_types")]
#[case::attention_needs_32(
    r#""down_block_types": ["AttnSkipDownBlock2D", "SkipDownBlock2D"]"#,
    "down_block_types"
)]
#[case::attention_up_needs_32(
    r#""up_block_types": ["SkipUpBlock2D", "AttnSkipUpBlock2D"]"#,
    "up_block_types"
)]
#[case::picture_lost(
    r#""norm_num_groups": 2, "up_block_types": ["SkipUpBlock2D", "UpBlock2D"]"#,
    "up_block_types"
)]
#[case::picture_too_large(
    r#""norm_num_groups": 2, "block_out_channels": [8, 8, 8],
       "down_block_types": ["DownBlock2D", "SkipDownBlock2D", "SkipDownBlock2D"],
       "up_block_types": ["SkipUpBlock2D", "SkipUpBlock2D", "SkipUpBlock2D"]"#,
    "down_block_types"
)]
fn fields_that_make_no_network_are_named(#[case] fields: &str, #[case] field: &str) {
    let mut json = serde_json::json!({
        "norm_num_groups": null, "block_out_channels": [8, 8], "down_block_types": ["SkipDownBlock2D", "SkipDownBlock2D"],
        "up_block_types": ["SkipUpBlock2D", "SkipUpBlock2D"]
    });
    assert!(UNet2DConfig::from_json(&json.to_string()).is_ok());
    let others: serde_json::Map<_, _> = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
    json.as_object_mut().unwrap().extend(others);
    let error = UNet2DConfig::from_json(&json.to_string()).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}
