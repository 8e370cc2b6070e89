//! `UNet2DConditionModel`: the numbers of diffusers (tests/reference/unet2d_condition.py), laws, and configs that make no
//! network.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, ConfigError, Pretrained, SaveOptions, StoredDType, parameters, to_bytes};
use kiln_denoisers::unet2d_condition::{ClassCondition, ClassEmbedType, Conditions, ControlResiduals};
use kiln_denoisers::{UNet2DCondition, UNet2DConditionConfig, seeded};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(format!("unet2d_condition_{name}"))
}

fn config(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("checkpoint/config.json")).unwrap()
}

fn load(folder: &Path, device: &Device) -> UNet2DCondition {
    let model = UNet2DCondition::from_config(&config(folder), device).unwrap();
    let weights = Checkpoint::open(folder.join("checkpoint/diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(parameters(&model).len(), weights.tensors().count(), "one parameter a tensor");
    let loaded = weights.load_into(model).unwrap();
    assert_eq!(loaded.surplus, Vec::<String>::new(), "every tensor of diffusers' is a parameter here");
    loaded.module
}

/// The inputs of a case.
struct Inputs {
    reference: Checkpoint,
    device: Device,
}

impl Inputs {
    fn get<const D: usize>(&self, name: &str) -> Option<Tensor<D>> {
        self.reference.info(&format!("input.{name}"))?;
        let data = self.reference.tensor(&format!("input.{name}")).unwrap();
        Some(Tensor::from_data(data, &self.device))
    }

    fn class(&self, kind: Option<ClassEmbedType>) -> Option<ClassCondition> {
        self.reference.info("input.class_labels")?;
        let data = self.reference.tensor("input.class_labels").unwrap();
        Some(match kind {
            None => ClassCondition::Labels(Tensor::from_data(data, &self.device)),
            Some(ClassEmbedType::Timestep) => ClassCondition::Numbers(Tensor::from_data(data, &self.device)),
            Some(_) => ClassCondition::Vectors(Tensor::from_data(data, &self.device)),
        })
    }

    fn conditions(&self, kind: Option<ClassEmbedType>) -> Conditions {
        Conditions {
            encoder_hidden_states: self.get("encoder_hidden_states"),
            encoder_attention_mask: self.get("encoder_attention_mask"),
            class_labels: self.class(kind),
            timestep_cond: self.get("timestep_cond"),
            text_embeds: self.get("added_cond_kwargs.text_embeds"),
            time_ids: self.get("added_cond_kwargs.time_ids"),
            image_embeds: self.get("added_cond_kwargs.image_embeds"),
        }
    }

    fn residuals(&self) -> Option<ControlResiduals> {
        let mid = self.get("mid_block_additional_residual")?;
        let down = (0..).map_while(|i| self.get(&format!("down_block_additional_residuals.{i}"))).collect();
        Some(ControlResiduals { down, mid })
    }
}

fn compute(folder: &Path, device: &Device) -> TensorData {
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let inputs = Inputs { reference, device: device.clone() };
    let kind = UNet2DConditionConfig::from_json(&config(folder)).unwrap().encoder.class_embed_type;
    load(folder, device)
        .forward(
            inputs.get("sample").unwrap(),
            inputs.get("timestep").unwrap(),
            &inputs.conditions(kind),
            inputs.residuals(),
        )
        .into_data()
}

/// Largest difference, relative to the largest value expected.
fn relative_error(found: &TensorData, expected: &TensorData) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let errors = found.iter::<f32>().zip(expected.iter::<f32>()).map(|(f, e)| (f - e).abs());
    errors.fold(0.0, f32::max) / largest
}

/// A GPU's phases are off by up to 3e-5 at times near 1,000: see `kiln_blocks::embedding`.
fn tolerance(backend: &str) -> f32 {
    if ["flex", "ndarray"].contains(&backend) { 1e-5 } else { 1e-4 }
}

#[track_caller]
fn assert_case(name: &str, folder: &Path, tolerance: fn(&str) -> f32) {
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let expected = reference.tensor("output.sample").unwrap();
    for (backend, device) in testing::devices() {
        let error = relative_error(&compute(folder, &device), &expected);
        assert!(error <= tolerance(backend), "{name} on {backend}: relative error {error}");
    }
}

#[rstest]
#[case("linear")]
#[case("sdxl")]
#[case("nested")]
#[case("class_table")]
#[case("class_timestep")]
#[case("class_projection")]
#[case("class_concat")]
#[case("class_identity")]
#[case("guidance")]
#[case("no_middle")]
#[case("self_attention")]
#[case("lists")]
#[case("odd_sides")]
#[case("masked")]
#[case("time")]
#[case("text")]
#[case("image")]
#[case("text_image")]
#[case("controlled_pooled")]
fn it_computes_what_diffusers_does(#[case] name: &str) {
    assert_case(name, &case(name), tolerance);
}

/// A folder of reference cases beside the repository (`CASE/checkpoint`, `CASE/reference.safetensors`), where there is one.
#[test]
#[ignore = "reads the case in the folder that KILN_REFERENCE_CASE names"]
fn it_computes_a_case_from_elsewhere() {
    let folder = std::env::var_os("KILN_REFERENCE_CASE").expect("KILN_REFERENCE_CASE names a folder");
    assert_case("elsewhere", Path::new(&folder), |_| 1e-3);
}

/// What was loaded is written with the names, shapes and bits of diffusers' own file, and its config read back.
#[rstest]
#[case("nested")]
#[case("sdxl")]
#[case("text")]
#[case("image")]
fn a_checkpoint_is_written_as_it_was(#[case] name: &str) {
    let folder = case(name);
    let theirs = Checkpoint::open(folder.join("checkpoint/diffusion_pytorch_model.safetensors")).unwrap();
    let options = SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() };
    let ours = Checkpoint::from_bytes(to_bytes(&load(&folder, &Device::flex()), &options).unwrap()).unwrap();
    assert!(ours.tensors().eq(theirs.tensors()), "names, types and shapes");
    for (name, _) in theirs.tensors() {
        assert_eq!(ours.tensor(name).unwrap().as_bytes(), theirs.tensor(name).unwrap().as_bytes(), "{name}");
    }
    let config = UNet2DConditionConfig::from_json(&config(&folder)).unwrap();
    assert_eq!(UNet2DConditionConfig::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn an_empty_config_has_diffusers_defaults() {
    let config = UNet2DConditionConfig::from_json("{}").unwrap();
    assert_eq!(config, UNet2DConditionConfig::default());
    assert_eq!(config.encoder.block_out_channels, [320, 640, 1280, 1280]);
    assert_eq!(config.encoder.time_channels(), 1280);
    assert!(config.to_json().contains(r#""_class_name": "UNet2DConditionModel""#));
}

const SMALL: &str = r#"{
    "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1, "cross_attention_dim": 12,
    "attention_head_dim": 2, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]
}"#;

fn small(device: &Device) -> UNet2DCondition {
    seeded(UNet2DConditionConfig::from_json(SMALL).unwrap().init(device).unwrap(), 7)
}

fn noise<const D: usize>(shape: [usize; D], sample: u64, device: &Device) -> Tensor<D> {
    let rows: usize = shape[0];
    let columns: usize = shape[1..].iter().product();
    normal([rows, columns], NoiseKey { seed: 3, sample, step: 0 }, device).reshape(shape)
}

fn largest_difference(left: Tensor<4>, right: Tensor<4>) -> f32 {
    assert_eq!(left.dims(), right.dims());
    (left - right).abs().max().into_scalar()
}

/// A sample's prediction is its own: it does not depend on its neighbours in the batch.
#[test]
fn a_batch_is_its_samples() {
    for (backend, device) in testing::devices() {
        let model = small(&device);
        let (x, prompt) = (noise([2, 4, 8, 8], 0, &device), noise([2, 5, 12], 1, &device));
        let times = [999.0_f32, 7.0];
        let at = |times: &[f32], x: Tensor<4>, prompt: Tensor<3>| {
            model.forward(x, Tensor::from_data(times, &device), &Conditions::prompt(prompt), None)
        };
        let together = at(&times, x.clone(), prompt.clone());
        for i in 0..2 {
            let alone = at(&times[i..=i], x.clone().narrow(0, i, 1), prompt.clone().narrow(0, i, 1));
            let error = largest_difference(alone, together.clone().narrow(0, i, 1));
            assert!(error < 1e-5, "{backend}, sample {i}: {error}");
        }
    }
}

/// Residuals of zeros change nothing, others do; so do time and prompt, and hidden tokens do not.
#[test]
fn what_it_is_told_is_heard() {
    let device = Device::flex();
    let model = small(&device);
    let (x, prompt) = (noise([1, 4, 8, 8], 0, &device), noise([1, 5, 12], 1, &device));
    let at = |time: f32, conditions: &Conditions, residuals| {
        model.forward(x.clone(), Tensor::from_data([time], &device), conditions, residuals)
    };
    let residuals = |value: f64| {
        let full = |channels, side| Tensor::full([1, channels, side, side], value, &device);
        ControlResiduals { down: vec![full(8, 8), full(8, 8), full(8, 4), full(16, 4)], mid: full(16, 4) }
    };
    let told = Conditions::prompt(prompt.clone());
    let plain = at(10.0, &told, None);
    assert_eq!(largest_difference(plain.clone(), at(10.0, &told, Some(residuals(0.0)))), 0.0);
    assert!(largest_difference(plain.clone(), at(10.0, &told, Some(residuals(0.3)))) > 1e-3, "residuals");
    assert!(largest_difference(plain.clone(), at(900.0, &told, None)) > 1e-3, "time");
    let other = Conditions::prompt(prompt.clone() * 2.0);
    assert!(largest_difference(plain.clone(), at(10.0, &other, None)) > 1e-4, "prompt");

    let seen = Tensor::from_data([[1.0, 1.0, 1.0, 0.0, 0.0]], &device);
    let masked =
        |states| Conditions { encoder_attention_mask: Some(seen.clone()), ..Conditions::prompt(states) };
    let hidden = Tensor::cat(vec![prompt.clone().narrow(1, 0, 3), prompt.narrow(1, 3, 2) + 5.0], 1);
    let two = (at(10.0, &masked(told.encoder_hidden_states.unwrap()), None), at(10.0, &masked(hidden), None));
    assert!(largest_difference(two.0, two.1) < 1e-6, "tokens that are hidden");
}

#[test]
#[should_panic(expected = "3 residuals for the 4 skip connections")]
fn residuals_of_another_network_are_refused() {
    let device = Device::flex();
    let one = || Tensor::zeros([1, 8, 8, 8], &device);
    let residuals = ControlResiduals { down: vec![one(), one(), one()], mid: one() };
    let times = Tensor::from_data([1.0], &device);
    let prompt = Conditions::prompt(Tensor::zeros([1, 5, 12], &device));
    let _ = small(&device).forward(noise([1, 4, 8, 8], 0, &device), times, &prompt, Some(residuals));
}

#[test]
#[should_panic(expected = "there is none")]
fn a_prompt_is_needed() {
    let device = Device::flex();
    let times = Tensor::from_data([1.0], &device);
    let _ = small(&device).forward(noise([1, 4, 8, 8], 0, &device), times, &Conditions::default(), None);
}

#[test]
#[should_panic(expected = "samples of 4 channels")]
fn samples_of_other_channels_are_refused() {
    let device = Device::flex();
    let prompt = Conditions::prompt(Tensor::zeros([1, 5, 12], &device));
    let times = Tensor::from_data([1.0], &device);
    let _ = small(&device).forward(noise([1, 9, 8, 8], 0, &device), times, &prompt, None);
}

/// `SMALL` with some of its fields replaced.
fn with(fields: &str) -> String {
    let mut object: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    let fields: serde_json::Value = serde_json::from_str(fields).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object.to_string()
}

#[rstest]
#[case::unknown_block(
    r#"{"down_block_types": ["KDownBlock2D", "DownBlock2D"]}"#,
    "down_block_types",
    "KDownBlock2D"
)]
#[case::unknown_up(
    r#"{"up_block_types": ["UpBlock2D", "SkipUpBlock2D"]}"#,
    "up_block_types",
    "SkipUpBlock2D"
)]
#[case::unknown_middle(r#"{"mid_block_type": "UNetMidBlockFlat"}"#, "mid_block_type", "UNetMidBlockFlat")]
#[case::activation(r#"{"act_fn": "mish"}"#, "act_fn", "mish")]
#[case::time(r#"{"time_embedding_type": "fourier"}"#, "time_embedding_type", "fourier")]
#[case::scale_shift(r#"{"resnet_time_scale_shift": "ada_group"}"#, "resnet_time_scale_shift", "ada_group")]
#[case::addition(r#"{"addition_embed_type": "image_hint"}"#, "addition_embed_type", "image_hint")]
#[case::class(r#"{"class_embed_type": "learned"}"#, "class_embed_type", "learned")]
#[case::context_norm(r#"{"cross_attention_norm": "layer_norm"}"#, "cross_attention_norm", "layer_norm")]
#[case::dual(r#"{"dual_cross_attention": true}"#, "dual_cross_attention", "true")]
#[case::gligen(r#"{"attention_type": "gated"}"#, "attention_type", "gated")]
#[case::no_groups(r#"{"norm_num_groups": null}"#, "norm_num_groups", "null")]
#[case::head_text(r#"{"attention_head_dim": "eight"}"#, "attention_head_dim", "list")]
#[case::negative(r#"{"cross_attention_dim": [-1, 12]}"#, "cross_attention_dim", "list")]
#[case::depths_text(
    r#"{"transformer_layers_per_block": [[1], "two"]}"#,
    "transformer_layers_per_block",
    "list"
)]
fn a_field_that_cannot_be_read_is_named(#[case] fields: &str, #[case] field: &str, #[case] value: &str) {
    let error = UNet2DConditionConfig::from_json(&with(fields)).expect_err("not a config");
    assert!(matches!(&error, ConfigError::Field { field: found, .. } if found == field), "{error}");
    assert!(error.to_string().contains(value), "{error}");
}

