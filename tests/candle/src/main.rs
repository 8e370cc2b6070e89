//! candle's side of `cargo xtask bench ops --candle` and `models --candle`: those of Kiln's cases that candle has an operation or a network for,
//! under the same names.
//!
//! Attention is composed as candle's networks compose it; the networks are candle-transformers'.

#[path = "../../../crates/backend/benches/serve/mod.rs"]
mod serve;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, GroupNorm, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, ops};
use candle_transformers::models::stable_diffusion::clip::{ClipTextTransformer, Config as ClipConfig};
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use serve::{Operation, case, operation};

type Case = serve::Case<Device>;

const FEATURES: [usize; 4] = [1, 320, 64, 64];
const TOKENS: [usize; 3] = [1, 4096, 320];

fn main() {
    // The CPU in f32, whatever Kiln computes on.
    let open = |_: &str, _: &str| Ok::<_, candle_core::Error>((Device::Cpu, "CPU".to_owned()));
    serve::answer_requests(&cases(), open, |_| Ok(()));
}

/// A case that says what failed, if something does. The work is stated by Kiln's side.
fn of(name: &str, prepare: impl Fn(&Device) -> Result<Operation> + 'static) -> Case {
    let told = name.to_owned();
    case(name, 0.0, 0.0, move |device| {
        prepare(device).unwrap_or_else(|error| panic!("candle can't make `{told}`: {error}"))
    })
}

/// What is repeated under the clock.
fn repeated<T: 'static>(mut step: impl FnMut() -> Result<T> + 'static) -> Result<Operation> {
    Ok(operation(move || step().expect("it ran once")))
}

fn normal(shape: &[usize], device: &Device) -> Result<Tensor> {
    Tensor::randn(0_f32, 1.0, shape, device)
}

fn cases() -> Vec<Case> {
    vec![
        of("matmul [1024,1024]", |device| {
            let (a, b) = (normal(&[1024, 1024], device)?, normal(&[1024, 1024], device)?);
            repeated(move || a.matmul(&b))
        }),
        convolution("conv2d 3x3 320 channels 64x64", 320, 3, 64),
        convolution("conv2d 3x3 640 channels 32x32", 640, 3, 32),
        convolution("conv2d 3x3 1280 channels 16x16", 1280, 3, 16),
        convolution("conv2d 3x3 1280 channels 8x8", 1280, 3, 8),
        convolution("conv2d 3x3 512 channels 64x64", 512, 3, 64),
        convolution("conv2d 3x3 128 channels 256x256", 128, 3, 256),
        convolution("conv2d 1x1 512 channels 64x64", 512, 1, 64),
        of("conv2d 7x7 s2 3-64 channels 800x1066", |device| {
            let (x, kernel) = (normal(&[1, 3, 800, 1066], device)?, normal(&[64, 3, 7, 7], device)?);
            repeated(move || x.conv2d(&kernel, 3, 2, 1, 1))
        }),
        trained_convolution("conv2d 3x3 32 channels 28x28 batch 16, forward and backward", 16, 32, 28),
        trained_convolution("conv2d 3x3 320 channels 64x64, forward and backward", 1, 320, 64),
        of("linear 4096x320x1280", |device| {
            let layer = linear(1280, device)?;
            let x = normal(&TOKENS, device)?;
            repeated(move || layer.forward(&x))
        }),
        of("linear 4096x320x1280, GEGLU", |device| {
            let layer = linear(2 * 1280, device)?;
            let x = normal(&TOKENS, device)?;
            repeated(move || {
                let halves = layer.forward(&x)?.chunk(2, 2)?;
                &halves[0] * halves[1].gelu_erf()?
            })
        }),
        of("group_norm_silu [1,320,64,64]", |device| {
            let (weight, bias) = (normal(&[320], device)?, normal(&[320], device)?);
            let norm = GroupNorm::new(weight, bias, 320, 32, 1e-5)?;
            let x = normal(&FEATURES, device)?;
            repeated(move || norm.forward(&x)?.silu())
        }),
        of("layer_norm [1,4096,320]", |device| {
            let (weight, bias) = (normal(&[320], device)?, normal(&[320], device)?);
            let x = normal(&TOKENS, device)?;
            repeated(move || ops::layer_norm(&x, &weight, &bias, 1e-5))
        }),
        of("rms_norm [1,4096,320]", |device| {
            let (x, weight) = (normal(&TOKENS, device)?, normal(&[320], device)?);
            repeated(move || ops::rms_norm(&x, &weight, 1e-5))
        }),
        elementwise("silu [1,320,64,64]", Tensor::silu),
        elementwise("gelu [1,320,64,64]", Tensor::gelu_erf),
        attention("attention n4096 h8 d40", [8, 4096, 40], 4096),
        attention("attention n4096 to 77 h8 d40", [8, 4096, 40], 77),
        attention("attention n1024 h24 d64", [24, 1024, 64], 1024),
        elementwise("interpolate nearest x2 [1,320,64,64]", |x| x.upsample_nearest2d(128, 128)),
        elementwise("interpolate bilinear x2 [1,320,64,64]", |x| x.upsample_bilinear2d(128, 128, false)),
        elementwise("pixel_shuffle x2 [1,320,64,64]", |x| ops::pixel_shuffle(x, 2)),
        elementwise("pixel_unshuffle x2 [1,320,64,64]", |x| ops::pixel_unshuffle(x, 2)),
        transposed("conv_transpose2d 4x4 s2 p1 128-64 channels 64x64", 4, 0),
        transposed("conv_transpose2d 3x3 s2 p1 op1 128-64 channels 64x64", 3, 1),
        of("adamw_step 25M in 100 (torch: fused)", adamw),
        of("SD 1.5 U-Net, 64x64 latents", unet),
        of("SD 1.5 VAE decoder, to 512x512", decoder),
        of("CLIP-L text, 77 tokens", clip),
    ]
}

