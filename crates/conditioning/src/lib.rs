//! ControlNets for Burn, for Stable Diffusion's U-Nets and for SD3.
//!
//! - [`sd3`]: diffusers' `SD3ControlNetModel`, for Stable Diffusion 3 and 3.5.

pub mod sd3;

pub use kiln_checkpoint::ConfigError;
pub use sd3::{SD3ControlNet, SD3ControlNetConfig};
