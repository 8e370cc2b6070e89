//! `SD3ControlNetModel`: the numbers of diffusers (tests/reference/sd3.py), laws, and configs that make no network.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, Pretrained, parameters};
use kiln_conditioning::sd3::{ControlledSample, sum_residuals};
use kiln_conditioning::{ConfigError, SD3ControlNet, SD3ControlNetConfig};
use kiln_denoisers::{LatentSizeError, SD3Transformer2D};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name)
}

fn load<M: Pretrained>(case: &Path, device: &Device) -> M {
    let folder = case.join("checkpoint");
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let model = M::from_config(&config, device).unwrap();
    let weights = Checkpoint::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(parameters(&model).len(), weights.tensors().count(), "one parameter a tensor");
    let loaded = weights.load_into(model).unwrap();
    assert_eq!(loaded.surplus, Vec::<String>::new(), "every tensor of diffusers' is a parameter here");
    loaded.module
}

/// The residuals of a case at `scale` times its own scale.
fn compute(case: &Path, scale: f64, device: &Device) -> Vec<TensorData> {
    let reference = Checkpoint::open(case.join("reference.safetensors")).unwrap();
    let input = |name: &str| reference.tensor(&format!("input.{name}")).unwrap();
    let model: SD3ControlNet = load(case, device);
    let sample = if model.takes_tokens() {
        ControlledSample::Tokens(Tensor::from_data(input("hidden_states"), device))
    } else {
        ControlledSample::Latent(Tensor::from_data(input("hidden_states"), device))
    };
    let states = model.takes_prompt().then(|| Tensor::from_data(input("encoder_hidden_states"), device));
    let own_scale: Vec<f32> = input("conditioning_scale").iter().collect();
    let residuals = model.forward(
        sample,
        Tensor::from_data(input("controlnet_cond"), device),
        Tensor::from_data(input("timestep"), device),
        states,
        Tensor::from_data(input("pooled_projections"), device),
        scale * f64::from(own_scale[0]),
    );
    residuals.into_iter().map(Tensor::into_data).collect()
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

#[track_caller]
fn assert_computes(folder: &Path) {
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let outputs = reference.tensors().filter(|(name, _)| name.starts_with("output.")).count();
    for (backend, device) in testing::devices() {
        let found = compute(folder, 1.0, &device);
        assert_eq!(found.len(), outputs, "{backend}");
        for (i, found) in found.iter().enumerate() {
            let expected = reference.tensor(&format!("output.controlnet_block_samples.{i}")).unwrap();
            assert_close(&format!("{} on {backend}, residual {i}", folder.display()), found, &expected, 1e-5);
        }
    }
}

#[rstest]
#[case::more_channels("sd3_controlnet_extra")]
#[case::dual_attention("sd3_controlnet_dual")]
#[case::without_a_prompt("sd3_controlnet_single")]
#[case::of_tokens("sd3_controlnet_tokens")]
#[case::without_positions("sd3_controlnet_no_positions")]
fn it_computes_what_diffusers_does(#[case] name: &str) {
    assert_computes(&case(name));
}

/// A folder of reference cases beside the repository (`CASE/checkpoint`, `CASE/reference.safetensors`), where there is one.
#[test]
#[ignore = "reads the case in the folder that KILN_REFERENCE_CASE names"]
fn it_computes_a_case_from_elsewhere() {
    assert_computes(Path::new(
        &std::env::var_os("KILN_REFERENCE_CASE").expect("KILN_REFERENCE_CASE names a folder"),
    ));
}

#[test]
fn twice_the_scale_is_twice_the_residuals() {
    let folder = case("sd3_controlnet_extra");
    let device = Device::flex();
    let (once, twice) = (compute(&folder, 1.0, &device), compute(&folder, 2.0, &device));
    for (once, twice) in once.iter().zip(&twice) {
        let doubled = Tensor::<3>::from_data(once.clone(), &device) * 2.0;
        assert_close("twice", twice, &doubled.into_data(), 1e-6);
    }
}

/// A network that was never trained says nothing, whatever the picture.
#[test]
fn a_fresh_network_gives_zeros() {
    let device = Device::flex();
    let model = tiny().init(&device).unwrap();
    let residuals = model.forward(
        ControlledSample::Latent(Tensor::ones([1, 4, 8, 8], &device)),
        Tensor::ones([1, 4, 8, 8], &device),
        Tensor::from_data([500.0], &device),
        Some(Tensor::ones([1, 5, 12], &device)),
        Tensor::ones([1, 10], &device),
        1.0,
    );
    assert_eq!(residuals.len(), 2);
    assert!(
        residuals.into_iter().all(|residual| residual.into_data().iter::<f32>().all(|value| value == 0.0))
    );
}

/// A network without positions of its own is given the tokens of the one that it controls: those have the same shape.
#[test]
fn the_tokens_of_the_controlled_network_fit() {
    let device = Device::flex();
    let base: SD3Transformer2D = load(&case("sd3_transformer_wide"), &device);
    let control: SD3ControlNet = load(&case("sd3_controlnet_single"), &device);
    let tokens = base.embed(Tensor::ones([2, 4, 4, 12], &device));
    let residuals = control.forward(
        ControlledSample::Tokens(tokens),
        Tensor::ones([2, 4, 4, 12], &device),
        Tensor::from_data([500.0, 2.0], &device),
        None,
        Tensor::ones([2, 10], &device),
        1.0,
    );
    assert_eq!(residuals[0].dims(), [2, 12, 16]);
}

#[test]
fn several_networks_say_their_sum() {
    let device = Device::flex();
    let residual = |value: f32| Tensor::<3>::full([1, 2, 3], value, &device);
    let sum = sum_residuals([
        vec![residual(1.0), residual(2.0)],
        vec![residual(10.0), residual(20.0), residual(30.0)],
    ]);
    let found: Vec<f32> =
        sum.into_iter().map(|residual| residual.into_data().iter::<f32>().next().unwrap()).collect();
    assert_eq!(found, [11.0, 22.0]);
    assert!(sum_residuals(Vec::new()).is_empty());
}

#[test]
fn sides_that_do_not_fit_are_told_apart() {
    let device = Device::flex();
    let model = tiny().init(&device).unwrap();
    assert_eq!(model.check_size([12, 2]), Ok(()));
    assert!(matches!(model.check_size([8, 14]), Err(LatentSizeError::Positions { largest: 12, .. })));
    let tokens = SD3ControlNetConfig { use_pos_embed: false, ..tiny() }.init(&device).unwrap();
    assert_eq!(tokens.check_size([8, 14]), Ok(()));
    assert!(matches!(tokens.check_size([8, 13]), Err(LatentSizeError::Patches { patch: 2, .. })));
}

#[test]
#[should_panic(expected = "needs the prompt's states")]
fn a_network_that_is_told_the_prompt_needs_it() {
    let device = Device::flex();
    let latent = ControlledSample::Latent(Tensor::ones([1, 4, 8, 8], &device));
    let (condition, time) = (Tensor::ones([1, 4, 8, 8], &device), Tensor::from_data([500.0], &device));
    let _ = tiny().init(&device).unwrap().forward(
        latent,
        condition,
        time,
        None,
        Tensor::ones([1, 10], &device),
        1.0,
    );
}

fn tiny() -> SD3ControlNetConfig {
    SD3ControlNetConfig {
        sample_size: 8,
        in_channels: 4,
        num_layers: 2,
        attention_head_dim: 8,
        num_attention_heads: 2,
        joint_attention_dim: Some(12),
        caption_projection_dim: 16,
        pooled_projection_dim: 10,
        pos_embed_max_size: Some(6),
        ..SD3ControlNetConfig::default()
    }
}

#[test]
fn an_empty_config_has_diffusers_defaults() {
    let config = SD3ControlNetConfig::from_json("{}").unwrap();
    assert_eq!(config, SD3ControlNetConfig::default());
    assert!(config.force_zeros_for_pooled_projection);
    // Null is not absent: it is a network without a prompt.
    let single =
        SD3ControlNetConfig::from_json(r#"{"joint_attention_dim": null, "pos_embed_type": null}"#).unwrap();
    assert_eq!((single.joint_attention_dim, single.pos_embed_type), (None, None));
}

#[rstest]
#[case::positions(r#"{"pos_embed_type": "rope"}"#, "pos_embed_type")]
#[case::norm(r#"{"qk_norm": "fp32_layer_norm"}"#, "qk_norm")]
#[case::text(r#"{"use_pos_embed": "no"}"#, "use_pos_embed")]
#[case::negative(r#"{"extra_conditioning_channels": -1}"#, "extra_conditioning_channels")]
fn a_value_that_is_not_computed_is_named(#[case] json: &str, #[case] field: &str) {
    let error = SD3ControlNetConfig::from_json(json).expect_err("not a config");
    assert!(matches!(&error, ConfigError::Field { field: found, .. } if found == field), "{error}");
}

#[rstest]
#[case::caption(r#"{"caption_projection_dim": 1024}"#, "caption_projection_dim")]
#[case::layers(r#"{"num_layers": 0}"#, "num_layers")]
#[case::prompt(r#"{"joint_attention_dim": 0}"#, "joint_attention_dim")]
#[case::huge(r#"{"extra_conditioning_channels": 18446744073709551615}"#, "extra_conditioning_channels")]
#[case::less_than_a_patch(r#"{"sample_size": 1}"#, "sample_size")]
fn fields_that_make_no_network_are_named(#[case] json: &str, #[case] field: &str) {
    let error = SD3ControlNetConfig::from_json(json).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}
