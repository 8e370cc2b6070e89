//! Networks that predict noise, score or velocity.
//!
//! A denoiser here knows nothing of diffusion: it maps a noisy sample and a time to a tensor of the sample's shape. What
//! that tensor means (noise, data, velocity), and which noise the sample carries, is said by the crate that drives it.
//!
//! - [`unet2d`]: diffusers' `UNet2DModel`, from its own `config.json`: DDPM's U-Net, class-conditional or not.
//! - [`unet2d_condition`]: diffusers' `UNet2DConditionModel`: Stable Diffusion 1 and 2, SDXL and their kin.
//! - [`sd3`]: diffusers' `SD3Transformer2DModel`: MM-DiT, the transformer of Stable Diffusion 3 and 3.5.
//! - [`guided`]: the U-Net of OpenAI's guided diffusion and consistency models, under its own names.
//! - [`ncsn`]: the score networks of SMLD, NCSN and NCSNv2, under their own names.
//! - [`initialise`]: the same starting weights on every backend, from a seed.
//!
//! Parameters carry the names and layouts that diffusers gives them, so its checkpoints load with no table of renames.

pub mod guided;
pub mod initialise;
pub mod ncsn;
pub mod sd3;
pub mod unet2d;
pub mod unet2d_condition;

pub use guided::{ConsistencyConfig, ConsistencyModel, GuidedUNet, GuidedUNetConfig};
pub use initialise::seeded;
pub use kiln_checkpoint::ConfigError;
pub use ncsn::{Ncsn, NcsnConfig};
pub use sd3::{LatentSizeError, SD3Extras, SD3Transformer2D, SD3Transformer2DConfig};
pub use unet2d::{UNet2D, UNet2DConfig};
pub use unet2d_condition::{UNet2DCondition, UNet2DConditionConfig};
