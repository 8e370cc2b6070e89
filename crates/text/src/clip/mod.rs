//! CLIP's text encoder: transformers' `CLIPTextModel` and `CLIPTextModelWithProjection` (Radford et al. 2021, "Learning
//! Transferable Visual Models From Natural Language Supervision").
//!
//! ```text
//! ids --tokens + positions--> x --layer--> ... --layer--> x' --norm--> states --end of text--> pooled --W--> embedding
//! layer   x + attention(norm(x)), each token seeing those before it;   then   x + mlp(norm(x))
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | [`config`] | the fields of `config.json` |
//! | [`layers`] | embeddings and the encoder's layer |
//! | [`model`] | the encoder |
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use kiln_text::ClipTextConfig;
//!
//! let config = ClipTextConfig::from_json(
//!     r#"{
//!         "architectures": ["CLIPTextModelWithProjection"], "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24,
//!         "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 8, "projection_dim": 12,
//!         "eos_token_id": 19
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let encoder = config.init(&device)?;
//! let states = encoder.forward(Tensor::<2, Int>::from_data([[18, 3, 7, 19, 0]], &device));
//! assert_eq!(states.penultimate_hidden_state().dims(), [1, 5, 16]); // what Stable Diffusion 3 is told
//! assert_eq!(states.text_embeds.unwrap().dims(), [1, 12]);
//! # Ok::<(), kiln_text::ConfigError>(())
//! ```

pub mod config;
pub mod layers;
pub mod model;

pub use config::{ClipTextConfig, TextHead};
pub use model::{ClipText, ClipTextOutput};
