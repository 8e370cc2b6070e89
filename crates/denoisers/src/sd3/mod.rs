//! diffusers' `SD3Transformer2DModel`: MM-DiT, the transformer of Stable Diffusion 3 and 3.5 (Esser et al. 2024, "Scaling
//! Rectified Flow Transformers for High-Resolution Image Synthesis").
//!
//! ```text
//! latent --patches + positions--> x --+--> joint block --> ... --> joint block --adaLN, W--> patches --> velocity
//! prompt -----------W-----------> c --+--------------------------------^ (ends here)
//! time, pooled prompt ---------> t ---+--> scale, shift and gate of every block
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | [`config`] | the fields of `config.json` |
//! | [`patch`] | a latent as tokens, with its positions |
//! | [`condition`] | time and pooled prompt as one vector |
//! | [`modulation`] | adaptive layer norm |
//! | [`block`] | the joint block, and the block of one stream that some ControlNets have |
//! | [`model`] | the network |
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_denoisers::SD3Transformer2DConfig;
//!
//! let config = SD3Transformer2DConfig::from_json(
//!     r#"{
//!         "_class_name": "SD3Transformer2DModel", "sample_size": 8, "in_channels": 4, "out_channels": 4,
//!         "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16,
//!         "joint_attention_dim": 12, "pooled_projection_dim": 10, "pos_embed_max_size": 6, "qk_norm": "rms_norm"
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let model = config.init(&device)?;
//! let noisy = Tensor::zeros([1, 4, 12, 8], &device);
//! let times = Tensor::from_data([999.0], &device);
//! let prompt = Tensor::zeros([1, 7, 12], &device);
//! let pooled = Tensor::zeros([1, 10], &device);
//! assert_eq!(model.forward(noisy, times, prompt, pooled).dims(), [1, 4, 12, 8]);
//! assert!(model.check_size([14, 8]).is_err()); // the table of positions has 6 rows of patches
//! # Ok::<(), kiln_denoisers::ConfigError>(())
//! ```

pub mod block;
pub mod condition;
pub mod config;
pub mod model;
pub mod modulation;
pub mod patch;

pub use block::{JointBlock, JointBlockConfig, SampleAttention, SingleBlock, SingleBlockConfig};
pub use condition::{TimeTextEmbedding, TimeTextEmbeddingConfig};
pub use config::SD3Transformer2DConfig;
pub use model::{SD3Extras, SD3Transformer2D};
pub use patch::{LatentSizeError, PatchEmbedding, PatchEmbeddingConfig, PatchPositions};
