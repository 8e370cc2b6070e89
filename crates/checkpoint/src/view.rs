//! Tensors under other names, or cut out of wider ones: how a file of another layout is read as diffusers' own.

use std::ops::Range;

/// One tensor as it is to be seen, and the stored tensor that it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The name it is seen under.
    pub name: String,
    /// The name of the stored tensor.
    pub source: String,
    /// Rows of the stored tensor (along its first dimension), range after range; empty for all of them. A projection to
    /// queries, keys and values in one gives each by a third of its rows; swapped halves are two ranges.
    pub rows: Vec<Range<usize>>,
    /// What is done with the rows then.
    pub arrangement: Arrangement,
}

/// How the chosen rows of a stored tensor are laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arrangement {
    /// As they are.
    #[default]
    AsIs,
    /// As this shape, of as many elements: a 1 x 1 convolution as a linear layer.
    Reshaped(Vec<usize>),
    /// A matrix with rows and columns exchanged.
    Transposed,
}

impl View {
    /// A stored tensor under another name.
    pub fn renamed(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self { name: name.into(), source: source.into(), rows: Vec::new(), arrangement: Arrangement::AsIs }
    }
}
