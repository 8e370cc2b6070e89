//! T5's encoder: transformers' `T5EncoderModel` (Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
//! Text-to-Text Transformer"; its gated form: Shazeer 2020, "GLU Variants Improve Transformer").
//!
//! ```text
//! ids --tokens--> x --block--> ... --block--> x' --norm--> states
//! block   x + W_o softmax(q k^T + bias(j - i)) v    then    x + W_o' (act(W_0 x) . W_1 x)      of the normed x
//! norm    w x / sqrt(mean(x^2) + eps)
//! ```
//!
//! Scores are not scaled, and places are told by the bias alone, which the first block's attention has for all.
//!
//! | file | what is in it |
//! |---|---|
//! | [`config`] | the fields of `config.json` |
//! | [`layers`] | norm, attention, feed-forward layer |
//! | [`model`] | the encoder |
//!
//! **In 16 bits.** The sum that runs through the blocks grows beyond what f16 holds, and so do the feed-forward layer's
//! products. So that sum, norms and scores are in f32 whatever the weights are in; and with weights in f16 the feed-forward
//! layer's second half is too, as transformers does it.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use kiln_text::T5Config;
//!
//! let config = T5Config::from_json(
//!     r#"{
//!         "architectures": ["T5EncoderModel"], "vocab_size": 20, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2,
//!         "num_heads": 3, "feed_forward_proj": "gated-gelu"
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let ids = Tensor::<2, Int>::from_data([[3, 7, 1, 0]], &device);
//! assert_eq!(config.init(&device)?.forward(ids, None).dims(), [1, 4, 16]);
//! # Ok::<(), kiln_text::ConfigError>(())
//! ```

pub mod config;
pub mod layers;
pub mod model;

pub use config::{FeedForward, T5Config};
pub use model::T5Encoder;
