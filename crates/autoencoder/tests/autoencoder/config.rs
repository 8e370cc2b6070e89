//! What a `config.json` may say, and what is said of one that can't be used.

use kiln_autoencoder::{AutoencoderKLConfig, ConfigError};
use kiln_blocks::config::SampleSize;
use rstest::rstest;

#[test]
fn an_empty_config_has_diffusers_defaults() {
    let config = AutoencoderKLConfig::from_json("{}").unwrap();
    assert_eq!(config, AutoencoderKLConfig::default());
    assert_eq!((config.reduction(), config.tiling().tile(), config.tiling().overlap()), (1, 32, 8));
}

/// Stable Diffusion's own, as its folder has it.
#[test]
fn stable_diffusions_config_is_read() {
    let json = r#"{
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.2.2", "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "out_channels": 3, "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
    }"#;
    let config = AutoencoderKLConfig::from_json(json).unwrap();
    assert_eq!((config.reduction(), config.tiling().tile(), config.tiling().overlap()), (8, 64, 16));
    assert_eq!(config.scaling_factor, 0.18215);
}

#[test]
fn json_round_trips_and_names_its_class() {
    let config = AutoencoderKLConfig {
        sample_size: SampleSize::Rectangle([28, 32]),
        latents_mean: Some(vec![0.5; 4]),
        shift_factor: Some(0.0609),
        ..AutoencoderKLConfig::default()
    };
    let json = config.to_json();
    assert!(json.contains(r#""_class_name": "AutoencoderKL""#), "{json}");
    assert_eq!(AutoencoderKLConfig::from_json(&json).unwrap(), config);
}

#[rstest]
#[case::block(r#"{"down_block_types": ["DownBlock2D"]}"#, "down_block_types", "DownBlock2D")]
#[case::activation(r#"{"act_fn": "mish"}"#, "act_fn", "mish")]
#[case::size(r#"{"sample_size": "large"}"#, "sample_size", "list of two")]
fn a_field_that_cannot_be_read_is_named(#[case] json: &str, #[case] field: &str, #[case] value: &str) {
    let error = AutoencoderKLConfig::from_json(json).expect_err("not a config");
    assert!(matches!(&error, ConfigError::Field { field: found, .. } if found == field), "{error}");
    assert!(error.to_string().contains(value), "{error}");
}

#[rstest]
#[case::no_stages(r#"{"block_out_channels": []}"#, "block_out_channels")]
#[case::stages_differ(r#"{"block_out_channels": [32, 64]}"#, "down_block_types")]
#[case::groups(r#"{"norm_num_groups": 48}"#, "norm_num_groups")]
#[case::no_groups(r#"{"norm_num_groups": 0}"#, "norm_num_groups")]
#[case::no_channels(r#"{"block_out_channels": [0]}"#, "norm_num_groups")]
#[case::no_layers(r#"{"layers_per_block": 0}"#, "layers_per_block")]
#[case::no_scale(r#"{"scaling_factor": 0}"#, "scaling_factor")]
#[case::mean_of_three(r#"{"latents_mean": [0, 0, 0]}"#, "latents_mean")]
#[case::no_deviation(r#"{"latents_std": [1, 1, 0, 1]}"#, "latents_std")]
fn fields_that_make_no_network_are_named(#[case] json: &str, #[case] field: &str) {
    let error = AutoencoderKLConfig::from_json(json).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}

#[test]
fn another_models_config_is_refused() {
    let error = AutoencoderKLConfig::from_json(r#"{"_class_name": "VQModel"}"#).expect_err("another model");
    assert!(error.to_string().contains("VQModel"), "{error}");
}
