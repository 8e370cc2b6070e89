//! The fused operations under the clock: Kiln's side of `cargo xtask bench ops`.
//!
//! `cargo bench -p kiln-backend --bench ops` prints one line of JSON a case. `tests/reference/bench_ops.py` has the same
//! cases in PyTorch, under the same names.

#[path = "serve/device.rs"]
mod device;
mod serve;

use burn::nn::{LayerNormConfig, LinearConfig};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kiln_backend::noise::{self, NoiseKey};
use kiln_backend::ops::{
    self, Activation, AdamWHyper, AttentionOptions, FeatureFunction, Interpolation, InterpolationMode,
};
use rayon::prelude::*;
use serve::{Operation, case, operation};

type Case = serve::Case<Device>;

/// A batch of feature maps in the middle of Stable Diffusion's U-Net.
const FEATURES: [usize; 4] = [1, 320, 64, 64];
/// The same as tokens.
const TOKENS: [usize; 3] = [1, 4096, 320];
const MATMUL: usize = 1024;
const ADAMW_TENSORS: usize = 100;
const ADAMW_EDGE: usize = 500;

fn main() {
    #[cfg(feature = "mimalloc")]
    kiln_backend::allocator::keep_freed_memory();
    serve::answer_requests(&cases(), device::open, device::sync);
}

