//! Autoregressive models: p(x) as a product of conditionals, from logistic regressions in a chain to PixelCNN++.

mod error;
mod family;
mod model;
mod order;

pub use error::AutoregressiveError;
pub use family::{Family, Values};
pub use model::{AutoregressiveModel, Decoder, Replay, bits_per_dimension, check, ensemble};
pub use order::Order;
