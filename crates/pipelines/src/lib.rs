//! Prompt in, picture out: pipelines of the crates below, for the checkpoints that people have.
//!
//! ```text
//! prompt --text encoders--> embeddings
//!                               |
//! seed --noise--> latents --denoiser, step by step--> latents --autoencoder--> picture
//!                               ^
//! picture of edges --control networks
//! ```
//!
//! | pipeline | checkpoints | from |
//! |---|---|---|
//! | [`StableDiffusion`] | Stable Diffusion 1 and 2, with any number of control networks | noise, a picture, a picture and a mask |
//! | [`StableDiffusion3`] | Stable Diffusion 3 and 3.5, with or without T5, with control networks | the same |
//! | [`Unconditional`] | DDPM, DDIM, PNDM and score-SDE (VE) pipelines of pictures | noise |
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use burn::tensor::Device;
//! use kiln_pipelines::{Request, StableDiffusion, pictures};
//!
//! # fn main() -> Result<(), kiln_pipelines::PipelineError> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/distilled");
//! # let png = std::env::temp_dir().join("kiln-doctest.png");
//! let pipeline = StableDiffusion::open(folder, &Device::flex())?;
//! let request = Request { steps: 4, seed: 7, ..Request::new("a lighthouse in the rain") };
//! let drawn = pipeline.draw(&request, &mut |progress| {
//!     println!("step {} of {}", progress.step, progress.steps);
//!     ControlFlow::Continue(())
//! })?;
//! for picture in pictures::from_tensor(drawn.pictures)? {
//!     picture.write_png(&png)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A seed gives the picture that diffusers draws of it with a generator on the CPU: noise is PyTorch's, in its order.

mod clip;
mod control;
mod embeddings;
mod error;
mod finite;
mod latents;
mod lora;
mod noise;
mod part;
pub mod pictures;
mod request;
mod run;
mod scheduler;
mod settings;
mod stable_diffusion;
mod stable_diffusion_3;
mod unconditional;

use burn::tensor::Tensor;

pub use control::Control;
pub use embeddings::Embeddings;
pub use error::PipelineError;
pub use kiln_autoencoder::{Pieces, Tiling};
pub use kiln_checkpoint::{Lora, LoraError};
pub use kiln_conditioning::ControlMode;
pub use kiln_diffusion::Guidance;
pub use part::Memory;
pub use request::{Prompts, Request, Start, Wording};
pub use run::{Observer, Progress};
pub use settings::{Inputs, OneOrMany, Settings};
pub use stable_diffusion::{STABLE_DIFFUSION, StableDiffusion};
pub use stable_diffusion_3::{STABLE_DIFFUSION_3, StableDiffusion3};
pub use unconditional::{UNCONDITIONAL, Unconditional};

/// What a pipeline drew.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Pictures in 0..1, `[pictures, channels, height, width]`.
    pub pictures: Tensor<4>,
    /// The latents that they were decoded from, as the denoiser sees them; the pictures' own numbers, where there are no latents.
    pub latents: Tensor<4>,
    /// The prompts as the denoiser was told them.
    pub embeddings: Option<Embeddings>,
}
