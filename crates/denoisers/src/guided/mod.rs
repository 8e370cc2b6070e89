//! The U-Net of OpenAI's diffusion models, under the names of its own files: improved diffusion (Nichol and Dhariwal 2021),
//! guided diffusion (Dhariwal and Nichol 2021, "Diffusion Models Beat GANs"), consistency models (Song et al. 2023).
//!
//! ```text
//! x --input_blocks--> middle_block --output_blocks--> out --> y
//!          \_____ skip connections ____/
//! time, label --time_embed + label_emb--> every residual block
//! ```
//!
//! A block is a list of layers: a residual block, attention after it, a change of resolution at the end of a level.
//!
//! | file | what |
//! |---|---|
//! | `config` | what a network is made of: the arguments of OpenAI's `UNetModel` |
//! | `model` | the network |
//! | `layers` | residual block, attention, resampling under their names there |
//! | [`consistency`] | the network as a function from a noisy picture to a clean one |
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_denoisers::guided::{ConsistencyConfig, GuidedUNetConfig, OutputRange};
//! use kiln_denoisers::unet2d::ClassCondition;
//!
//! let config = GuidedUNetConfig::from_json(
//!     r#"{
//!         "in_channels": 1, "out_channels": 1, "model_channels": 32, "num_res_blocks": 1, "channel_mult": [1, 2],
//!         "attention_resolutions": [2], "num_head_channels": 32, "use_new_attention_order": true,
//!         "use_scale_shift_norm": true, "resblock_updown": true, "label_channels": 1
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let model = ConsistencyConfig::default().wrap(config.init(&device)?)?;
//! let noise = Tensor::zeros([2, 1, 8, 8], &device);
//! let difficulty = ClassCondition::Numbers(Tensor::from_data([0.2, 0.8], &device));
//! let clean = model.denoise(noise, &[80.0, 80.0], Some(difficulty), OutputRange::Clamped);
//! assert_eq!(clean.dims(), [2, 1, 8, 8]);
//! # Ok::<(), kiln_denoisers::ConfigError>(())
//! ```

mod config;
pub mod consistency;
mod layers;
mod model;

pub use config::GuidedUNetConfig;
pub use consistency::{ConsistencyConfig, ConsistencyModel, OutputRange};
pub use model::GuidedUNet;
