//! Diffusion, detection and attention models for Rust, on the Burn framework: the crates of Kiln under one roof, and
//! what the program `kiln` is made of.
//!
//! | module | crate |
//! |---|---|
//! | [`backend`] | devices by name, fused operations, reproducible noise |
//! | [`picture`] | pictures in and out |
//! | [`checkpoint`] | model files |
//! | [`optim`] | optimizers, moving averages, clipping |
//! | [`diffusion`] | processes, predictions, denoisers, solvers |
//! | [`attention`], [`upsampling`], [`blocks`] | layers that networks are made of |
//! | [`denoisers`] | networks that predict noise, score or velocity |
//! | [`autoencoder`] | pictures to latents and back |
//! | [`autoregressive`] | p(x) as a product of conditionals: FVSBN, NADE, MADE, PixelCNN and others |
//! | [`text`] | text encoders and their tokenizers |
//! | [`conditioning`] | control networks |
//! | [`pipelines`] | prompt in, picture out: Stable Diffusion with control networks |
//! | [`detection`] | objects and segments in pictures: DETR, its training, its scores |
//! | [`training`] | the training loop and its data sets |
//!
//! [`PictureModel`] joins them: a network with the process it was trained for, in one file.
//!
//! ```
//! use kiln::{DrawOptions, PictureModel};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = kiln::backend::open(None)?;
//! let model = PictureModel::digits(&device)?; // the small model that is in the program
//! let options = DrawOptions { steps: Some(2), ..DrawOptions::default() };
//! let sevens = model.draw(&[Some(7); 2], &options, |_progress| Ok(()))?;
//! assert_eq!((sevens.len(), sevens[0].width()), (2, 28));
//! # Ok(())
//! # }
//! ```

pub use kiln_attention as attention;
pub use kiln_autoencoder as autoencoder;
pub use kiln_autoregressive as autoregressive;
pub use kiln_backend as backend;
pub use kiln_blocks as blocks;
pub use kiln_checkpoint as checkpoint;
pub use kiln_conditioning as conditioning;
pub use kiln_denoisers as denoisers;
pub use kiln_detection as detection;
pub use kiln_diffusion as diffusion;
pub use kiln_optim as optim;
pub use kiln_picture as picture;
pub use kiln_pipelines as pipelines;
pub use kiln_text as text;
pub use kiln_training as training;
pub use kiln_upsampling as upsampling;

mod card;
mod control;
mod direct;
mod draw;
mod error;
mod held_out;
mod model;
mod network;

pub use card::{ModelCard, SamplingDefaults};
pub use control::{ControlCard, Controlled, PictureControl};
pub use direct::{DirectModel, DirectOptions, Label, LabelKind};
pub use draw::{DrawOptions, Progress};
pub use error::ModelError;
pub use model::PictureModel;
pub use network::{Drawing, MmDit, MmDitConfig, NetworkConfig, PictureNetwork};
