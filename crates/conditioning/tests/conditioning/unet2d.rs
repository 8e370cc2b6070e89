//! A control network for a U-Net that is told a class: what it starts as, and what its residuals do.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, ConfigError, SaveOptions, to_bytes};
use kiln_conditioning::{Control, ControlMode, UNet2DControlNet, UNet2DControlNetConfig};
use kiln_denoisers::unet2d::ClassCondition;
use kiln_denoisers::{UNet2D, UNet2DConfig, seeded};
use rstest::rstest;

const BASE: &str = r#"{
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
    "num_class_embeds": 4, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "attention_head_dim": 8,
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]
}"#;

fn base(device: &Device) -> (UNet2DConfig, UNet2D) {
    let config = UNet2DConfig::from_json(BASE).unwrap();
    let unet = seeded(config.init(device).unwrap(), 7);
    (config, unet)
}

/// A sample, its time, its class, and a picture.
fn given(device: &Device) -> (Tensor<4>, Tensor<1>, Option<ClassCondition>, Tensor<4>) {
    let noise = |sample| normal([1, 64], NoiseKey { seed: 3, sample, step: 0 }, device);
    let class = ClassCondition::Labels(Tensor::from_data([2], device));
    let [x, picture] = [0, 1].map(|sample| noise(sample).reshape([1, 1, 8, 8]));
    (x, Tensor::from_data([420.0], device), Some(class), picture)
}

/// A network that was not trained yet adds zeros, and its U-Net predicts the same bits as alone.
#[test]
fn a_copy_of_the_base_starts_with_no_effect() {
    for (backend, device) in testing::devices() {
        let (config, unet) = base(&device);
        let network = UNet2DControlNet::from_unet(&unet, &config, &device).unwrap();
        let (x, times, class, picture) = given(&device);
        let residuals = network.forward(x.clone(), times.clone(), class.clone(), Control::new(picture));
        let count = residuals.down.len();
        assert_eq!(count, config.skip_channels().len());
        for residual in residuals.down.iter().chain([&residuals.mid]) {
            assert!(residual.to_data().iter::<f32>().all(|value| value == 0.0), "{backend}");
        }
        let alone = unet.forward_with(x.clone(), times.clone(), class.clone());
        let controlled = unet.forward_controlled(x, times, class, Some(residuals));
        assert_eq!(alone.into_data(), controlled.into_data(), "{backend}");
    }
}

/// Its way down has the base's weights, all of them and no others.
#[test]
fn a_copy_has_the_weights_of_its_base() {
    let device = Device::flex();
    let (config, unet) = base(&device);
    let copy = UNet2DControlNet::from_unet(&unet, &config, &device).unwrap();
    let stored = |bytes: Vec<u8>| Checkpoint::from_bytes(bytes).unwrap();
    let theirs = stored(to_bytes(&unet, &SaveOptions::default()).unwrap());
    let ours = stored(to_bytes(&copy, &SaveOptions::default()).unwrap());
    let way_up = ["up_blocks.", "conv_norm_out.", "conv_out."];
    let mut shared = 0;
    for (name, _) in theirs.tensors().filter(|(name, _)| !way_up.iter().any(|part| name.starts_with(part))) {
        assert_eq!(ours.tensor(&format!("encoder.{name}")).unwrap(), theirs.tensor(name).unwrap(), "{name}");
        shared += 1;
    }
    let own = ours.tensors().filter(|(name, _)| name.starts_with("controlnet_")).count();
    assert_eq!(shared + own, ours.tensors().count());
    assert!(ours.load_into(UNet2DControlNetConfig::beside(&config).init(&device).unwrap()).is_ok());
}

/// Residuals go with the scale, are graded in guess mode, and change what is predicted.
#[test]
fn residuals_go_with_scale_and_mode() {
    for (backend, device) in testing::devices() {
        let (config, unet) = base(&device);
        let network = UNet2DControlNetConfig::beside(&config).init(&device).unwrap();
        let network = seeded(network, 5);
        let (x, times, class, picture) = given(&device);
        let residuals = |scale, mode| {
            let control = Control { scale, mode, ..Control::new(picture.clone()) };
            network.forward(x.clone(), times.clone(), class.clone(), control)
        };
        let whole = residuals(1.0, ControlMode::Prompted);
        let half = residuals(0.5, ControlMode::Prompted);
        let guess = residuals(1.0, ControlMode::Guess);
        let largest = |x: Tensor<4>| x.abs().max().into_scalar::<f32>();
        for (i, (whole, half)) in whole.down.iter().zip(&half.down).enumerate() {
            assert!(largest(whole.clone()) > 1e-3, "{backend}, residual {i}");
            assert!(largest(whole.clone() - half.clone() * 2.0) < 1e-5, "{backend}, residual {i}");
        }
        assert!(largest(whole.down[0].clone() * 0.1 - guess.down[0].clone()) < 1e-5, "{backend}");
        assert!(largest(whole.mid.clone() - guess.mid) < 1e-6, "{backend}");
        let alone = unet.forward_with(x.clone(), times.clone(), class.clone());
        let controlled = unet.forward_controlled(x.clone(), times.clone(), class.clone(), Some(whole));
        assert!(largest(alone - controlled) > 1e-3, "{backend}");
    }
}

#[rstest]
#[case::no_convolution(vec![], 1, "conditioning_embedding_out_channels")]
#[case::no_channels(vec![16, 0], 1, "conditioning_embedding_out_channels")]
#[case::no_picture(vec![16], 0, "conditioning_channels")]
fn a_config_that_makes_no_network_is_refused(
    #[case] embedding: Vec<usize>,
    #[case] channels: usize,
    #[case] field: &str,
) {
    let unet = UNet2DConfig::from_json(BASE).unwrap();
    let config = UNet2DControlNetConfig {
        conditioning_channels: channels,
        conditioning_embedding_out_channels: embedding,
        ..UNet2DControlNetConfig::beside(&unet)
    };
    let refusal = config.init(&Device::flex()).unwrap_err();
    assert!(
        matches!(&refusal, ConfigError::Inconsistent { field: found, .. } if *found == field),
        "{refusal}"
    );
}