fn cases() -> Vec<Case> {
    let values = FEATURES.iter().product::<usize>() as f64;
    let once = 2.0 * 4.0 * values;
    // Two products of n x n x d a head.
    let attention = |n: f64, heads: f64, d: f64| 4.0 * n * n * d * heads;
    let projection = 2.0 * 4096.0 * 320.0 * 1280.0;
    // Each of 64 x 64 pixels of 128 channels meets every tap of 64 filters.
    let transposed = |kernel: f64| 2.0 * 128.0 * 64.0 * 64.0 * 64.0 * kernel * kernel;
    // Parameter and moments read and written, the gradient read.
    let adamw = 28.0 * (ADAMW_TENSORS * ADAMW_EDGE * ADAMW_EDGE) as f64;
    vec![
        case("matmul [1024,1024]", 2.0 * (MATMUL as f64).powi(3), 0.0, matmul),
        convolution("conv2d 3x3 320 channels 64x64", [320, 320], 3, 64),
        convolution("conv2d 3x3 640 channels 32x32", [640, 640], 3, 32),
        convolution("conv2d 3x3 1280 channels 16x16", [1280, 1280], 3, 16),
        convolution("conv2d 3x3 1280 channels 8x8", [1280, 1280], 3, 8),
        convolution("conv2d 3x3 512 channels 64x64", [512, 512], 3, 64),
        convolution("conv2d 3x3 128 channels 256x256", [128, 128], 3, 256),
        convolution("conv2d 1x1 512 channels 64x64", [512, 512], 1, 64),
        case(
            "conv2d 7x7 s2 3-64 channels 800x1066",
            2.0 * 3.0 * 64.0 * 49.0 * 400.0 * 533.0,
            0.0,
            |device| conv2d([3, 64], 7, [800, 1066], ConvOptions::new([2, 2], [3, 3], [1, 1], 1), device),
        ),
        trained_convolution("conv2d 3x3 32 channels 28x28 batch 16, forward and backward", [16, 32, 28]),
        trained_convolution("conv2d 3x3 320 channels 64x64, forward and backward", [1, 320, 64]),
        case("linear 4096x320x1280", projection, 0.0, linear),
        case("linear 4096x320x1280, GEGLU", 2.0 * projection, 0.0, geglu),
        case("group_norm_silu [1,320,64,64]", 0.0, once, group_norm_silu),
        case("group_norm_silu [1,320,64,64], forward and backward", 0.0, 2.5 * once, trained_group_norm),
        case("layer_norm [1,4096,320]", 0.0, once, |device| {
            let norm = LayerNormConfig::new(320).init(device);
            let x = normal(TOKENS, 0, device);
            operation(move || norm.forward(x.clone()))
        }),
        case("rms_norm [1,4096,320]", 0.0, once, |device| {
            let (x, weight) = (normal(TOKENS, 0, device), Tensor::ones([TOKENS[2]], device));
            operation(move || ops::rms_norm(x.clone(), weight.clone(), 1e-5))
        }),
        case("silu [1,320,64,64]", 0.0, once, |device| activation(Activation::Silu, device)),
        case("gelu [1,320,64,64]", 0.0, once, |device| activation(Activation::Gelu, device)),
        case("attention n4096 h8 d40", attention(4096.0, 8.0, 40.0), 0.0, |device| {
            self::attention([1, 8, 4096, 40], 4096, device)
        }),
        case("attention n4096 to 77 h8 d40", attention(4096.0, 8.0, 40.0) * 77.0 / 4096.0, 0.0, |device| {
            self::attention([1, 8, 4096, 40], 77, device)
        }),
        case("attention n1024 h24 d64", attention(1024.0, 24.0, 64.0), 0.0, |device| {
            self::attention([1, 24, 1024, 64], 1024, device)
        }),
        // Two products forward, five backward.
        case(
            "attention n1024 h24 d64, forward and backward",
            3.5 * attention(1024.0, 24.0, 64.0),
            0.0,
            trained_attention,
        ),
        case("linear attention n16384 h8 d64", 4.0 * 16_384.0 * 64.0 * 64.0 * 8.0, 0.0, linear_attention),
        case("interpolate nearest x2 [1,320,64,64]", 0.0, 2.5 * once, |device| {
            interpolate(InterpolationMode::Nearest, device)
        }),
        case("interpolate bilinear x2 [1,320,64,64]", 0.0, 2.5 * once, |device| {
            interpolate(InterpolationMode::Bilinear, device)
        }),
        case("interpolate bicubic x2 [1,320,64,64]", 0.0, 2.5 * once, |device| {
            interpolate(InterpolationMode::Bicubic, device)
        }),
        case("pixel_shuffle x2 [1,320,64,64]", 0.0, once, |device| {
            let x = normal(FEATURES, 0, device);
            operation(move || ops::pixel_shuffle(x.clone(), 2))
        }),
        case("pixel_unshuffle x2 [1,320,64,64]", 0.0, once, |device| {
            let x = normal(FEATURES, 0, device);
            operation(move || ops::pixel_unshuffle(x.clone(), 2))
        }),
        // Values and indices of eight bytes read, four times as many values written.
        case("max_unpool2d x2 [1,320,64,64]", 0.0, 3.5 * once, max_unpool),
        case("conv_transpose2d 4x4 s2 p1 128-64 channels 64x64", transposed(4.0), 0.0, |device| {
            let options = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1);
            conv_transpose2d([128, 64], 4, options, device)
        }),
        case("conv_transpose2d 3x3 s2 p1 op1 128-64 channels 64x64", transposed(3.0), 0.0, |device| {
            let options = ConvTransposeOptions::new([2, 2], [1, 1], [1, 1], [1, 1], 1);
            conv_transpose2d([128, 64], 3, options, device)
        }),
        case("conv_transpose2d bilinear x2 depthwise [1,320,64,64]", 0.0, 2.5 * once, |device| {
            let options = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], FEATURES[1]);
            conv_transpose2d([FEATURES[1], 1], 4, options, device)
        }),
        case("copy 25M", 0.0, 8.0 * (ADAMW_TENSORS * ADAMW_EDGE * ADAMW_EDGE) as f64, copy),
        case("adamw_step 25M in 100 (torch: fused)", 0.0, adamw, adamw_step),
        case("adamw_step 25M in 100 (torch: foreach)", 0.0, adamw, adamw_step),
    ]
}

/// A convolution that keeps a square picture's size: each pixel meets channels x channels kernels.
fn convolution(name: &str, channels: [usize; 2], kernel: usize, edge: usize) -> Case {
    let flop = 2 * channels[0] * channels[1] * (kernel * edge).pow(2);
    let options = ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], 1);
    case(name, flop as f64, 0.0, move |device| conv2d(channels, kernel, [edge; 2], options.clone(), device))
}

