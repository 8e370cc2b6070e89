//! diffusers' `UNet2DModel`: the U-Net of DDPM (Ho et al. 2020) with the options of its successors, NCSN++ (Song et al. 2021,
//! score SDE) among them.
//!
//! ```text
//! x --conv_in--> down_blocks ----> mid_block ----> up_blocks --norm, SiLU, conv_out--> y
//!                     \______ skip connections ______/
//! time, class ------> time_embedding + class_embedding ------> every residual block
//! ```
//!
//! A network comes from a `config.json` and its weights from the safetensors file beside it:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_denoisers::UNet2DConfig;
//!
//! let config = UNet2DConfig::from_json(
//!     r#"{
//!         "_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1, "sample_size": 8,
//!         "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1, "num_class_embeds": 11,
//!         "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let model = config.init(&device)?;
//! let noisy = Tensor::zeros([2, 1, 8, 8], &device);
//! let times = Tensor::from_data([999.0, 500.0], &device);
//! let classes = Tensor::from_data([7, 3], &device);
//! assert_eq!(model.forward(noisy, times, Some(classes)).dims(), [2, 1, 8, 8]);
//! # Ok::<(), kiln_denoisers::ConfigError>(())
//! ```

mod config;
mod model;
mod stages;
mod validate;

pub use config::{
    ActivationName, ClassEmbedType, DownBlockType, MidBlockType, ResampleType, SampleSize, TimeEmbeddingType,
    UNet2DConfig, UpBlockType,
};
pub use model::{ClassCondition, UNet2D, UNet2DEncoder};
