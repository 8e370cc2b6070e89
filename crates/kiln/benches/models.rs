//! Whole networks at their published sizes, with random weights, under the clock: Kiln's side of `cargo xtask bench models`.
//!
//! `tests/reference/bench_models.py` has the same cases in PyTorch, and both read `tests/reference/bench_models.json`.

#[path = "../../backend/benches/serve/device.rs"]
mod device;
#[path = "../../backend/benches/serve/mod.rs"]
mod serve;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Int, Tensor};
use kiln::autoencoder::AutoencoderKLConfig;
use kiln::backend::noise::{self, NoiseKey};
use kiln::backend::ops::takes_narrow_kernels;
use kiln::denoisers::unet2d_condition::{Conditions, UNet2DConditionConfig};
use kiln::denoisers::{SD3Transformer2DConfig, UNet2DConfig};
use kiln::detection::DetrConfig;
use kiln::optim::{AdamWConfig, NamedOptimizer};
use kiln::text::ClipTextConfig;
use kiln::upsampling::DatConfig;
use serde_json::Value;
use serve::{Operation, case, operation};

/// Pictures in a step of training.
const BATCH: usize = 64;

fn main() {
    kiln::backend::allocator::keep_freed_memory();
    let flop = configs()["flop"].take();
    let network = |name: &str, prepare: fn(&Device) -> Operation| {
        let flop = flop[name].as_f64().unwrap_or_else(|| panic!("bench_models.json counts `{name}`"));
        case(name, flop, 0.0, prepare)
    };
    let cases = [
        case("matmul [1024,1024]", 2.0 * 1024_f64.powi(3), 0.0, matmul),
        network("SD 1.5 U-Net, 64x64 latents", unet),
        network("SD 1.5 VAE decoder, to 512x512", decoder),
        network("CLIP-L text, 77 tokens", clip),
        network("SD3-medium transformer, 2 blocks, 64x64 latents", sd3),
        network("DETR-R50, 800x1066", detr),
        network("DAT-light x2, 256x256", dat),
        network("digit U-Net, training step of 64", training_step),
    ];
    serve::answer_requests(&cases, device::open, device::sync);
}

fn configs() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/bench_models.json");
    let text = std::fs::read_to_string(path).expect("the configs are in the repository");
    serde_json::from_str(&text).expect("they are JSON")
}

/// A network's config, as JSON.
fn config(name: &str) -> String {
    configs()[name].to_string()
}

fn normal<const D: usize>(shape: [usize; D], stream: u64, device: &Device) -> Tensor<D> {
    noise::normal(shape, NoiseKey { seed: 0, sample: 0, step: stream }, device)
        .cast(device.settings().float_dtype)
}

/// What shares of peak refer to.
fn matmul(device: &Device) -> Operation {
    let (a, b) = (normal([1024, 1024], 0, device), normal([1024, 1024], 1, device));
    operation(move || a.clone().matmul(b.clone()))
}

/// A network as it is loaded from a file of 16 bits, which is how Stable Diffusion's come.
fn loaded<M: Module>(network: M, device: &Device) -> M {
    struct Narrow;
    impl ModuleMapper for Narrow {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 4 { param.map(|kernels| kernels.cast(FloatDType::F16)) } else { param }
        }
    }
    let network = if takes_narrow_kernels(device) { network.map(&mut Narrow) } else { network };
    network.no_grad()
}

fn unet(device: &Device) -> Operation {
    let config = UNet2DConditionConfig::from_json(&config("unet")).expect("a config");
    let network = loaded(config.init(device).expect("a network"), device);
    let sample = normal([1, 4, 64, 64], 0, device);
    let conditions = Conditions::prompt(normal([1, 77, 768], 1, device));
    let time = Tensor::from_floats([500.0], device);
    operation(move || network.forward(sample.clone(), time.clone(), &conditions, None))
}

fn decoder(device: &Device) -> Operation {
    let config = AutoencoderKLConfig::from_json(&config("vae")).expect("a config");
    let network = loaded(config.init(device).expect("a network"), device);
    let latent = normal([1, 4, 64, 64], 0, device);
    operation(move || network.decode(latent.clone()))
}

fn clip(device: &Device) -> Operation {
    let config = ClipTextConfig::from_json(&config("clip")).expect("a config");
    let network = config.init(device).expect("a network").no_grad();
    let ids: Tensor<2, Int> = Tensor::<1, Int>::arange(0..77, device).unsqueeze();
    operation(move || network.forward(ids.clone()))
}

fn sd3(device: &Device) -> Operation {
    let config = SD3Transformer2DConfig::from_json(&config("sd3")).expect("a config");
    let network = config.init(device).expect("a network").no_grad();
    let sample = normal([1, 16, 64, 64], 0, device);
    let (prompt, pooled) = (normal([1, 333, 4096], 1, device), normal([1, 2048], 2, device));
    let time = Tensor::from_floats([500.0], device);
    operation(move || network.forward(sample.clone(), time.clone(), prompt.clone(), pooled.clone()))
}

fn detr(device: &Device) -> Operation {
    let network = DetrConfig::default().init(device).expect("a network").no_grad();
    let picture = normal([1, 3, 800, 1066], 0, device);
    operation(move || network.forward(picture.clone(), None))
}

fn dat(device: &Device) -> Operation {
    let network = DatConfig::light(2).init(device).no_grad();
    let picture = normal([1, 3, 256, 256], 0, device);
    operation(move || network.forward(picture.clone()))
}

/// Forward, backward and AdamW.
fn training_step(device: &Device) -> Operation {
    let device = device.clone().autodiff();
    let config = UNet2DConfig::from_json(&config("digits")).expect("a config");
    let mut network = Some(config.init(&device).expect("a network").train());
    let mut optimizer = NamedOptimizer::new(AdamWConfig::new().build());
    let (sample, target) = (normal([BATCH, 1, 28, 28], 0, &device), normal([BATCH, 1, 28, 28], 1, &device));
    let times = Tensor::<1>::ones([BATCH], &device) * 500.0;
    operation(move || {
        if let Some(model) = network.take() {
            let error = model.forward(sample.clone(), times.clone(), None) - target.clone();
            let gradients = error.powi_scalar(2).mean().backward();
            let gradients = GradientsParams::from_grads(gradients, &model);
            network = Some(optimizer.step(1e-4, model, gradients));
        }
    })
}