/// A convolution and its gradients: three times the products.
fn trained_convolution(name: &str, [batch, channels, edge]: [usize; 3]) -> Case {
    let flop = 3 * 18 * batch * (channels * edge).pow(2);
    case(name, flop as f64, 0.0, move |device: &Device| {
        let device = device.clone().autodiff();
        let x = normal([batch, channels, edge, edge], 0, &device).require_grad();
        let weight = normal([channels, channels, 3, 3], 1, &device).require_grad();
        let bias = normal([channels], 2, &device).require_grad();
        operation(move || {
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let y = ops::conv2d(x.clone(), weight.clone(), Some(bias.clone()), options);
            let gradients = y.sum().backward();
            (x.grad(&gradients), weight.grad(&gradients), bias.grad(&gradients))
        })
    })
}

fn normal<const D: usize>(shape: [usize; D], stream: u64, device: &Device) -> Tensor<D> {
    noise::normal(shape, NoiseKey { seed: 0, sample: 0, step: stream }, device)
        .cast(device.settings().float_dtype)
}

fn matmul(device: &Device) -> Operation {
    let (a, b) = (normal([MATMUL, MATMUL], 0, device), normal([MATMUL, MATMUL], 1, device));
    operation(move || a.clone().matmul(b.clone()))
}

fn conv2d(
    [from, to]: [usize; 2],
    kernel: usize,
    [height, width]: [usize; 2],
    options: ConvOptions<2>,
    device: &Device,
) -> Operation {
    let x = normal([1, from, height, width], 0, device);
    let (weight, bias) = (normal([to, from, kernel, kernel], 1, device), normal([to], 2, device));
    operation(move || ops::conv2d(x.clone(), weight.clone(), Some(bias.clone()), options.clone()))
}

fn group_norm_silu(device: &Device) -> Operation {
    let x = normal(FEATURES, 0, device);
    let (weight, bias) = (normal([FEATURES[1]], 1, device), normal([FEATURES[1]], 2, device));
    operation(move || {
        ops::group_norm_act(x.clone(), weight.clone(), bias.clone(), 32, 1e-5, Activation::Silu)
    })
}

fn trained_group_norm(device: &Device) -> Operation {
    let device = device.clone().autodiff();
    let x = normal(FEATURES, 0, &device).require_grad();
    let [weight, bias] = [1, 2].map(|stream| normal([FEATURES[1]], stream, &device).require_grad());
    operation(move || {
        let y = ops::group_norm_act(x.clone(), weight.clone(), bias.clone(), 32, 1e-5, Activation::Silu);
        let gradients = y.sum().backward();
        (x.grad(&gradients), weight.grad(&gradients), bias.grad(&gradients))
    })
}

fn linear(device: &Device) -> Operation {
    let layer = LinearConfig::new(TOKENS[2], 1280).init(device);
    let x = normal(TOKENS, 0, device);
    operation(move || layer.forward(x.clone()))
}

/// What a transformer's feed-forward sets out with: twice the width, half of which opens the other half.
fn geglu(device: &Device) -> Operation {
    let layer = LinearConfig::new(TOKENS[2], 2 * 1280).init(device);
    let x = normal(TOKENS, 0, device);
    operation(move || {
        let [values, gate] = layer.forward(x.clone()).split(1280, 2).try_into().expect("two halves");
        values * ops::activation(gate, Activation::Gelu)
    })
}

fn activation(act: Activation, device: &Device) -> Operation {
    let x = normal(FEATURES, 0, device);
    operation(move || ops::activation(x.clone(), act))
}

/// To as many keys.
fn attention(shape: [usize; 4], keys: usize, device: &Device) -> Operation {
    let [batch, heads, _, width] = shape;
    let q = normal(shape, 0, device);
    let [k, v] = [1, 2].map(|stream| normal([batch, heads, keys, width], stream, device));
    operation(move || {
        let options = AttentionOptions::default();
        ops::scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), options)
    })
}

