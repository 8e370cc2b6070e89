//! diffusers' `UNet2DConditionModel`: a U-Net that is told a prompt. Stable Diffusion 1 and 2, SDXL and their kin.
//!
//! ```text
//! x --conv_in--> down_blocks ----> mid_block ----> up_blocks --norm, act, conv_out--> y
//!                     \______ skip connections ______/  + residuals of control networks
//! time, class, additions ------> one vector ------> every residual block
//! prompt ----------------------> a sequence ------> every transformer
//! ```
//!
//! Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models"; Podell et al. 2023, "SDXL".
//!
//! The way down with its middle is an [`Encoder`], which control networks have too.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_denoisers::unet2d_condition::{Conditions, UNet2DConditionConfig};
//!
//! let config = UNet2DConditionConfig::from_json(
//!     r#"{
//!         "_class_name": "UNet2DConditionModel", "block_out_channels": [8, 16], "norm_num_groups": 4,
//!         "layers_per_block": 1, "cross_attention_dim": 12, "attention_head_dim": 2,
//!         "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
//!         "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let model = config.init(&device)?;
//! let noisy = Tensor::zeros([1, 4, 8, 8], &device);
//! let times = Tensor::from_data([999.0], &device);
//! let prompt = Conditions::prompt(Tensor::zeros([1, 5, 12], &device));
//! assert_eq!(model.forward(noisy, times, &prompt, None).dims(), [1, 4, 8, 8]);
//! # Ok::<(), kiln_denoisers::ConfigError>(())
//! ```

mod conditions;
mod config;
mod embedding;
mod encoder;
mod encoder_config;
mod model;
mod stages;
mod validate;

pub use conditions::{Conditions, ControlResiduals};
pub use config::{UNet2DConditionConfig, UpBlockType};
pub use embedding::{AddEmbedding, ClassEmbedding, ContextProjection};
pub use encoder::{ClassPlace, Encoded, Encoder, Joining};
pub use encoder_config::{
    AdditionEmbedType, ClassEmbedType, DownBlockType, EncoderConfig, EncoderHidDimType, MidBlockType,
    OneOrEach, TimeEmbeddingType, TransformerLayers, null_is_false,
};
pub use model::UNet2DCondition;

pub use crate::unet2d::ClassCondition;
