//! The names and shapes under one prefix of a file, and the questions that a layout asks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::{Checkpoint, CheckpointError};

/// The tensors of one network in a file of several, by the names that follow its prefix.
pub(super) struct Keys<'a> {
    file: &'a Checkpoint,
    prefix: String,
    shapes: BTreeMap<&'a str, &'a [usize]>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(file: &'a Checkpoint, prefix: &str) -> Self {
        let shapes = file
            .tensors()
            .filter_map(|(name, info)| Some((name.strip_prefix(prefix)?, info.shape)))
            .collect();
        Self { file, prefix: prefix.to_owned(), shapes }
    }

    pub(super) fn file(&self) -> &'a Checkpoint {
        self.file
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.shapes.keys().copied()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Whether any name starts so.
    pub(super) fn any(&self, start: &str) -> bool {
        self.under(start).next().is_some()
    }

    fn under<'s>(&'s self, start: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.shapes
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .map(|(name, _)| *name)
            .take_while(move |name| name.starts_with(start))
    }

    /// One more than the largest number that follows `stem.`, as in `input_blocks.11.0.weight`; 0 if none does. Numbers may
    /// have gaps, but no more than every second is missing: a file does not make one count to the largest number.
    pub(super) fn count(&self, stem: &str) -> usize {
        let stem = format!("{stem}.");
        let numbers =
            self.under(&stem).filter_map(|name| name[stem.len()..].split('.').next()?.parse::<usize>().ok());
        let numbers: BTreeSet<_> = numbers.collect();
        let most = 2 * numbers.len() + 1;
        numbers.last().map_or(0, |last| last.saturating_add(1).min(most))
    }

    pub(super) fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.shapes.get(name).copied()
    }

    /// The shape of a tensor that must be there and have `SIDES` sides.
    pub(super) fn sides<const SIDES: usize>(&self, name: &str) -> Result<[usize; SIDES], CheckpointError> {
        let shape = self.shape(name).ok_or_else(|| self.missing(name))?;
        shape.try_into().map_err(|_| self.wrong(name, format!("has shape {shape:?}; expected {SIDES} sides")))
    }

    /// One side of a tensor that must be there.
    pub(super) fn side(&self, name: &str, axis: usize) -> Result<usize, CheckpointError> {
        let shape = self.shape(name).ok_or_else(|| self.missing(name))?;
        let side = shape.get(axis).copied();
        side.ok_or_else(|| self.wrong(name, format!("has shape {shape:?}; expected more than {axis} sides")))
    }

    pub(super) fn missing(&self, name: &str) -> CheckpointError {
        CheckpointError::Missing {
            file: self.file.label().to_owned(),
            tensor: format!("{}{name}", self.prefix),
            others: 0,
        }
    }

    pub(super) fn wrong(&self, name: &str, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Entry {
            file: self.file.label().to_owned(),
            tensor: format!("{}{name}", self.prefix),
            reason: reason.into(),
        }
    }

    /// A number that the file's notes give under `key`: what no shape tells can be written there.
    pub(super) fn note<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.file.metadata().get(key)?.trim().parse().ok()
    }
}
