//! `ControlNetModel`: the numbers of diffusers (tests/reference/controlnet.py), laws, and configs that make no network.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, ConfigError, Pretrained, SaveOptions, StoredDType, parameters, to_bytes};
use kiln_conditioning::{Control, ControlMode, ControlNet, ControlNetConfig, multi_control};
use kiln_denoisers::unet2d_condition::{ClassCondition, Conditions, ControlResiduals};
use kiln_denoisers::{UNet2DCondition, UNet2DConditionConfig, seeded};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(format!("controlnet_{name}"))
}

fn config(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("checkpoint/config.json")).unwrap()
}

fn load(folder: &Path, device: &Device) -> ControlNet {
    let model = ControlNet::from_config(&config(folder), device).unwrap();
    let weights = Checkpoint::open(folder.join("checkpoint/diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(parameters(&model).len(), weights.tensors().count(), "one parameter a tensor");
    let loaded = weights.load_into(model).unwrap();
    assert_eq!(loaded.surplus, Vec::<String>::new(), "every tensor of diffusers' is a parameter here");
    loaded.module
}

fn compute(folder: &Path, device: &Device) -> ControlResiduals {
    let reference = Checkpoint::open(folder.join("reference.safetensors")).unwrap();
    let data = |name: &str| {
        let name = format!("input.{name}");
        reference.info(&name).map(|_| reference.tensor(&name).unwrap())
    };
    let matrix = |name: &str| data(name).map(|data| Tensor::from_data(data, device));
    let conditions = Conditions {
        encoder_hidden_states: data("encoder_hidden_states").map(|data| Tensor::from_data(data, device)),
        class_labels: data("class_labels")
            .map(|data| ClassCondition::Labels(Tensor::from_data(data, device))),
        text_embeds: matrix("added_cond_kwargs.text_embeds"),
        time_ids: matrix("added_cond_kwargs.time_ids"),
        ..Conditions::default()
    };
    let control = Control {
        picture: Tensor::from_data(data("controlnet_cond").unwrap(), device),
        scale: data("conditioning_scale").unwrap().iter::<f64>().next().unwrap(),
        mode: if data("guess_mode").is_some() { ControlMode::Guess } else { ControlMode::Prompted },
    };
    load(folder, device).forward(
        Tensor::from_data(data("sample").unwrap(), device),
        Tensor::from_data(data("timestep").unwrap(), device),
        &conditions,
        control,
    )
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
    for (backend, device) in testing::devices() {
        let found = compute(folder, &device);
        let down = found.down.into_iter().enumerate();
        let outputs = down.map(|(i, residual)| (format!("output.down_block_res_samples.{i}"), residual));
        let outputs: Vec<_> =
            outputs.chain([("output.mid_block_res_sample".to_owned(), found.mid)]).collect();
        let expected = reference.tensors().filter(|(name, _)| name.starts_with("output.")).count();
        assert_eq!(outputs.len(), expected, "{name} on {backend}: residuals");
        for (output, found) in outputs {
            let error = relative_error(&found.into_data(), &reference.tensor(&output).unwrap());
            assert!(error <= tolerance(backend), "{name} on {backend}, {output}: relative error {error}");
        }
    }
}

#[rstest]
#[case("pooled")]
#[case("guess")]
#[case("sdxl")]
#[case("odd_sides")]
#[case("class")]
#[case("text")]
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
#[case("sdxl")]
#[case("odd_sides")]
fn a_checkpoint_is_written_as_it_was(#[case] name: &str) {
    let folder = case(name);
    let theirs = Checkpoint::open(folder.join("checkpoint/diffusion_pytorch_model.safetensors")).unwrap();
    let options = SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() };
    let ours = Checkpoint::from_bytes(to_bytes(&load(&folder, &Device::flex()), &options).unwrap()).unwrap();
    assert!(ours.tensors().eq(theirs.tensors()), "names, types and shapes");
    for (name, _) in theirs.tensors() {
        assert_eq!(ours.tensor(name).unwrap().as_bytes(), theirs.tensor(name).unwrap().as_bytes(), "{name}");
    }
    let config = ControlNetConfig::from_json(&config(&folder)).unwrap();
    assert_eq!(ControlNetConfig::from_json(&config.to_json()).unwrap(), config);
}

const BASE: &str = r#"{
    "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1, "cross_attention_dim": 12,
    "attention_head_dim": 2, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "num_class_embeds": 3
}"#;

