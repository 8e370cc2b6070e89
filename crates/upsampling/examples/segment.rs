//! Networks that label pixels, trained on shapes: discs and squares on a noisy ground.
//!
//! ```text
//! cargo run --release --package kiln-upsampling --example segment -- [unet|fcn32|fcn16|fcn8] [STEPS]
//! ```
//!
//! Prints the loss as it falls and, at the end, the intersection over union of each label on pictures that training did not
//! see: IoU = |found and true| / |found or true|.

use std::error::Error;

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_optim::{AdamConfig, NamedOptimizer};
use kiln_upsampling::{Fcn, FcnConfig, FcnStride, SegmentationUNet, SegmentationUNetConfig};

const SIDE: usize = 64;
const LABELS: [&str; 3] = ["ground", "disc", "square"];

/// Pictures `[count, 1, 64, 64]` and their labels `[count, 64, 64]`.
fn shapes(count: usize, seed: u64, device: &Device) -> (Tensor<4>, Tensor<3, Int>) {
    let mut state = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut labels = vec![0_i64; count * SIDE * SIDE];
    for picture in labels.chunks_exact_mut(SIDE * SIDE) {
        for label in [1, 2, 1, 2] {
            let (x, y, r) = (below(SIDE) as i64, below(SIDE) as i64, 5 + below(8) as i64);
            for (i, pixel) in picture.iter_mut().enumerate() {
                let (dx, dy) = ((i % SIDE) as i64 - x, (i / SIDE) as i64 - y);
                let inside =
                    if label == 1 { dx * dx + dy * dy <= r * r } else { dx.abs().max(dy.abs()) <= r };
                if inside {
                    *pixel = label;
                }
            }
        }
    }
    let labels = Tensor::<3, Int>::from_data(TensorData::new(labels, [count, SIDE, SIDE]), device);
    let noise: Tensor<4> = normal([count, 1, SIDE, SIDE], NoiseKey { seed, sample: 0, step: 0 }, device);
    let bright = labels.clone().greater_elem(0).float().reshape([count, 1, SIDE, SIDE]);
    (bright + noise * 0.3, labels)
}

/// Five halvings, and a head on the last three.
#[derive(Module, Debug)]
struct FullyConvolutional {
    levels: Vec<Conv2d>,
    head: Fcn,
}

impl FullyConvolutional {
    fn new(stride: FcnStride, device: &Device) -> Self {
        let channels = [1, 16, 32, 48, 64, 64];
        let level = |pair: &[usize]| {
            Conv2dConfig::new([pair[0], pair[1]], [5, 5])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(2, 2, 2, 2))
                .init(device)
        };
        let head = FcnConfig::new([channels[3], channels[4], channels[5]], LABELS.len()).with_stride(stride);
        Self { levels: channels.windows(2).map(level).collect(), head: head.init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut features = Vec::new();
        let mut x = x;
        for level in &self.levels {
            x = relu(level.forward(x));
            features.push(x.clone());
        }
        let [.., eighth, sixteenth, thirty_second] = features.as_slice() else { unreachable!("five levels") };
        self.head.forward([eighth.clone(), sixteenth.clone(), thirty_second.clone()])
    }
}

fn loss(scores: Tensor<4>, labels: Tensor<3, Int>) -> Tensor<1> {
    let [count, rows, columns] = labels.dims();
    let picked = log_softmax(scores, 1).gather(1, labels.reshape([count, 1, rows, columns]));
    -picked.mean()
}

/// IoU of each label.
fn overlap(scores: Tensor<4>, labels: Tensor<3, Int>) -> Vec<f64> {
    let found: Vec<i64> = scores.argmax(1).into_data().iter::<i64>().collect();
    let labels: Vec<i64> = labels.into_data().iter::<i64>().collect();
    let of = |label: i64| {
        let pairs =
            || found.iter().zip(&labels).map(move |(&found, &truth)| (found == label, truth == label));
        let both = pairs().filter(|&(found, truth)| found && truth).count();
        both as f64 / pairs().filter(|&(found, truth)| found || truth).count().max(1) as f64
    };
    (0..LABELS.len() as i64).map(of).collect()
}

#[allow(clippy::print_stdout, reason = "an example's result")]
fn train<M: Module>(
    mut network: M,
    steps: usize,
    device: &Device,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) {
    let mut adam = NamedOptimizer::new(AdamConfig::new().build());
    for step in 0..steps {
        let (pictures, labels) = shapes(8, step as u64, device);
        let loss = loss(forward(&network, pictures), labels);
        if step % 20 == 0 || step + 1 == steps {
            println!("step {step}: loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        // Along a cosine to a hundredth.
        let part = step as f64 / steps as f64;
        let rate = 2e-3 * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * part).cos()));
        network = adam.step(rate, network, gradients);
    }
    let (pictures, labels) = shapes(64, u64::MAX / 2, device);
    let found = overlap(forward(&network, pictures), labels);
    for (label, iou) in LABELS.iter().zip(&found) {
        println!("IoU of {label}: {iou:.3}");
    }
    println!("mean IoU: {:.3}", found.iter().sum::<f64>() / found.len() as f64);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "unet".to_owned());
    let steps = arguments.next().map_or(Ok(200), |steps| steps.parse())?;
    let device = Device::flex().autodiff();
    let stride = match kind.as_str() {
        "unet" => {
            let network: SegmentationUNet = SegmentationUNetConfig::new(1, LABELS.len()).init(&device);
            train(network, steps, &device, SegmentationUNet::forward);
            return Ok(());
        }
        "fcn32" => FcnStride::ThirtyTwo,
        "fcn16" => FcnStride::Sixteen,
        "fcn8" => FcnStride::Eight,
        other => return Err(format!("{other}: unet, fcn32, fcn16 and fcn8 are there").into()),
    };
    train(FullyConvolutional::new(stride, &device), steps, &device, FullyConvolutional::forward);
    Ok(())
}
