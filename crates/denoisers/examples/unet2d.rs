//! Load a UNet2DModel's folder as diffusers writes it, and time one prediction.
//!
//!     cargo run --release --example unet2d -- FOLDER [BATCH] [BACKEND]
//!
//! Without a folder (or with `-`): a small class-conditional network for 28 x 28 digits, with seeded weights.
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Int, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_checkpoint::Checkpoint;
use kiln_denoisers::unet2d::SampleSize;
use kiln_denoisers::{UNet2DConfig, seeded};

const DIGITS: &str = r#"{
    "sample_size": 28, "in_channels": 1, "out_channels": 1, "num_class_embeds": 11,
    "block_out_channels": [24, 48, 64], "norm_num_groups": 8, "layers_per_block": 1, "attention_head_dim": 32,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().filter(|folder| folder != "-").map(PathBuf::from);
    let batch: usize = arguments.next().map_or(Ok(16), |batch| batch.parse())?;
    let device = kiln_backend::open(arguments.next().as_deref())?;

    let (config, model) = match folder {
        Some(folder) => {
            let config = UNet2DConfig::from_json(&std::fs::read_to_string(folder.join("config.json"))?)?;
            let weights = Checkpoint::open(folder.join("diffusion_pytorch_model.safetensors"))?;
            let loaded = weights.load_into(config.init(&device)?)?;
            for name in &loaded.surplus {
                println!("not used: {name}");
            }
            (config, loaded.module)
        }
        None => {
            let config = UNet2DConfig::from_json(DIGITS)?;
            let model = seeded(config.init(&device)?, 0);
            (config, model)
        }
    };

    let [height, width] = config.sample_size.unwrap_or(SampleSize::Square(32)).sides();
    let noisy =
        normal([batch, config.in_channels, height, width], NoiseKey { seed: 0, sample: 0, step: 0 }, &device);
    let times = Tensor::full([batch], 500.0, (&device, DType::F32));
    let classes = || config.num_class_embeds.map(|_| Tensor::<1, Int>::zeros([batch], &device));
    println!("{} parameters, {batch} samples of {height} x {width}", model.num_params());
    for run in 0..5 {
        let start = Instant::now();
        let predicted = model.forward(noisy.clone(), times.clone(), classes());
        device.sync()?;
        println!("run {run}: {:?} in {:.1} ms", predicted.dims(), start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}