fn base(device: &Device) -> (UNet2DConditionConfig, UNet2DCondition) {
    let config = UNet2DConditionConfig::from_json(BASE).unwrap();
    let unet = seeded(config.init(device).unwrap(), 7);
    (config, unet)
}

fn noise<const D: usize>(shape: [usize; D], sample: u64, device: &Device) -> Tensor<D> {
    let columns: usize = shape[1..].iter().product();
    normal([shape[0], columns], NoiseKey { seed: 3, sample, step: 0 }, device).reshape(shape)
}

struct Given {
    sample: Tensor<4>,
    times: Tensor<1>,
    conditions: Conditions,
    picture: Tensor<4>,
}

fn given(device: &Device) -> Given {
    Given {
        sample: noise([1, 4, 8, 8], 0, device),
        times: Tensor::from_data([420.0], device),
        conditions: Conditions {
            class_labels: Some(ClassCondition::Labels(Tensor::from_data([2], device))),
            ..Conditions::prompt(noise([1, 5, 12], 1, device))
        },
        picture: noise([1, 3, 64, 64], 2, device),
    }
}

fn values(residuals: ControlResiduals) -> Vec<Vec<f32>> {
    residuals.down.into_iter().chain([residuals.mid]).map(|x| x.into_data().iter().collect()).collect()
}

/// A network that was not trained yet adds nothing: its U-Net predicts as it does alone.
#[test]
fn a_copy_of_the_base_starts_with_no_effect() {
    for (backend, device) in testing::devices() {
        let (config, unet) = base(&device);
        let network = ControlNet::from_unet(&unet, &config, &device).unwrap();
        let Given { sample, times, conditions, picture } = given(&device);
        let residuals = network.forward(sample.clone(), times.clone(), &conditions, Control::new(picture));
        assert!(values(residuals.clone()).into_iter().flatten().all(|value| value == 0.0), "{backend}");
        let alone = unet.forward(sample.clone(), times.clone(), &conditions, None);
        let controlled = unet.forward(sample, times, &conditions, Some(residuals));
        assert_eq!(alone.into_data(), controlled.into_data(), "{backend}");
    }
}

/// The way down of a copy has the base's weights, all of them.
#[test]
fn a_copy_has_the_weights_of_its_base() {
    let device = Device::flex();
    let (config, unet) = base(&device);
    let copy = ControlNet::from_unet(&unet, &config, &device).unwrap();
    let stored = |bytes: Vec<u8>| Checkpoint::from_bytes(bytes).unwrap();
    let theirs = stored(to_bytes(&unet, &SaveOptions::default()).unwrap());
    let ours = stored(to_bytes(&copy, &SaveOptions::default()).unwrap());
    let way_down = |name: &str| !name.starts_with("up_blocks.") && !name.starts_with("conv_norm_out.");
    let mut shared = 0;
    for (name, _) in theirs.tensors().filter(|(name, _)| way_down(name) && !name.starts_with("conv_out.")) {
        assert_eq!(ours.tensor(name).unwrap(), theirs.tensor(name).unwrap(), "{name}");
        shared += 1;
    }
    let own = ours.tensors().filter(|(name, _)| name.starts_with("controlnet_")).count();
    assert_eq!(shared + own, ours.tensors().count(), "no tensor is neither the base's nor its own");
}

/// A network whose zero convolutions are not zero any more.
fn trained(seed: u64, device: &Device) -> ControlNet {
    let config = ControlNetConfig::beside(&base(device).0);
    seeded(config.init(device).unwrap(), seed)
}

/// Residuals go with the scale; in guess mode they are graded from 0.1 to 1.
#[test]
fn residuals_go_with_scale_and_mode() {
    let device = Device::flex();
    let network = trained(1, &device);
    let Given { sample, times, conditions, picture } = given(&device);
    let at = |scale, mode| {
        let control = Control { picture: picture.clone(), scale, mode };
        values(network.forward(sample.clone(), times.clone(), &conditions, control))
    };
    let plain = at(1.0, ControlMode::Prompted);
    let halved = at(0.5, ControlMode::Prompted);
    let guessed = at(1.0, ControlMode::Guess);
    assert_eq!(plain.len(), 5, "four skip connections and the middle");
    for (i, plain) in plain.iter().enumerate() {
        let grade = 10f32.powf(i as f32 / 4.0 - 1.0);
        assert!(plain.iter().any(|value| value.abs() > 1e-3), "residual {i} is heard");
        for (j, value) in plain.iter().enumerate() {
            assert!((halved[i][j] - 0.5 * value).abs() < 1e-6);
            assert!((guessed[i][j] - grade * value).abs() < 1e-5 * (1.0 + value.abs()));
        }
    }
}

