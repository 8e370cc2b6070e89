//! Named tensors, wherever they are stored; open for reading.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use safetensors::Dtype;

use crate::entry::Entry;
use crate::header::Header;
use crate::source::Source;
use crate::{CheckpointError, View, torch};

/// What a file says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Its shape, as on disk.
    pub shape: &'a [usize],
}

/// Named tensors of one file or several, whose headers have been checked; a tensor is read when it is asked for.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    label: String,
    metadata: BTreeMap<String, String>,
    entries: BTreeMap<String, Arc<Entry>>,
}

impl Checkpoint {
    /// Open a file, safetensors or PyTorch's own, whichever its content is; map it into memory and check its header or its
    /// pickle.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is cut short, its header contradicts itself or the file's length, or its pickle asks for
    /// more than tensors.
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

    pub(crate) fn from_source(source: Source) -> Result<Self, CheckpointError> {
        let source = Arc::new(source);
        let (metadata, entries) = match torch::format(source.bytes()) {
            Some(format) => (BTreeMap::new(), torch::read(&source, format)?),
            None => {
                let header = Header::read(&source)?;
                (header.metadata, header.entries)
            }
        };
        let entries = entries.into_iter().map(|(name, entry)| (name, Arc::new(entry))).collect();
        Ok(Self { label: source.label().to_owned(), metadata, entries })
    }

    /// Several checkpoints as one: the shards of a model. `label` names them all in errors; notes are those of the first
    /// that has them.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Entry`] for a tensor that two of them hold.
    pub fn merge(
        label: impl Into<String>,
        parts: impl IntoIterator<Item = Self>,
    ) -> Result<Self, CheckpointError> {
        let mut merged = Self { label: label.into(), metadata: BTreeMap::new(), entries: BTreeMap::new() };
        for part in parts {
            for (key, value) in part.metadata {
                merged.metadata.entry(key).or_insert(value);
            }
            for (name, entry) in part.entries {
                if let Some(other) = merged.entries.get(&name) {
                    let reason = format!("is in {} too", other.file());
                    return Err(CheckpointError::Entry { file: part.label, tensor: name, reason });
                }
                merged.entries.insert(name, entry);
            }
        }
        Ok(merged)
    }

    /// The file's path, or a note that it is bytes in memory; as in errors.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Notes beside the tensors (`__metadata__`).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Every tensor's name, type and shape, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, TensorInfo<'_>)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), TensorInfo { dtype: entry.dtype, shape: &entry.shape }))
    }

    /// Type and shape of one tensor, if it is there.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<TensorInfo<'_>> {
        let entry = self.entries.get(name)?;
        Some(TensorInfo { dtype: entry.dtype, shape: &entry.shape })
    }

    /// The tensors whose names start with `prefix`, without it: one module of several that share a file.
    #[must_use]
    pub fn part(&self, prefix: &str) -> Self {
        let entries = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((name.strip_prefix(prefix)?.to_owned(), Arc::clone(entry))));
        Self { label: self.label.clone(), metadata: self.metadata.clone(), entries: entries.collect() }
    }

    /// Exactly these tensors, each made of a stored one as its [`View`] says; nothing is read or copied now.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`] if there is no such stored tensor, [`CheckpointError::Entry`] if it has no such rows or
    /// can't be laid out as asked, or if two views have one name.
    pub fn view(&self, views: Vec<View>) -> Result<Self, CheckpointError> {
        let mut entries = BTreeMap::new();
        for view in views {
            let stored = self.entry(&view.source)?;
            let fail = |reason| CheckpointError::Entry {
                file: stored.file().to_owned(),
                tensor: view.name.clone(),
                reason,
            };
            let entry = stored.seen_through(&view).map_err(|reason| fail(format!("would be {reason}")))?;
            if entries.contains_key(&view.name) {
                return Err(fail("two tensors of the file would be called so".to_owned()));
            }
            entries.insert(view.name, Arc::new(entry));
        }
        Ok(Self { label: self.label.clone(), metadata: self.metadata.clone(), entries })
    }

    /// Read one tensor as it is stored.
    ///
    /// # Errors
    ///
    /// If there is none of that name, its type is none of Burn's (8-bit floats and smaller), or a bool is neither 0 nor 1.
    pub fn tensor(&self, name: &str) -> Result<TensorData, CheckpointError> {
        self.entry(name)?.read(name)
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Arc<Entry>, CheckpointError> {
        self.entries.get(name).ok_or_else(|| CheckpointError::Missing {
            file: self.label().to_owned(),
            tensor: name.to_owned(),
            others: 0,
        })
    }
}
