//! `SD3Transformer2DModel`: the numbers of diffusers (tests/reference/sd3.py), laws, and configs that make no network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::testing;
use kiln_checkpoint::{
    Checkpoint, Pretrained, SaveOptions, StoredModel, parameters, tensors_to_bytes, to_bytes,
};
use kiln_denoisers::sd3::{PatchEmbeddingConfig, PatchPositions};
use kiln_denoisers::{
    ConfigError, LatentSizeError, SD3Extras, SD3Transformer2D, SD3Transformer2DConfig, seeded,
};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name)
}

fn load(case: &Path, device: &Device) -> SD3Transformer2D {
    let folder = case.join("checkpoint");
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let model = SD3Transformer2D::from_config(&config, device).unwrap();
    let weights = Checkpoint::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(parameters(&model).len(), weights.tensors().count(), "one parameter a tensor");
    let loaded = weights.load_into(model).unwrap();
    assert_eq!(loaded.surplus, Vec::<String>::new(), "every tensor of diffusers' is a parameter here");
    loaded.module
}

/// What is computed for a case, with its residuals, and without the blocks that it leaves out.
fn compute(case: &Path, device: &Device) -> TensorData {
    let reference = Checkpoint::open(case.join("reference.safetensors")).unwrap();
    let input = |name: &str| reference.tensor(&format!("input.{name}")).unwrap();
    let request: serde_json::Value = serde_json::from_str(&reference.metadata()["request"]).unwrap();
    let skipped = request["skip_layers"].as_array().into_iter().flatten();
    let control = |i| format!("block_controlnet_hidden_states.{i}");
    let controls = (0..).map(control).take_while(|name| reference.info(&format!("input.{name}")).is_some());
    let extras = SD3Extras {
        controls: controls.map(|name| Tensor::from_data(input(&name), device)).collect(),
        skip_layers: skipped.map(|layer| layer.as_u64().unwrap() as usize).collect(),
    };
    let model = load(case, device);
    model
        .forward_with(
            Tensor::from_data(input("hidden_states"), device),
            Tensor::from_data(input("timestep"), device),
            Tensor::from_data(input("encoder_hidden_states"), device),
            Tensor::from_data(input("pooled_projections"), device),
            &extras,
        )
        .into_data()
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
#[case::rms_norm("sd3_transformer_qk_norm")]
#[case::layer_norm("sd3_transformer_layer_norm")]
#[case::dual_attention("sd3_transformer_dual")]
#[case::wide("sd3_transformer_wide")]
#[case::larger_patch("sd3_transformer_patch")]
#[case::positions_of_the_file("sd3_transformer_table")]
#[case::positions_computed("sd3_transformer_computed")]
#[case::controlled("sd3_transformer_controlled")]
#[case::controlled_uneven("sd3_transformer_controlled_uneven")]
#[case::skipped("sd3_transformer_skip")]
fn it_computes_what_diffusers_does(#[case] name: &str) {
    let folder = case(name);
    let expected = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let expected = expected.tensor("output.sample").unwrap();
    for (backend, device) in testing::devices() {
        let found = compute(&folder, &device);
        assert_close(&format!("{name} on {backend}"), &found, &expected, 1e-5);
    }
}

/// A folder of reference cases beside the repository (`CASE/checkpoint`, `CASE/reference.safetensors`), where there is one.
#[test]
#[ignore = "reads the case in the folder that KILN_REFERENCE_CASE names"]
fn it_computes_a_case_from_elsewhere() {
    let folder =
        PathBuf::from(std::env::var_os("KILN_REFERENCE_CASE").expect("KILN_REFERENCE_CASE names a folder"));
    let expected = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let expected = expected.tensor("output.sample").unwrap();
    for (backend, device) in testing::devices() {
        assert_close(backend, &compute(&folder, &device), &expected, 1e-5);
    }
}

fn tiny() -> SD3Transformer2DConfig {
    SD3Transformer2DConfig {
        sample_size: 8,
        in_channels: 4,
        out_channels: Some(4),
        num_layers: 2,
        attention_head_dim: 8,
        num_attention_heads: 2,
        joint_attention_dim: 12,
        caption_projection_dim: 16,
        pooled_projection_dim: 10,
        pos_embed_max_size: Some(6),
        ..SD3Transformer2DConfig::default()
    }
}

fn values<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn forward(model: &SD3Transformer2D, sides: [usize; 2], extras: &SD3Extras, device: &Device) -> TensorData {
    let latent = values([1, 4, sides[0], sides[1]], device);
    let time = Tensor::from_data([500.0], device);
    let (states, pooled) = (values([1, 5, 12], device), values([1, 10], device));
    model.forward_with(latent, time, states, pooled, extras).into_data()
}

/// A file without the table of positions is no error: the network computes it, as diffusers does.
#[test]
fn a_file_without_the_table_has_the_one_of_the_formula() {
    let device = Device::flex();
    let model = seeded(tiny().init(&device).unwrap(), 1);
    let file = Checkpoint::from_bytes(to_bytes(&model, &SaveOptions::default()).unwrap()).unwrap();
    assert_eq!(file.info("pos_embed.pos_embed").unwrap().shape, [1, 36, 16]);
    let names = file.tensors().map(|(name, _)| name.to_owned()).filter(|name| name != "pos_embed.pos_embed");
    let tensors = names.map(|name| (name.clone(), file.tensor(&name).unwrap()));
    let without = tensors_to_bytes(tensors.collect(), &BTreeMap::new()).unwrap();
    let without = Checkpoint::from_bytes(without).unwrap();
    assert!(without.load_into(tiny().init(&device).unwrap()).is_err());
    let again = StoredModel::new(serde_json::to_string(&tiny()).unwrap(), without);
    let again: SD3Transformer2D = again.load(&device).unwrap();
    let extras = SD3Extras::default();
    assert_eq!(forward(&model, [8, 8], &extras, &device), forward(&again, [8, 8], &extras, &device));
}

/// With a table of 6 x 6, a picture of 2 x 4 patches has its rows 2 and 3, and its columns 1 to 4.
#[test]
fn a_smaller_picture_takes_the_middle_of_the_table() {
    for (backend, device) in testing::devices() {
        let table = PatchPositions::Table { side: 6, base: 6 };
        let patches = PatchEmbeddingConfig::new(4, 8, 2, table).init(&device);
        // Of an empty latent nothing is seen but the positions, and a bias that is the same everywhere.
        let seen = |[rows, columns]: [usize; 2]| {
            let latent = Tensor::zeros([1, 4, 2 * rows, 2 * columns], &device);
            patches.forward(latent).reshape([rows, columns, 8])
        };
        let middle = seen([6, 6]).narrow(0, 2, 2).narrow(1, 1, 4);
        assert_close(backend, &seen([2, 4]).into_data(), &middle.into_data(), 1e-7);
    }
}

#[test]
fn zero_residuals_change_nothing_and_others_do() {
    let device = Device::flex();
    let model = seeded(SD3Transformer2DConfig { num_layers: 3, ..tiny() }.init(&device).unwrap(), 2);
    let plain = forward(&model, [8, 8], &SD3Extras::default(), &device);
    let with = |controls| forward(&model, [8, 8], &SD3Extras { controls, ..SD3Extras::default() }, &device);
    assert_eq!(with(vec![Tensor::zeros([1, 16, 16], &device); 2]), plain);
    assert_ne!(with(vec![values([1, 16, 16], &device); 2]), plain);
    // The third of three residuals belongs to the last block, which takes none.
    let [zero, other] = [Tensor::zeros([1, 16, 16], &device), values([1, 16, 16], &device)];
    assert_eq!(with(vec![zero.clone(), zero, other]), plain);
}

#[test]
fn blocks_that_are_not_there_can_be_left_out() {
    let device = Device::flex();
    let model = seeded(tiny().init(&device).unwrap(), 3);
    let without = |skip_layers: &[usize]| {
        let extras = SD3Extras { skip_layers: skip_layers.to_vec(), ..SD3Extras::default() };
        forward(&model, [4, 8], &extras, &device)
    };
    assert_eq!(without(&[7]), without(&[]));
    assert_ne!(without(&[1]), without(&[]));
}

#[test]
fn gradients_reach_the_latent() {
    let device = Device::flex().autodiff();
    let model = seeded(tiny().init(&device).unwrap(), 4);
    let latent = values([1, 4, 8, 8], &device).require_grad();
    let time = Tensor::from_data([500.0], &device);
    let y = model.forward(latent.clone(), time, values([1, 5, 12], &device), values([1, 10], &device));
    let gradients = y.square().mean().backward();
    let gradient = latent.grad(&gradients).expect("the latent has a gradient").into_data();
    assert!(gradient.iter::<f32>().all(f32::is_finite) && gradient.iter::<f32>().any(|g| g != 0.0));
}

#[test]
fn sides_that_do_not_fit_are_told_apart() {
    let model = tiny().init(&Device::flex()).unwrap();
    assert_eq!(model.check_size([12, 2]), Ok(()));
    assert_eq!(model.check_size([8, 7]), Err(LatentSizeError::Patches { height: 8, width: 7, patch: 2 }));
    assert_eq!(model.check_size([0, 8]), Err(LatentSizeError::Patches { height: 0, width: 8, patch: 2 }));
    let error = model.check_size([8, 14]).unwrap_err();
    assert_eq!(error, LatentSizeError::Positions { height: 8, width: 14, largest: 12 });
    assert!(error.to_string().contains("12"), "{error}");
    // Computed positions have no end.
    let config = SD3Transformer2DConfig { pos_embed_max_size: None, ..tiny() };
    assert_eq!(config.init(&Device::flex()).unwrap().check_size([8, 140]), Ok(()));
}

#[test]
#[should_panic(expected = "larger than this network's table of positions")]
fn a_latent_beyond_the_table_is_a_mistake() {
    let device = Device::flex();
    let _ = tiny().init(&device).unwrap().embed(Tensor::zeros([1, 4, 8, 14], &device));
}

#[test]
fn an_empty_config_has_diffusers_defaults() {
    let config = SD3Transformer2DConfig::from_json("{}").unwrap();
    assert_eq!(config, SD3Transformer2DConfig::default());
    assert_eq!(config.channels(), 1152);
}

/// Numbers of blocks that aren't there stay in configs that were cut down from larger ones.
#[test]
fn dual_attention_may_name_blocks_that_are_not_there() {
    let json = r#"{"num_layers": 2, "dual_attention_layers": [0, 12]}"#;
    assert_eq!(SD3Transformer2DConfig::from_json(json).unwrap().dual_attention_layers, [0, 12]);
}

#[rstest]
#[case::l2(r#"{"qk_norm": "l2"}"#, "qk_norm")]
#[case::fp32_layer_norm(r#"{"qk_norm": "fp32_layer_norm"}"#, "qk_norm")]
#[case::across_heads(r#"{"qk_norm": "rms_norm_across_heads"}"#, "qk_norm")]
#[case::dual_attention(r#"{"dual_attention_layers": null}"#, "dual_attention_layers")]
#[case::two_sides(r#"{"sample_size": [8, 8]}"#, "sample_size")]
fn a_value_that_is_not_computed_is_named(#[case] json: &str, #[case] field: &str) {
    let error = SD3Transformer2DConfig::from_json(json).expect_err("not a config");
    assert!(matches!(&error, ConfigError::Field { field: found, .. } if found == field), "{error}");
}

#[rstest]
#[case::caption(r#"{"caption_projection_dim": 1024}"#, "caption_projection_dim")]
#[case::named_none(r#"{"qk_norm": "none"}"#, "qk_norm")]
#[case::patch(r#"{"patch_size": 0}"#, "patch_size")]
#[case::layers(r#"{"num_layers": 0}"#, "num_layers")]
#[case::too_many_layers(r#"{"num_layers": 1000000000}"#, "num_layers")]
#[case::huge(r#"{"joint_attention_dim": 18446744073709551615}"#, "joint_attention_dim")]
#[case::table(r#"{"pos_embed_max_size": 0}"#, "pos_embed_max_size")]
#[case::less_than_a_patch(r#"{"sample_size": 1}"#, "sample_size")]
#[case::odd_channels(
    r#"{"attention_head_dim": 3, "num_attention_heads": 2, "caption_projection_dim": 6}"#,
    "attention_head_dim"
)]
fn fields_that_make_no_network_are_named(#[case] json: &str, #[case] field: &str) {
    let error = SD3Transformer2DConfig::from_json(json).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}
