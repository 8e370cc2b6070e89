//! `AutoencoderKL`, diffusers' and latent diffusion's own (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent
//! Diffusion Models"): pictures to latents of an eighth of their sides, and back.
//!
//! ```text
//! q(z | x) = N(mean(x), exp(log_variance(x)))     encoder: conv_in, down_blocks, mid_block, conv_out, quant_conv
//! x = D(z)                                        decoder: post_quant_conv, conv_in, mid_block, up_blocks, conv_out
//! ```
//!
//! A network comes from a `config.json` and the weights beside it; pictures are in -1..1:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_autoencoder::AutoencoderKLConfig;
//!
//! let config = AutoencoderKLConfig::from_json(
//!     r#"{
//!         "_class_name": "AutoencoderKL", "block_out_channels": [8, 16], "norm_num_groups": 4, "latent_channels": 4,
//!         "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
//!         "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let autoencoder = config.init(&device)?;
//! let picture = Tensor::zeros([1, 3, 16, 24], &device);
//! let latent = autoencoder.encode(picture).mode();
//! assert_eq!(latent.dims(), [1, 4, 8, 12]);
//! let seen_by_the_denoiser = autoencoder.scale(latent.clone());
//! # let _ = seen_by_the_denoiser;
//! assert_eq!(autoencoder.decode(latent).dims(), [1, 3, 16, 24]);
//! # Ok::<(), kiln_autoencoder::ConfigError>(())
//! ```
//!
//! A picture of 1024 x 1024 takes gigabytes on its way. [`Pieces`] says how it is cut: into samples of a batch, or into
//! [tiles](tiling) whose seams are blended.

mod coder;
pub mod config;
mod gaussian;
mod model;
mod stage;
pub mod tiling;

pub use config::AutoencoderKLConfig;
pub use gaussian::DiagonalGaussian;
pub use kiln_checkpoint::ConfigError;
pub use model::AutoencoderKL;
pub use tiling::{Pieces, Tiling, TilingError};
