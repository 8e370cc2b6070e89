//! What holds of the network whatever its weights.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_checkpoint::{SaveOptions, parameters, to_bytes};
use kiln_denoisers::{UNet2D, UNet2DConfig, seeded};
use rstest::rstest;

const DIGITS: &str = r#"{
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
    "attention_head_dim": 8, "num_class_embeds": 11,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]
}"#;

fn digits(device: &Device) -> UNet2D {
    seeded(UNet2DConfig::from_json(DIGITS).unwrap().init(device).unwrap(), 7)
}

fn noisy(shape: [usize; 4], device: &Device) -> Tensor<4> {
    normal(shape, NoiseKey { seed: 3, sample: 0, step: 0 }, device)
}

fn times(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(values, device)
}

fn classes(values: &[i32], device: &Device) -> Option<Tensor<1, Int>> {
    Some(Tensor::from_data(values, device))
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max)
}

/// A sample's prediction is its own: it does not depend on its neighbours in the batch.
#[test]
fn a_batch_is_its_samples() {
    for (backend, device) in testing::devices() {
        let model = digits(&device);
        let x = noisy([3, 1, 12, 12], &device);
        let (t, c) = ([999.0, 500.0, 1.0], [0, 7, 10]);
        let together = values(model.forward(x.clone(), times(&t, &device), classes(&c, &device)));
        for i in 0..3 {
            let sample = x.clone().narrow(0, i, 1);
            let alone = values(model.forward(sample, times(&t[i..=i], &device), classes(&c[i..=i], &device)));
            let error = largest_difference(&alone, &together[i * 144..(i + 1) * 144]);
            assert!(error < 1e-5, "{backend}, sample {i}: {error}");
        }
    }
}

/// Time and class both change the prediction.
#[test]
fn time_and_class_are_heard() {
    for (backend, device) in testing::devices() {
        let model = digits(&device);
        let x = noisy([1, 1, 8, 8], &device);
        let at =
            |t: f32, c: i32| values(model.forward(x.clone(), times(&[t], &device), classes(&[c], &device)));
        assert!(largest_difference(&at(10.0, 1), &at(900.0, 1)) > 1e-3, "{backend}: time");
        assert!(largest_difference(&at(10.0, 1), &at(10.0, 2)) > 1e-3, "{backend}: class");
    }
}

struct NoGradient<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    without: Vec<String>,
    zero: Vec<String>,
}

impl ModuleVisitor for NoGradient<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match param.val().grad(self.gradients) {
            None => self.without.push(self.path.join(".")),
            Some(gradient) if gradient.clone().abs().max().into_scalar::<f32>() == 0.0 => {
                self.zero.push(self.path.join("."));
            }
            Some(_) => {}
        }
    }
}

/// Every parameter takes part in the loss.
#[rstest]
#[case::plain(DIGITS)]
#[case::scale_shift(r#"{
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 8], "norm_num_groups": 4, "layers_per_block": 1,
    "resnet_time_scale_shift": "scale_shift", "downsample_type": "resnet", "upsample_type": "resnet",
    "down_block_types": ["AttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "AttnUpBlock2D"]
}"#)]
fn gradients_reach_every_parameter(#[case] config: &str) {
    // On one backend: that all give the same gradients is held in `kiln-backend`.
    let device = Device::flex().autodiff();
    let config = UNet2DConfig::from_json(config).unwrap();
    let model = seeded(config.init(&device).unwrap(), 1);
    let x = noisy([2, 1, 8, 8], &device);
    let labels = config.num_class_embeds.map(|_| Tensor::from_data([3, 4], &device));
    let y = model.forward(x, times(&[20.0, 700.0], &device), labels);
    let gradients = (y.clone() * y).mean().backward();
    let mut visitor = NoGradient { gradients: &gradients, path: vec![], without: vec![], zero: vec![] };
    model.visit(&mut visitor);
    assert_eq!(visitor.without, Vec::<String>::new(), "parameters without a gradient");
    // A key's bias adds the same to every score of a query, which softmax does not see.
    let zero: Vec<_> = visitor.zero.iter().filter(|path| !path.ends_with("to_k.bias")).collect();
    assert!(zero.is_empty(), "parameters whose gradient is zero: {zero:?}");
}

