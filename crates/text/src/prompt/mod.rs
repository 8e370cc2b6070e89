//! Prompts that weigh their words, and that are longer than an encoder reads at once.
//!
//! | written | means |
//! |---|---|
//! | `(red kiln)`, `((red kiln))` | weight 1.1, 1.1 × 1.1 |
//! | `[red kiln]` | weight 1 / 1.1 |
//! | `(red kiln:1.3)` | weight 1.3; inside others, their product |
//! | `\(`, `\)`, `\[`, `\]`, `\\` | the character itself |
//! | `BREAK`, a word by itself | the next chunk begins here |
//!
//! It is the notation that AUTOMATIC1111's program made common. No prompt is an error: a bracket that is never closed holds to the end, one that
//! closes nothing is a character as any other, and so is a weight that is no number.
//!
//! A prompt is read in chunks of as many tokens as fit between those that start and end a text (75 of CLIP's 77); what the encoder makes of them
//! is put side by side. Of a chunk's states z, with the weight w_i of its token i (1 where nothing is said, and for what is put around and pads):
//!
//! ```text
//! z'_i = w_i z_i · mean(z) / mean(w z)       means over all tokens and channels of the chunk
//! ```

mod parse;
mod weigh;

pub use parse::{WeightedPrompt, Words};
pub use weigh::weigh;
