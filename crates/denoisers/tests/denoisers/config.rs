//! What a `config.json` may say, and what is said of one that can't be used.

use kiln_denoisers::unet2d::{DownBlockType, SampleSize};
use kiln_denoisers::{ConfigError, UNet2DConfig};
use rstest::rstest;

#[test]
fn an_empty_config_has_diffusers_defaults() {
    let config = UNet2DConfig::from_json("{}").unwrap();
    assert_eq!(config, UNet2DConfig::default());
    assert_eq!(config.block_out_channels, [224, 448, 672, 896]);
    assert_eq!(config.time_channels(), 896);
}

#[test]
fn json_round_trips_and_names_its_class() {
    let config = UNet2DConfig {
        sample_size: Some(SampleSize::Rectangle([28, 32])),
        num_class_embeds: Some(11),
        attention_head_dim: None,
        ..UNet2DConfig::default()
    };
    let json = config.to_json();
    assert!(json.contains(r#""_class_name": "UNet2DModel""#), "{json}");
    assert_eq!(UNet2DConfig::from_json(&json).unwrap(), config);
}

#[test]
fn older_names_of_blocks_are_known() {
    let json = r#"{"down_block_types": ["UNetResDownBlock2D"], "up_block_types": ["UNetResUpBlock2D"],
                   "block_out_channels": [32], "act_fn": "swish"}"#;
    assert_eq!(UNet2DConfig::from_json(json).unwrap().down_block_types, [DownBlockType::DownBlock2D]);
}

#[rstest]
#[case::unknown_block(
    r#"{"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}"#,
    "down_block_types",
    "CrossAttnDownBlock2D"
)]
#[case::unknown_mid_block(
    r#"{"mid_block_type": "UNetMidBlock2DCrossAttn"}"#,
    "mid_block_type",
    "UNetMidBlock2DCrossAttn"
)]
#[case::unknown_activation(r#"{"act_fn": "snake"}"#, "act_fn", "snake")]
#[case::unknown_time(r#"{"resnet_time_scale_shift": "spatial"}"#, "resnet_time_scale_shift", "spatial")]
#[case::text_for_a_number(r#"{"in_channels": "three"}"#, "in_channels", "three")]
#[case::negative(r#"{"layers_per_block": -1}"#, "layers_per_block", "-1")]
#[case::fraction(r#"{"norm_num_groups": 2.5}"#, "norm_num_groups", "2.5")]
fn a_field_that_cannot_be_read_is_named(#[case] json: &str, #[case] field: &str, #[case] value: &str) {
    let error = UNet2DConfig::from_json(json).expect_err("not a config");
    assert!(matches!(&error, ConfigError::Field { field: found, .. } if found == field), "{error}");
    assert!(error.to_string().contains(value), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[rstest]
#[case::groups(r#"{"norm_num_groups": 48}"#, "norm_num_groups")]
#[case::groups_of_a_joined_width(
    r#"{"norm_num_groups": 5, "block_out_channels": [5, 5], "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D"]}"#, "up_block_types")]
#[case::no_stages(r#"{"block_out_channels": []}"#, "block_out_channels")]
#[case::channels_of_none(
    r#"{"block_out_channels": [0, 0, 0, 0], "time_embedding_type": "fourier"}"#,
    "block_out_channels"
)]
#[case::stages_differ(r#"{"block_out_channels": [32, 64]}"#, "down_block_types")]
#[case::head_too_wide(r#"{"attention_head_dim": 1000}"#, "attention_head_dim")]
#[case::zero_head(r#"{"attention_head_dim": 0}"#, "attention_head_dim")]
#[case::zero_layers(r#"{"layers_per_block": 0}"#, "layers_per_block")]
#[case::dropout(r#"{"dropout": 1.0}"#, "dropout")]
#[case::eps(r#"{"norm_eps": -1e-5}"#, "norm_eps")]
#[case::scale(r#"{"mid_block_scale_factor": 0}"#, "mid_block_scale_factor")]
#[case::learned_without_rows(r#"{"time_embedding_type": "learned"}"#, "num_train_timesteps")]
#[case::no_frequencies(r#"{"freq_shift": 112}"#, "freq_shift")]
fn fields_that_make_no_network_are_named(#[case] json: &str, #[case] field: &str) {
    let error = UNet2DConfig::from_json(json).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}

#[rstest]
#[case::not_json("{")]
#[case::a_list("[1, 2]")]
#[case::empty("")]
fn what_is_no_object_is_refused(#[case] json: &str) {
    assert!(matches!(UNet2DConfig::from_json(json), Err(ConfigError::NotJson { .. })));
}

#[test]
fn another_models_config_is_refused() {
    let error = UNet2DConfig::from_json(r#"{"_class_name": "AutoencoderKL"}"#).expect_err("another model");
    assert!(error.to_string().contains("AutoencoderKL"), "{error}");
}
