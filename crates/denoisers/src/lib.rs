//! Networks that predict noise, score or velocity.
//!
//! A denoiser here knows nothing of diffusion: it maps a noisy sample and a time to a tensor of the sample's shape. What
//! that tensor means (noise, data, velocity), and which noise the sample carries, is said by the crate that drives it.
//!
//! - [`unet2d`]: diffusers' `UNet2DModel`, from its own `config.json`: DDPM's U-Net, class-conditional or not.
//! - [`initialise`]: the same starting weights on every backend, from a seed.
//!
//! Parameters carry the names and layouts that diffusers gives them, so its checkpoints load with no table of renames.

pub mod initialise;
pub mod unet2d;

pub use initialise::seeded;
pub use kiln_checkpoint::ConfigError;
pub use unet2d::{UNet2D, UNet2DConfig};
