//! Encodings of positions: numbers that tell attention, which sees a set, where each token is.
//!
//! | | added to | relative | learned |
//! |---|---|---|---|
//! | [`sincos()`], [`interleaved_sincos`], [`sincos_2d`] | the tokens | | |
//! | [`LearnedPositions`] | the tokens | | yes |
//! | [`Rotary`], [`Rotary2d`] | turns queries and keys | yes | |
//! | [`RelativeBias`] | the scores | yes | yes |
//! | [`alibi()`] | the scores | yes | |

pub mod alibi;
pub mod learned;
pub mod rotary;
pub mod sincos;
pub mod t5;

pub use alibi::alibi;
pub use learned::{LearnedPositions, LearnedPositionsConfig};
pub use rotary::{Interpolation, Rotary, Rotary2d, RotaryConfig, RotaryPairs};
pub use sincos::{centred, interleaved_sincos, sincos, sincos_2d};
pub use t5::{RelativeBias, RelativeBiasConfig, RelativeBuckets};