/// Pictures whose sides don't halve evenly keep their sides.
#[rstest]
#[case::odd([13, 15])]
#[case::one_pixel([1, 1])]
#[case::wide([4, 31])]
fn any_sides_pass(#[case] sides: [usize; 2], #[values(0, 1)] downsample_padding: usize) {
    let [height, width] = sides;
    let device = Device::flex();
    let config = UNet2DConfig { downsample_padding, ..UNet2DConfig::from_json(DIGITS).unwrap() };
    if downsample_padding == 0 && height == 1 {
        return; // Two pixels and a padding of one are fewer than the kernel's three: PyTorch refuses as well.
    }
    let model = config.init(&device).unwrap();
    let y = model.forward(
        noisy([2, 1, height, width], &device),
        times(&[1.0, 2.0], &device),
        classes(&[0, 1], &device),
    );
    assert_eq!(y.dims(), [2, 1, height, width]);
}

/// The same seed gives the same weights on every backend and in any order of use; another seed gives others.
#[test]
fn a_seed_names_the_weights() {
    let bytes = |device: &Device, seed| {
        let model = seeded(UNet2DConfig::from_json(DIGITS).unwrap().init(device).unwrap(), seed);
        to_bytes(&model, &SaveOptions::default()).unwrap()
    };
    let first = bytes(&Device::flex(), 7);
    assert_ne!(first, bytes(&Device::flex(), 8));
    for (backend, device) in testing::devices() {
        device.seed(1);
        let _ = Tensor::<1>::random([3], burn::tensor::Distribution::Default, &device).into_data();
        assert_eq!(first, bytes(&device, 7), "{backend}");
        assert_eq!(first, bytes(&device.autodiff(), 7), "{backend} with autodiff");
    }
}

/// PyTorch's defaults: weights and biases of a layer fill `-1/sqrt(fan_in)..1/sqrt(fan_in)` evenly; a norm starts at 1 and 0.
#[rstest]
#[case::burn_draws(None)]
#[case::seeded(Some(5))]
fn weights_start_as_pytorchs_do(#[case] seed: Option<u64>) {
    let device = Device::flex();
    let config =
        UNet2DConfig { block_out_channels: vec![32, 64], ..UNet2DConfig::from_json(DIGITS).unwrap() };
    let model = config.init(&device).unwrap();
    let model = seed.map_or_else(|| model.clone(), |seed| seeded(model.clone(), seed));
    let tensors = kiln_checkpoint::module_tensors(&model).unwrap();
    let spread = |name: &str, fan_in: f64| {
        let values: Vec<f64> = tensors[name].iter().collect();
        let bound = 1.0 / fan_in.sqrt();
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        assert!(largest <= bound * 1.000_001, "{name}: {largest} beyond {bound}");
        let variance = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        // A uniform's variance is bound^2 / 3, known to within four standard errors.
        let expected = bound * bound / 3.0;
        let tolerance = 4.0 * expected * (0.8 / values.len() as f64).sqrt();
        assert!((variance - expected).abs() < tolerance, "{name}: variance {variance}, expected {expected}");
    };
    spread("mid_block.resnets.0.conv1.weight", 64.0 * 9.0);
    spread("mid_block.resnets.0.conv1.bias", 64.0 * 9.0);
    spread("down_blocks.1.resnets.0.conv_shortcut.weight", 32.0);
    spread("down_blocks.1.resnets.0.time_emb_proj.weight", 128.0);
    spread("down_blocks.1.resnets.0.time_emb_proj.bias", 128.0);
    let table: Vec<f64> = tensors["class_embedding.weight"].iter().collect();
    let variance = table.iter().map(|value| value * value).sum::<f64>() / table.len() as f64;
    assert!((variance - 1.0).abs() < 0.15, "class table: variance {variance}");
    assert!(tensors["conv_norm_out.weight"].iter::<f32>().all(|value| value == 1.0));
    assert!(tensors["conv_norm_out.bias"].iter::<f32>().all(|value| value == 0.0));
}

/// No two parameters share a name, so none is lost in a file.
#[test]
fn parameter_names_are_unique() {
    let model = digits(&Device::flex());
    let names: Vec<_> = parameters(&model).into_iter().map(|parameter| parameter.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
#[should_panic(expected = "needs a class for every sample")]
fn a_conditional_network_insists_on_a_class() {
    let device = Device::flex();
    let _ = digits(&device).forward(noisy([1, 1, 8, 8], &device), times(&[1.0], &device), None);
}

#[test]
#[should_panic(expected = "one timestep a sample")]
fn one_time_does_not_serve_two_samples() {
    let device = Device::flex();
    let _ = digits(&device).forward(
        noisy([2, 1, 8, 8], &device),
        times(&[1.0], &device),
        classes(&[1, 2], &device),
    );
}
