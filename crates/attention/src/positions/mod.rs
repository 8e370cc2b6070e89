//! Encodings of positions: numbers that tell attention, which sees a set, where each token is.

pub mod sincos;
pub mod t5;

pub use sincos::{centred, sincos, sincos_2d};
pub use t5::{RelativeBias, RelativeBiasConfig, RelativeBuckets};