fn trained_attention(device: &Device) -> Operation {
    let device = device.clone().autodiff();
    let [q, k, v] = [0, 1, 2].map(|stream| normal([1, 24, 1024, 64], stream, &device).require_grad());
    operation(move || {
        let options = AttentionOptions::default();
        let y = ops::scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), options);
        let gradients = y.sum().backward();
        [&q, &k, &v].map(|leaf| leaf.grad(&gradients))
    })
}

fn linear_attention(device: &Device) -> Operation {
    let [q, k, v] = [0, 1, 2].map(|stream| normal([1, 8, 16_384, 64], stream, device));
    operation(move || {
        let function = FeatureFunction::EluPlusOne;
        ops::linear_attention(q.clone(), k.clone(), v.clone(), function, 1e-12)
    })
}

fn interpolate(mode: InterpolationMode, device: &Device) -> Operation {
    let x = normal(FEATURES, 0, device);
    let size = [2 * FEATURES[2], 2 * FEATURES[3]];
    operation(move || ops::interpolate(x.clone(), size, Interpolation::from(mode)))
}

/// Back to the places where pooling of 2 x 2 pixels found them.
fn max_unpool(device: &Device) -> Operation {
    let [batch, channels, height, width] = FEATURES;
    let inputs = height * width;
    let x = normal([batch, channels, inputs], 0, device);
    // One of the four pixels of each window, in turn.
    let place = |i: usize| {
        let (y, x) = (i % inputs / width, i % width);
        (2 * y + i / 2 % 2) * 2 * width + 2 * x + i % 2
    };
    let places: Vec<i64> = (0..batch * channels * inputs).map(|i| place(i) as i64).collect();
    let places = TensorData::new(places, [batch, channels, inputs]);
    let places = Tensor::<3, Int>::from_data(places, (device, DType::I64));
    operation(move || ops::max_unpool(x.clone(), places.clone(), 4 * inputs))
}

fn conv_transpose2d(
    [from, to]: [usize; 2],
    kernel: usize,
    options: ConvTransposeOptions<2>,
    device: &Device,
) -> Operation {
    let [_, _, height, width] = FEATURES;
    let x = normal([1, from, height, width], 0, device);
    let (weight, bias) =
        (normal([from, to, kernel, kernel], 1, device), normal([to * options.groups], 2, device));
    let bias = (options.groups == 1).then_some(bias);
    operation(move || ops::conv_transpose2d(x.clone(), weight.clone(), bias.clone(), options.clone()))
}

/// Host memory, whatever the device: what the bytes of other cases are to be compared with.
fn copy(_: &Device) -> Operation {
    let from = vec![1.0_f32; ADAMW_TENSORS * ADAMW_EDGE * ADAMW_EDGE];
    let mut to = vec![0.0_f32; from.len()];
    operation(move || {
        let pieces = to.par_chunks_mut(1 << 18).zip(from.par_chunks(1 << 18));
        pieces.for_each(|(to, from)| to.copy_from_slice(from));
    })
}

fn adamw_step(device: &Device) -> Operation {
    let shape = [ADAMW_EDGE, ADAMW_EDGE];
    // The gradient is read, never written: one for all would stay in the cache, so each tensor has its own.
    let gradients: Vec<_> = (0..ADAMW_TENSORS).map(|i| normal(shape, i as u64, device)).collect();
    let zeros = || Tensor::<2>::zeros(shape, device);
    let mut states: Vec<_> = gradients.iter().map(|_| Some((zeros(), zeros(), zeros()))).collect();
    let mut step = 0;
    operation(move || {
        step += 1;
        let hyper = AdamWHyper { step, ..AdamWHyper::default() };
        for (state, gradient) in states.iter_mut().zip(&gradients) {
            // Taken out, so that the step finds tensors that nobody else holds and works in place.
            if let Some((param, m, v)) = state.take() {
                *state = Some(ops::adamw_step(param, gradient.clone(), m, v, hyper));
            }
        }
    })
}