#[rstest]
#[case::stages(r#"{"block_out_channels": [8, 16, 16]}"#, "down_block_types")]
#[case::no_stages(r#"{"block_out_channels": []}"#, "block_out_channels")]
#[case::wide(r#"{"block_out_channels": [8, 18446744073709551615]}"#, "block_out_channels")]
#[case::ups(r#"{"up_block_types": ["UpBlock2D"]}"#, "up_block_types")]
#[case::heads(r#"{"attention_head_dim": 9}"#, "attention_head_dim")]
#[case::head_list(r#"{"attention_head_dim": [2]}"#, "attention_head_dim")]
#[case::no_heads(r#"{"attention_head_dim": [2, 0]}"#, "attention_head_dim")]
#[case::num_heads(r#"{"num_attention_heads": 17}"#, "num_attention_heads")]
#[case::context_list(r#"{"cross_attention_dim": [12, 12, 12]}"#, "cross_attention_dim")]
#[case::only_list(r#"{"only_cross_attention": [true]}"#, "only_cross_attention")]
#[case::layer_list(r#"{"layers_per_block": [1]}"#, "layers_per_block")]
#[case::layers(r#"{"layers_per_block": [1, 0]}"#, "layers_per_block")]
#[case::many_layers(r#"{"layers_per_block": 1000000000000}"#, "layers_per_block")]
#[case::depth_list(r#"{"transformer_layers_per_block": [1]}"#, "transformer_layers_per_block")]
#[case::many_depths(r#"{"transformer_layers_per_block": 1000000000000}"#, "transformer_layers_per_block")]
#[case::few_depths(
    r#"{"transformer_layers_per_block": [[1], 1], "layers_per_block": 2, "reverse_transformer_layers_per_block": [1, 1]}"#,
    "transformer_layers_per_block"
)]
#[case::depths_up(r#"{"transformer_layers_per_block": [[1], 1]}"#, "reverse_transformer_layers_per_block")]
#[case::few_depths_up(
    r#"{"transformer_layers_per_block": [[1], 1], "reverse_transformer_layers_per_block": [1, [1]]}"#,
    "reverse_transformer_layers_per_block"
)]
#[case::groups(r#"{"norm_num_groups": 3}"#, "norm_num_groups")]
#[case::no_groups(r#"{"norm_num_groups": 0}"#, "norm_num_groups")]
#[case::dropout(r#"{"dropout": 1.0}"#, "dropout")]
#[case::eps(r#"{"norm_eps": 0}"#, "norm_eps")]
#[case::scale(r#"{"mid_block_scale_factor": 0}"#, "mid_block_scale_factor")]
#[case::out_scale(r#"{"resnet_out_scale_factor": 0}"#, "resnet_out_scale_factor")]
#[case::padding(r#"{"downsample_padding": 2}"#, "downsample_padding")]
#[case::kernel(r#"{"conv_in_kernel": 0}"#, "conv_in_kernel")]
#[case::frequencies(r#"{"freq_shift": 4}"#, "freq_shift")]
#[case::projection(r#"{"class_embed_type": "projection"}"#, "projection_class_embeddings_input_dim")]
#[case::concat(r#"{"class_embeddings_concat": true}"#, "class_embeddings_concat")]
#[case::concat_and_addition(
    r#"{"class_embeddings_concat": true, "num_class_embeds": 3, "addition_embed_type": "text"}"#,
    "class_embeddings_concat"
)]
#[case::sdxl(r#"{"addition_embed_type": "text_time"}"#, "addition_time_embed_dim")]
#[case::sdxl_width(
    r#"{"addition_embed_type": "text_time", "addition_time_embed_dim": 8}"#,
    "projection_class_embeddings_input_dim"
)]
#[case::sdxl_odd(
    r#"{"addition_embed_type": "text_time", "addition_time_embed_dim": 1, "projection_class_embeddings_input_dim": 8}"#,
    "addition_time_embed_dim"
)]
#[case::pooling(r#"{"addition_embed_type": "text"}"#, "addition_embed_type_num_heads")]
#[case::image(r#"{"addition_embed_type": "image"}"#, "encoder_hid_dim")]
#[case::hid(r#"{"encoder_hid_dim_type": "text_proj"}"#, "encoder_hid_dim")]
#[case::hid_list(r#"{"encoder_hid_dim": 4, "cross_attention_dim": [12, 12]}"#, "cross_attention_dim")]
#[case::simple_head(
    r#"{"attention_head_dim": 3, "down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]}"#,
    "attention_head_dim"
)]
#[case::simple_norm(
    r#"{"cross_attention_norm": "group_norm", "down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]}"#,
    "cross_attention_norm"
)]
#[case::self_head(
    r#"{"attention_head_dim": 9, "down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}"#,
    "attention_head_dim"
)]
fn fields_that_make_no_network_are_named(#[case] fields: &str, #[case] field: &str) {
    let error = UNet2DConditionConfig::from_json(&with(fields)).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}

