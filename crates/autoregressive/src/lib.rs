//! Autoregressive models: p(x) as a product of conditionals, from logistic regressions in a chain to PixelCNN++.

mod error;
pub mod family;
pub mod fvsbn;
mod given;
pub mod labelled;
mod lstm;
pub mod made;
mod masks;
pub mod model;
pub mod nade;
pub mod order;
pub mod orderless;
pub mod pixel;
pub mod sequence;
pub mod table;
pub mod zoo;

pub use error::AutoregressiveError;
pub use family::{Family, Values};
pub use fvsbn::{Fvsbn, FvsbnConfig};
pub use labelled::Labelled;
pub use made::{DirectLinks, Made, MadeConfig, Wiring};
pub use model::{AutoregressiveModel, Decoder, Replay, bits_per_dimension, check, ensemble};
pub use nade::{Nade, NadeConfig, NadeUnits};
pub use order::Order;
pub use orderless::{OrderlessNade, OrderlessNadeConfig};
pub use pixel::{
    Canvas, GatedPixelCnn, GatedPixelCnnConfig, PixelCnn, PixelCnnConfig, PixelCnnPlusPlus,
    PixelCnnPlusPlusConfig, PixelRnn, PixelRnnConfig, Recurrence,
};
pub use sequence::{Recurrent, RecurrentConfig, Transformer, TransformerConfig, WaveNet, WaveNetConfig};
pub use table::{FullTable, Independent, IndependentConfig, MOST_TABLED};
