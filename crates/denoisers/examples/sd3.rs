//! Time MM-DiT: some blocks of Stable Diffusion 3 medium's size, with seeded weights, or a folder as diffusers writes it.
//!
//!     cargo run --release --example sd3 -- [FOLDER] [BLOCKS] [SIDE] [BATCH] [BACKEND]
//!
//! Without a folder (or with `-`): 2 blocks at latents of 64 x 64, for which PyTorch 2.15 takes 1.4 s on two quiet cores.
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_checkpoint::{Contents, Pretrained};
use kiln_denoisers::{SD3Transformer2D, SD3Transformer2DConfig, seeded};

/// Tokens of a prompt: 77 of CLIP, 256 of T5.
const PROMPT_TOKENS: usize = 333;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().filter(|folder| folder != "-").map(PathBuf::from);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (blocks, side, batch) = (number(2)?, number(64)?, number(1)?);
    let device = kiln_backend::open(arguments.next().as_deref())?;

    let (config, model) = match folder {
        Some(folder) => match Contents::open(&folder)? {
            Contents::Model(stored) => (
                SD3Transformer2DConfig::from_json(&stored.config)?,
                stored.load::<SD3Transformer2D>(&device)?,
            ),
            _ => return Err(format!("{} holds no {}", folder.display(), SD3Transformer2D::CLASSES[0]).into()),
        },
        None => {
            let config = SD3Transformer2DConfig {
                num_layers: blocks,
                num_attention_heads: 24,
                caption_projection_dim: 1536,
                pos_embed_max_size: Some(192),
                ..SD3Transformer2DConfig::default()
            };
            let model = seeded(config.init(&device)?, 0);
            (config, model)
        }
    };
    model.check_size([side, side])?;

    let key = |step| NoiseKey { seed: 0, sample: 0, step };
    let noisy = normal([batch, config.in_channels, side, side], key(0), &device);
    let prompt = normal([batch, PROMPT_TOKENS, config.joint_attention_dim], key(1), &device);
    let pooled = normal([batch, config.pooled_projection_dim], key(2), &device);
    let times = Tensor::full([batch], 500.0, (&device, DType::F32));
    println!("{} parameters, {batch} latents of {side} x {side}", model.num_params());
    for run in 0..5 {
        let start = Instant::now();
        let velocity = model.forward(noisy.clone(), times.clone(), prompt.clone(), pooled.clone());
        device.sync()?;
        println!("run {run}: {:?} in {:.2} s", velocity.dims(), start.elapsed().as_secs_f64());
    }
    Ok(())
}
