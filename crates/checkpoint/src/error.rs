//! What can go wrong with a model file.

use std::io;

use safetensors::Dtype;
use thiserror::Error;

use crate::ConfigError;

/// A model file that can't be read, can't be written, or does not fit the module. `file` is its path, or says that it is
/// bytes in memory.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{file}: can't {action}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What was tried: `open`, `read`, `write`, ...
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The file ends before it should.
    #[error("{file}: cut short: {found} bytes where {expected} are needed")]
    Truncated {
        /// The file.
        file: String,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The header is no safetensors header.
    #[error("{file}: not a safetensors file: {reason}")]
    Header {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The header's entry of a tensor contradicts the file or itself.
    #[error("{file}: tensor `{tensor}`: {reason}")]
    Entry {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter of the module is not in the file.
    #[error("{file}: tensor `{tensor}` is missing{}", and_more(*others))]
    Missing {
        /// The file.
        file: String,
        /// The first parameter that is missing.
        tensor: String,
        /// How many more are missing.
        others: usize,
    },
    /// A parameter has another shape in the file than in the module.
    #[error("{file}: tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The parameter's name.
        tensor: String,
        /// The module's shape, as it would be on disk.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// A tensor's numbers are of a type that can't be used where it is wanted.
    #[error("{file}: tensor `{tensor}` holds {found}, expected {expected}")]
    DType {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What would do.
        expected: &'static str,
        /// The file's type.
        found: Dtype,
    },
    /// A value is too large for the type to save it in.
    #[error("{file}: tensor `{tensor}` holds values too large for {dtype}; save it as F32 or BF16")]
    Overflow {
        /// The file being written.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The type to save in.
        dtype: Dtype,
    },
    /// A tensor or module that can't be saved as it is.
    #[error("{file}: tensor `{tensor}` can't be saved: {reason}")]
    Unsaveable {
        /// The file being written.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// Why not.
        reason: String,
    },
    /// A config that no network can be built from.
    #[error("{file}: {source}")]
    Config {
        /// The file that the config is in.
        file: String,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A folder that holds no model, or not all of one.
    #[error("{folder}: {reason}")]
    Folder {
        /// The folder.
        folder: String,
        /// What it lacks, and what it may hold.
        reason: String,
    },
    /// An index (`model_index.json`, `*.index.json`) that contradicts itself or its folder.
    #[error("{file}: {reason}")]
    Index {
        /// The index.
        file: String,
        /// What is wrong with it; names the tensor, if it is about one.
        reason: String,
    },
    /// A file that is no PyTorch file as `torch.save` writes them, or that lies about itself.
    #[error("{file}: not a PyTorch file that can be read: {reason}")]
    PyTorch {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pickle that asks for more than tensors. Nothing in a file is executed.
    #[error(
        "{file}: its pickle asks to run `{asks}`, and nothing in a file is run; save the state dict alone, or convert it \
         to safetensors"
    )]
    Executes {
        /// The file.
        file: String,
        /// What it asks for: a Python function or class.
        asks: String,
    },
}

fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => ", and 1 more".to_owned(),
        more => format!(", and {more} more"),
    }
}