/// Several networks add up, each with a picture and a scale of its own; none is no control.
#[test]
fn several_networks_add_up() {
    let device = Device::flex();
    let (one, other) = (trained(1, &device), trained(2, &device));
    let Given { sample, times, conditions, picture } = given(&device);
    let first = Control::new(picture.clone());
    let second = Control { scale: 0.3, mode: ControlMode::Guess, ..Control::new(picture * 0.5) };
    let alone = |network: &ControlNet, control: &Control| {
        values(network.forward(sample.clone(), times.clone(), &conditions, control.clone()))
    };
    let (left, right) = (alone(&one, &first), alone(&other, &second));
    let networks = [(&one, first), (&other, second)];
    let sum = values(multi_control(networks, &sample, &times, &conditions).unwrap());
    for ((sum, left), right) in sum.iter().zip(&left).zip(&right) {
        for ((sum, left), right) in sum.iter().zip(left).zip(right) {
            assert!((sum - (left + right)).abs() < 1e-6);
        }
    }
    assert!(multi_control([], &sample, &times, &conditions).is_none());
}

#[test]
#[should_panic(expected = "does not become the sides of the sample")]
fn a_picture_of_other_sides_is_refused() {
    let device = Device::flex();
    let Given { sample, times, conditions, .. } = given(&device);
    let small = Control::new(Tensor::zeros([1, 3, 8, 8], &device));
    let _ = trained(1, &device).forward(sample, times, &conditions, small);
}

#[test]
fn an_empty_config_has_diffusers_defaults() {
    let config = ControlNetConfig::from_json("{}").unwrap();
    assert_eq!(config, ControlNetConfig::default());
    assert_eq!(config.conditioning_embedding_out_channels, [16, 32, 96, 256]);
    assert!(config.to_json().contains(r#""_class_name": "ControlNetModel""#));
}

#[rstest]
#[case::order(r#"{"controlnet_conditioning_channel_order": "grb"}"#, "controlnet_conditioning_channel_order")]
#[case::embedding(r#"{"conditioning_embedding_out_channels": null}"#, "conditioning_embedding_out_channels")]
#[case::pooling(r#"{"global_pool_conditions": "yes"}"#, "global_pool_conditions")]
#[case::block(r#"{"down_block_types": ["KDownBlock2D"]}"#, "down_block_types")]
#[case::activation(r#"{"act_fn": "mish"}"#, "act_fn")]
fn a_field_that_cannot_be_read_is_named(#[case] json: &str, #[case] field: &str) {
    let error = ControlNetConfig::from_json(json).expect_err("not a config");
    assert!(matches!(&error, ConfigError::Field { field: found, .. } if found == field), "{error}");
}

#[rstest]
#[case::no_embedding(r#"{"conditioning_embedding_out_channels": []}"#, "conditioning_embedding_out_channels")]
#[case::embedding(
    r#"{"conditioning_embedding_out_channels": [16, 0]}"#,
    "conditioning_embedding_out_channels"
)]
#[case::channels(r#"{"conditioning_channels": 0}"#, "conditioning_channels")]
#[case::middle(r#"{"mid_block_type": null}"#, "mid_block_type")]
#[case::groups(r#"{"norm_num_groups": 48}"#, "norm_num_groups")]
#[case::context(r#"{"encoder_hid_dim": 8}"#, "encoder_hid_dim")]
#[case::image(r#"{"addition_embed_type": "text_image"}"#, "addition_embed_type")]
#[case::class(
    r#"{"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 4}"#,
    "class_embed_type"
)]
fn fields_that_make_no_network_are_named(#[case] json: &str, #[case] field: &str) {
    let error = ControlNetConfig::from_json(json).expect_err("makes no network");
    assert!(matches!(&error, ConfigError::Inconsistent { field: found, .. } if *found == field), "{error}");
}

/// A U-Net without a middle can't be copied: diffusers' `ControlNetModel` has one.
#[test]
fn a_base_without_a_middle_is_refused() {
    let device = Device::flex();
    let config = UNet2DConditionConfig::from_json(
        &BASE.replace("\"num_class", "\"mid_block_type\": null, \"num_class"),
    );
    let config = config.unwrap();
    let unet = config.init(&device).unwrap();
    let error = ControlNet::from_unet(&unet, &config, &device).expect_err("no middle");
    assert!(error.to_string().contains("mid_block_type"), "{error}");
}
