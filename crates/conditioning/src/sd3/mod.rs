//! diffusers' `SD3ControlNetModel`: a copy of MM-DiT's first blocks that looks at a picture of edges, depths or poses, and
//! says what to add to the sample after each block of the network that it controls (Zhang, Rao, Agrawala 2023, "Adding
//! Conditional Control to Text-to-Image Diffusion Models", in the form of Stable Diffusion 3).
//!
//! ```text
//! x   = tokens(latent) + Z tokens(condition)
//! x  <- block_i(x, prompt, time)
//! r_i = scale Z_i x                              Z, Z_i: linear layers that start at zero
//! ```
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_conditioning::{SD3ControlNetConfig, sd3::ControlledSample};
//!
//! let config = SD3ControlNetConfig::from_json(
//!     r#"{
//!         "_class_name": "SD3ControlNetModel", "sample_size": 8, "in_channels": 4, "num_layers": 3,
//!         "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16,
//!         "joint_attention_dim": 12, "pooled_projection_dim": 10, "pos_embed_max_size": 6
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let model = config.init(&device)?;
//! let noisy = ControlledSample::Latent(Tensor::zeros([1, 4, 8, 8], &device));
//! let condition = Tensor::ones([1, 4, 8, 8], &device);
//! let times = Tensor::from_data([999.0], &device);
//! let prompt = Tensor::zeros([1, 7, 12], &device);
//! let residuals = model.forward(noisy, condition, times, Some(prompt), Tensor::zeros([1, 10], &device), 1.0);
//! assert_eq!(residuals.len(), 3);
//! assert_eq!(residuals[0].dims(), [1, 16, 16]);
//! # Ok::<(), kiln_conditioning::ConfigError>(())
//! ```

mod config;
mod model;

pub use config::{SD3ControlNetConfig, TokenPositions};
pub use model::{ControlledSample, SD3ControlNet, sum_residuals};
