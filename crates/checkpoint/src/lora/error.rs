//! What can go wrong with a LoRA.

use thiserror::Error;

use crate::CheckpointError;

/// A LoRA that can't be read, or does not go with a network. `file` is its path, or says that it is bytes in memory; `key` is a tensor's name in it.
#[derive(Debug, Error)]
pub enum LoraError {
    /// The file can't be read, or is not what it says.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Another kind of adapter than two low-rank factors.
    #[error("{file}: tensor `{key}` is of {kind}, which is not supported; supported are LoRA and LoCon")]
    Kind {
        /// The file.
        file: String,
        /// The first tensor of that kind.
        key: String,
        /// What it is: DoRA, LoHa, LoKr, ...
        kind: &'static str,
    },
    /// A name of no layout of LoRAs.
    #[error("{file}: tensor `{key}` has no name that a LoRA's tensors have; is the file a LoRA?")]
    Unknown {
        /// The file.
        file: String,
        /// The first such tensor.
        key: String,
    },
    /// A factor without the others.
    #[error("{file}: tensor `{key}` is alone: the layer's {lacks} is missing")]
    Incomplete {
        /// The file.
        file: String,
        /// A tensor of the layer.
        key: String,
        /// Which factor is missing.
        lacks: &'static str,
    },
    /// Two tensors of one layer and one role.
    #[error("{file}: tensors `{key}` and `{other}` are the same factor of one layer")]
    Twice {
        /// The file.
        file: String,
        /// The one.
        key: String,
        /// The other.
        other: String,
    },
    /// A layer that the network does not have.
    #[error("{file}: tensor `{key}` is for no layer of the network{}; is the LoRA another model's?", and_more(*others))]
    Unmatched {
        /// The file.
        file: String,
        /// The first tensor that is for none.
        key: String,
        /// For how many more layers there are none.
        others: usize,
    },
    /// Factors whose product has not the shape of the layer's weight.
    #[error("{file}: tensor `{key}` has shape {found:?}, which does not go with {expected}")]
    Shape {
        /// The file.
        file: String,
        /// The factor.
        key: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it stands against: the layer's weight, or the other factor.
        expected: String,
    },
    /// A note in the file that can't be used.
    #[error("{file}: its note `{note}`: {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// The note's name.
        note: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        more => format!(", nor are those of {more} more layers"),
    }
}
