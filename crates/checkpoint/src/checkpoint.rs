//! A safetensors file, open for reading.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::Dtype;

use crate::CheckpointError;
use crate::header::{Entry, Header};
use crate::source::Source;

/// What a file says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Its shape, as on disk.
    pub shape: &'a [usize],
}

/// A safetensors file whose header has been checked; tensors are read when asked for.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) source: Arc<Source>,
    header: Header,
}

impl Checkpoint {
    /// Open a file and check its header.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is cut short, or its header contradicts itself or the file's length.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::from_source(Source::open(path.as_ref())?)
    }

    /// Take a file that is in memory: `&'static [u8]` (a model embedded in a program) or `Vec<u8>`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, CheckpointError> {
        Self::from_source(Source::memory(bytes.into()))
    }

    fn from_source(source: Source) -> Result<Self, CheckpointError> {
        let header = Header::read(&source)?;
        Ok(Self { source: Arc::new(source), header })
    }

    /// The file's path, or a note that it is bytes in memory; as in errors.
    #[must_use]
    pub fn label(&self) -> &str {
        self.source.label()
    }

    /// Notes beside the tensors (`__metadata__`).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Every tensor's name, type and shape, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, TensorInfo<'_>)> {
        self.header
            .entries
            .iter()
            .map(|(name, entry)| (name.as_str(), TensorInfo { dtype: entry.dtype, shape: &entry.shape }))
    }

    /// Type and shape of one tensor, if it is there.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<TensorInfo<'_>> {
        let entry = self.header.entries.get(name)?;
        Some(TensorInfo { dtype: entry.dtype, shape: &entry.shape })
    }

    /// The tensors whose names start with `prefix`, without it: one module of several that share a file.
    #[must_use]
    pub fn part(&self, prefix: &str) -> Self {
        let entries = self
            .header
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((name.strip_prefix(prefix)?.to_owned(), entry.clone())))
            .collect();
        Self {
            source: Arc::clone(&self.source),
            header: Header { metadata: self.header.metadata.clone(), entries },
        }
    }

    /// Read one tensor as it is stored.
    ///
    /// # Errors
    ///
    /// If there is none of that name, its type is none of Burn's (8-bit floats and smaller), a bool is neither 0 nor 1, or
    /// the file can't be read.
    pub fn tensor(&self, name: &str) -> Result<TensorData, CheckpointError> {
        let entry = self.entry(name)?;
        let dtype = self.burn_dtype(name, entry.dtype)?;
        read_entry(&self.source, name, entry, dtype)
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry, CheckpointError> {
        self.header.entries.get(name).ok_or_else(|| CheckpointError::Missing {
            file: self.label().to_owned(),
            tensor: name.to_owned(),
            others: 0,
        })
    }

    pub(crate) fn burn_dtype(&self, name: &str, dtype: Dtype) -> Result<DType, CheckpointError> {
        burn_dtype(dtype).ok_or_else(|| CheckpointError::DType {
            file: self.label().to_owned(),
            tensor: name.to_owned(),
            expected: "a float of 16 bits or more, an integer or a bool",
            found: dtype,
        })
    }
}

/// Read the tensor `name`, whose place has been checked, as numbers of `dtype`.
pub(crate) fn read_entry(
    source: &Source,
    name: &str,
    entry: &Entry,
    dtype: DType,
) -> Result<TensorData, CheckpointError> {
    let bytes = source.read(entry.start, entry.len)?;
    // Rust's bool has two values; any other byte in its place is not to be looked at as one.
    if dtype.is_bool() && bytes.iter().any(|&byte| byte > 1) {
        return Err(CheckpointError::Entry {
            file: source.label().to_owned(),
            tensor: name.to_owned(),
            reason: "a BOOL is neither 0 nor 1".to_owned(),
        });
    }
    Ok(TensorData::from_bytes_vec(bytes, entry.shape.clone(), dtype))
}

/// Burn's name for a stored type, where it has one.
fn burn_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}
