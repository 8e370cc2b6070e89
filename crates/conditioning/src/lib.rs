//! ControlNets for Burn, for Stable Diffusion's U-Nets and for SD3.
//!
//! - [`controlnet`]: diffusers' `ControlNetModel`, for the U-Nets of Stable Diffusion 1, 2 and XL.
//! - [`unet2d`]: the same for U-Nets that are told a class and no prompt.
//! - [`annotators`]: edges and skeletons, the pictures that control networks are shown.
//! - [`sd3`]: diffusers' `SD3ControlNetModel`, for Stable Diffusion 3 and 3.5.

pub mod annotators;
pub mod controlnet;
mod hint;
pub mod sd3;
pub mod unet2d;

pub use controlnet::{Control, ControlMode, ControlNet, ControlNetConfig, multi_control};
pub use kiln_checkpoint::ConfigError;
pub use sd3::{SD3ControlNet, SD3ControlNetConfig};
pub use unet2d::{UNet2DControlNet, UNet2DControlNetConfig};
