//! CLIP and T5 text encoders for Burn, with their tokenizers.
//!
//! - [`Tokenizer`]: a prompt as numbers, those that transformers gives; from a folder, or built in.
//! - [`ClipText`]: CLIP's text encoder, by transformers' config and weights.
//! - [`WeightedPrompt`]: prompts that weigh their words, and that are longer than an encoder reads at once.
//! - [`T5Encoder`]: T5's text encoder, the same.
//!
//! ```
//! use burn::tensor::Device;
//! use kiln_text::{ClipPad, ClipTextConfig, Length, Tokenizer, Tokens};
//!
//! let tokenizer = Tokenizer::clip(ClipPad::EndOfText);
//! let prompt = tokenizer.encode("a photo of a lighthouse", Length::Exactly(77))?;
//! assert_eq!(prompt.ids[..7], [49406, 320, 1125, 539, 320, 13717, 49407]);
//!
//! let device = Device::flex();
//! let config = ClipTextConfig { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, ..Default::default() };
//! prompt.check(config.vocab_size, Some(config.max_position_embeddings))?;
//! let states = config.init(&device)?.forward(Tokens::batch(&[prompt], &device));
//! assert_eq!(states.last_hidden_state.dims(), [1, 77, 16]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod clip;
mod hidden_act;
pub mod prompt;
mod sizes;
pub mod t5;
pub mod tokenizer;

pub use clip::{ClipText, ClipTextConfig, ClipTextOutput, TextHead};
pub use hidden_act::HiddenAct;
pub use kiln_checkpoint::ConfigError;
pub use prompt::{WeightedPrompt, Words};
pub use t5::{FeedForward, T5Config, T5Encoder};
pub use tokenizer::{Chunk, ClipPad, Length, Tokenizer, TokenizerError, Tokens};
