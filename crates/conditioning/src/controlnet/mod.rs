//! diffusers' `ControlNetModel`: a copy of a U-Net's way down that looks at a picture, and tells the U-Net of it.
//!
//! ```text
//! skips, x  = way down(conv_in(sample) + embed(picture), t, prompt)
//! residuals = scale * zero_convolution(skips), scale * zero_convolution(x)
//! y         = U-Net(sample, t, prompt, skips + residuals)
//! ```
//!
//! Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models". A zero convolution starts as zeros, so
//! that the training of a control network starts from the U-Net as it is.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_conditioning::{Control, ControlNetConfig};
//! use kiln_denoisers::unet2d_condition::Conditions;
//!
//! let config = ControlNetConfig::from_json(
//!     r#"{
//!         "_class_name": "ControlNetModel", "block_out_channels": [8, 16], "norm_num_groups": 4,
//!         "layers_per_block": 1, "cross_attention_dim": 12, "attention_head_dim": 2,
//!         "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
//!         "conditioning_embedding_out_channels": [4, 8]
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let network = config.init(&device)?;
//! let noisy = Tensor::zeros([1, 4, 8, 8], &device);
//! let times = Tensor::from_data([999.0], &device);
//! let prompt = Conditions::prompt(Tensor::zeros([1, 5, 12], &device));
//! let edges = Control { scale: 0.8, ..Control::new(Tensor::ones([1, 3, 16, 16], &device)) };
//! let residuals = network.forward(noisy, times, &prompt, edges);
//! assert_eq!(residuals.down.len(), 4);
//! assert_eq!(residuals.mid.dims(), [1, 16, 4, 4]);
//! # Ok::<(), kiln_conditioning::ConfigError>(())
//! ```

mod config;
mod model;

pub use config::{ChannelOrder, ControlNetConfig};
pub(crate) use model::strengths;
pub use model::{Control, ControlMode, ControlNet, multi_control};