/// The config of SDXL's base, as it is published.
#[test]
fn the_config_of_sdxl_is_read() {
    let json = r#"{
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.19.0.dev0", "act_fn": "silu",
        "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "center_input_sample": false,
        "class_embed_type": null, "class_embeddings_concat": false, "conv_in_kernel": 3, "conv_out_kernel": 3,
        "cross_attention_dim": 2048, "cross_attention_norm": null,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "downsample_padding": 1, "dual_cross_attention": false, "encoder_hid_dim": null,
        "encoder_hid_dim_type": null, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
        "layers_per_block": 2, "mid_block_only_cross_attention": null, "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": 32,
        "num_attention_heads": null, "num_class_embeds": null, "only_cross_attention": false, "out_channels": 4,
        "projection_class_embeddings_input_dim": 2816, "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": false, "resnet_time_scale_shift": "default", "sample_size": 128,
        "time_cond_proj_dim": null, "time_embedding_act_fn": null, "time_embedding_dim": null,
        "time_embedding_type": "positional", "timestep_post_act": null, "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "upcast_attention": null,
        "use_linear_projection": true
    }"#;
    let model = UNet2DCondition::from_config(json, &Device::flex()).unwrap();
    let parameters = parameters(&model);
    let count: usize = parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    assert_eq!(count, 2_567_463_684, "as many as diffusers counts");
}

#[test]
fn another_models_config_is_refused() {
    let error =
        UNet2DConditionConfig::from_json(r#"{"_class_name": "UNet2DModel"}"#).expect_err("another model");
    assert!(error.to_string().contains("UNet2DModel"), "{error}");
}