fn convolution(name: &str, channels: usize, kernel: usize, edge: usize) -> Case {
    of(name, move |device| {
        let x = normal(&[1, channels, edge, edge], device)?;
        let weight = normal(&[channels, channels, kernel, kernel], device)?;
        let bias = normal(&[1, channels, 1, 1], device)?;
        repeated(move || x.conv2d(&weight, kernel / 2, 1, 1, 1)?.broadcast_add(&bias))
    })
}

fn trained_convolution(name: &str, batch: usize, channels: usize, edge: usize) -> Case {
    of(name, move |device| {
        let variable = |shape: &[usize]| Var::from_tensor(&normal(shape, device)?);
        let x = variable(&[batch, channels, edge, edge])?;
        let (weight, bias) = (variable(&[channels, channels, 3, 3])?, variable(&[1, channels, 1, 1])?);
        repeated(move || x.conv2d(&weight, 1, 1, 1, 1)?.broadcast_add(&bias)?.sum_all()?.backward())
    })
}

fn linear(outputs: usize, device: &Device) -> Result<candle_nn::Linear> {
    let (weight, bias) = (normal(&[outputs, TOKENS[2]], device)?, normal(&[outputs], device)?);
    Ok(candle_nn::Linear::new(weight, Some(bias)))
}

fn elementwise(name: &str, function: fn(&Tensor) -> Result<Tensor>) -> Case {
    of(name, move |device| {
        let x = normal(&FEATURES, device)?;
        repeated(move || function(&x))
    })
}

fn attention(name: &str, [heads, queries, width]: [usize; 3], keys: usize) -> Case {
    of(name, move |device| {
        let q = normal(&[1, heads, queries, width], device)?;
        let (k, v) = (normal(&[1, heads, keys, width], device)?, normal(&[1, heads, keys, width], device)?);
        let scale = (width as f64).powf(-0.5);
        repeated(move || ops::softmax_last_dim(&(q.matmul(&k.t()?)? * scale)?)?.matmul(&v))
    })
}

fn transposed(name: &str, kernel: usize, output_padding: usize) -> Case {
    of(name, move |device| {
        let (x, weight) = (normal(&[1, 128, 64, 64], device)?, normal(&[128, 64, kernel, kernel], device)?);
        let bias = normal(&[1, 64, 1, 1], device)?;
        repeated(move || x.conv_transpose2d(&weight, 1, output_padding, 2, 1)?.broadcast_add(&bias))
    })
}

fn adamw(device: &Device) -> Result<Operation> {
    let parameters: Vec<Var> =
        (0..100).map(|_| Var::zeros((500, 500), DType::F32, device)).collect::<Result<_>>()?;
    // The gradients of a sum are there before the clock starts.
    let total = parameters.iter().try_fold(Tensor::zeros((), DType::F32, device)?, |total, parameter| {
        total + parameter.sum_all()?
    })?;
    let gradients = total.backward()?;
    let mut optimizer = AdamW::new(parameters, ParamsAdamW::default())?;
    repeated(move || optimizer.step(&gradients))
}

fn unet(device: &Device) -> Result<Operation> {
    let block =
        |out_channels, use_cross_attn| BlockConfig { out_channels, use_cross_attn, attention_head_dim: 8 };
    let config = UNet2DConditionModelConfig {
        blocks: vec![block(320, Some(1)), block(640, Some(1)), block(1280, Some(1)), block(1280, None)],
        cross_attention_dim: 768,
        ..UNet2DConditionModelConfig::default()
    };
    let weights = VarMap::new();
    let network = UNet2DConditionModel::new(
        VarBuilder::from_varmap(&weights, DType::F32, device),
        4,
        4,
        false,
        config,
    )?;
    let (sample, prompt) = (normal(&[1, 4, 64, 64], device)?, normal(&[1, 77, 768], device)?);
    repeated(move || network.forward(&sample, 500.0, &prompt))
}

fn decoder(device: &Device) -> Result<Operation> {
    let config = AutoEncoderKLConfig {
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        ..AutoEncoderKLConfig::default()
    };
    let weights = VarMap::new();
    let network = AutoEncoderKL::new(VarBuilder::from_varmap(&weights, DType::F32, device), 3, 3, config)?;
    let latent = normal(&[1, 4, 64, 64], device)?;
    repeated(move || network.decode(&latent))
}

fn clip(device: &Device) -> Result<Operation> {
    let weights = VarMap::new();
    let network =
        ClipTextTransformer::new(VarBuilder::from_varmap(&weights, DType::F32, device), &ClipConfig::v1_5())?;
    let ids = Tensor::arange(0_u32, 77, device)?.unsqueeze(0)?;
    repeated(move || network.forward(&ids))
}
