//! Tables of names: what a layer is called in a file of another layout, and what it is called in diffusers.
//!
//! A [`Row`] is one layer inside its block; a layout says where the blocks are. Reading by tables, and not key by key, also
//! finds what is missing from a file.

use std::collections::BTreeSet;
use std::ops::Range;

use super::keys::Keys;
use crate::{Arrangement, Checkpoint, CheckpointError, View};

/// One layer: its name there, its name here.
#[derive(Clone, Copy)]
pub(super) struct Row {
    from: &'static str,
    to: To,
    /// What follows the layer's name in its tensors' names.
    tensors: &'static [&'static str],
    presence: Presence,
}

/// What becomes of a layer's tensors.
#[derive(Clone, Copy)]
enum To {
    /// The same under another name.
    Same(&'static str),
    /// Three layers, each of a third of the rows: queries, keys, values.
    Thirds([&'static str; 3]),
    /// One layer, with the halves of its rows exchanged: (shift, scale) there, (scale, shift) here.
    Swapped(&'static str),
    /// A 1 x 1 convolution as a linear layer.
    Linear(&'static str),
    /// A matrix with rows and columns exchanged.
    Transposed(&'static str),
}

#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Always,
    IfThere,
}

const WEIGHT_AND_BIAS: &[&str] = &[".weight", ".bias"];
const WEIGHT: &[&str] = &[".weight"];
const STATISTICS: &[&str] = &[".weight", ".bias", ".running_mean", ".running_var"];
const BARE: &[&str] = &[""];

/// A layer with weight and bias.
pub(super) const fn layer(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Same(to), tensors: WEIGHT_AND_BIAS, presence: Presence::Always }
}

/// A batch normalisation.
pub(super) const fn batch_norm(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Same(to), tensors: STATISTICS, presence: Presence::Always }
}

/// A layer with a weight alone.
pub(super) const fn weight(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Same(to), tensors: WEIGHT, presence: Presence::Always }
}

/// A tensor that is no layer's.
pub(super) const fn bare(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Same(to), tensors: BARE, presence: Presence::Always }
}

/// A layer that gives queries, keys and values.
pub(super) const fn thirds(from: &'static str, to: [&'static str; 3]) -> Row {
    Row { from, to: To::Thirds(to), tensors: WEIGHT_AND_BIAS, presence: Presence::Always }
}

/// As [`thirds`], of a tensor that is no layer's.
pub(super) const fn bare_thirds(from: &'static str, to: [&'static str; 3]) -> Row {
    Row { from, to: To::Thirds(to), tensors: BARE, presence: Presence::Always }
}

/// A layer that gives shift and scale, in the other order.
pub(super) const fn swapped(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Swapped(to), tensors: WEIGHT_AND_BIAS, presence: Presence::Always }
}

/// A 1 x 1 convolution that is a linear layer here.
pub(super) const fn linear(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Linear(to), tensors: WEIGHT_AND_BIAS, presence: Presence::Always }
}

/// A matrix that is applied from the other side.
pub(super) const fn transposed(from: &'static str, to: &'static str) -> Row {
    Row { from, to: To::Transposed(to), tensors: BARE, presence: Presence::Always }
}

impl Row {
    /// A layer that some networks of the layout lack.
    pub(super) const fn if_there(self) -> Self {
        Self { presence: Presence::IfThere, ..self }
    }

    /// The layer's name there.
    pub(super) const fn from(&self) -> &'static str {
        self.from
    }

    /// The layers here, and which of `rows` rows there each has; empty for all.
    pub(super) fn to(&self, rows: usize) -> Vec<(&'static str, Vec<Range<usize>>)> {
        match self.to {
            To::Same(name) | To::Linear(name) | To::Transposed(name) => vec![(name, Vec::new())],
            To::Swapped(name) => vec![(name, vec![rows / 2..rows, 0..rows / 2])],
            To::Thirds(names) => {
                let third = |part| rows / 3 * part..rows / 3 * (part + 1);
                (0..).zip(names).map(|(part, name)| (name, vec![third(part)])).collect()
            }
        }
    }
}

/// A network of a file on its way to diffusers' names.
pub(super) struct Translation<'k> {
    keys: &'k Keys<'k>,
    views: Vec<View>,
    used: BTreeSet<String>,
    missing: Vec<String>,
}

impl<'k> Translation<'k> {
    pub(super) fn new(keys: &'k Keys<'k>) -> Self {
        Self { keys, views: Vec::new(), used: BTreeSet::new(), missing: Vec::new() }
    }

    /// The layers of `table` in the block that is `from` there and `to` here; both empty for the network itself.
    pub(super) fn block(&mut self, from: &str, to: &str, table: &[Row]) {
        for row in table {
            self.layer(&joined(from, row.from), to, row);
        }
    }

    fn layer(&mut self, from: &str, to: &str, row: &Row) {
        let there = row.tensors.iter().any(|tensor| self.keys.has(&format!("{from}{tensor}")));
        if row.presence == Presence::IfThere && !there {
            return;
        }
        for tensor in row.tensors {
            let source = format!("{from}{tensor}");
            let Some(shape) = self.keys.shape(&source) else {
                self.missing.push(source);
                continue;
            };
            let rows = shape.first().copied().unwrap_or(0);
            let arrangement = match (row.to, shape) {
                (To::Linear(_), [outputs, inputs, sides @ ..]) if !sides.is_empty() => {
                    Arrangement::Reshaped(vec![*outputs, *inputs])
                }
                (To::Transposed(_), _) => Arrangement::Transposed,
                _ => Arrangement::AsIs,
            };
            for (name, rows) in row.to(rows) {
                self.view(&source, to, name, tensor, rows, arrangement.clone());
            }
            self.used.insert(source);
        }
    }

    fn view(
        &mut self,
        source: &str,
        block: &str,
        layer: &str,
        tensor: &str,
        rows: Vec<Range<usize>>,
        arrangement: Arrangement,
    ) {
        let name = format!("{}{tensor}", joined(block, layer));
        self.views.push(View { name, source: source.to_owned(), rows, arrangement });
    }

    /// Leave out the tensors whose names start so: known, and of no use here.
    pub(super) fn skip(&mut self, start: &str) {
        self.used.extend(self.keys.names().filter(|name| name.starts_with(start)).map(str::to_owned));
    }

    /// The network's tensors under their new names; those that no table speaks of keep theirs, to be named as surplus when
    /// the network is loaded.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`] with the name in the file of what a table asks for and the file lacks.
    pub(super) fn finish(mut self) -> Result<Checkpoint, CheckpointError> {
        if let Some(first) = self.missing.first() {
            return Err(CheckpointError::Missing {
                file: self.keys.file().label().to_owned(),
                tensor: format!("{}{first}", self.keys.prefix()),
                others: self.missing.len() - 1,
            });
        }
        let others = self.keys.names().filter(|name| !self.used.contains(*name));
        self.views.extend(others.map(|name| View::renamed(name, name)));
        self.keys.file().part(self.keys.prefix()).view(self.views)
    }
}

fn joined(block: &str, layer: &str) -> String {
    match (block, layer) {
        (block, "") => block.to_owned(),
        ("", layer) => layer.to_owned(),
        (block, layer) => format!("{block}.{layer}"),
    }
}
