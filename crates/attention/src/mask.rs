//! Masks: which keys a query may see, or what is added to its scores.
//!
//! ```text
//! softmax(q k^T / sqrt(d) + M) v      M = 0 where a key is visible, -inf where it is hidden; or any bias
//! ```
//!
//! PyTorch's boolean masks show where they are true, Burn's hide, a tokenizer's are ones where there are tokens: so here the
//! polarity is in the constructor's name, and a [`Mask`] is what all of them become.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

/// A mask over `[batch, heads, queries, keys]`; every side may be 1, and then stands for all.
#[derive(Clone, Debug)]
pub struct Mask(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// True hides.
    Hidden(Tensor<4, Bool>),
    /// Added to the scores.
    Added(Tensor<4>),
}

impl Mask {
    /// Hides keys where `hidden` is true: `[batch or 1, heads or 1, queries or 1, keys or 1]`.
    #[must_use]
    pub fn hidden(hidden: Tensor<4, Bool>) -> Self {
        Self(Kind::Hidden(hidden))
    }

    /// Shows keys where `visible` is true, and hides all others; shape as in [`hidden`](Self::hidden).
    #[must_use]
    pub fn visible(visible: Tensor<4, Bool>) -> Self {
        Self::hidden(visible.bool_not())
    }

    /// Shows keys where `visible` is not 0, to every head and query: `[batch or 1, keys]`, the attention mask of a tokenizer.
    #[must_use]
    pub fn visible_keys(visible: Tensor<2, Int>) -> Self {
        let [batch, keys] = visible.dims();
        Self::hidden(visible.equal_elem(0).reshape([batch, 1, 1, keys]))
    }

    /// Shows the keys of which `visible(key's place - query's place)` holds. The last query stands at the last key: so
    /// queries that come after others, whose keys are kept, are at their own places. `|offset| offset <= 0` is causal,
    /// `|offset| (-w..=0).contains(&offset)` a window of the past.
    ///
    /// # Panics
    ///
    /// If there are more queries than keys.
    #[must_use]
    pub fn by_offset(queries: usize, keys: usize, visible: impl Fn(i64) -> bool, device: &Device) -> Self {
        Self::hidden(hidden_by_offset(queries, keys, visible, device))
    }

    /// Adds `bias` to the scores: relative positions, say; `-inf` hides a key. Shape as in [`hidden`](Self::hidden).
    #[must_use]
    pub fn bias(bias: Tensor<4>) -> Self {
        Self(Kind::Added(bias))
    }

    /// Both at once: a key is visible if both show it, and biases add up.
    ///
    /// # Panics
    ///
    /// If the shapes do not broadcast to each other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (ours, theirs) = (self.dims(), other.dims());
        let fits = ours.iter().zip(theirs).all(|(&n, m)| n == m || n == 1 || m == 1);
        assert!(fits, "the masks {ours:?} and {theirs:?} do not broadcast to each other");
        let shape: [usize; 4] = std::array::from_fn(|side| ours[side].max(theirs[side]));
        match (self.0, other.0) {
            (Kind::Hidden(ours), Kind::Hidden(theirs)) => {
                Self::hidden(ours.expand(shape).bool_or(theirs.expand(shape)))
            }
            (Kind::Added(bias), Kind::Hidden(hidden)) | (Kind::Hidden(hidden), Kind::Added(bias)) => {
                Self::bias(bias.expand(shape).mask_fill(hidden.expand(shape), f32::NEG_INFINITY))
            }
            (Kind::Added(ours), Kind::Added(theirs)) => Self::bias(ours + theirs),
        }
    }

    /// Its shape, before it is broadcast.
    #[must_use]
    pub fn dims(&self) -> [usize; 4] {
        match &self.0 {
            Kind::Hidden(hidden) => hidden.dims(),
            Kind::Added(bias) => bias.dims(),
        }
    }

    /// M, to be added to scores of the shape `[batch, heads, queries, keys]` and of type `dtype`; it is not expanded to that
    /// shape. This is the mask of [`AttentionOptions`](crate::AttentionOptions).
    ///
    /// # Panics
    ///
    /// If it does not broadcast to `scores`.
    #[must_use]
    pub fn additive(self, scores: [usize; 4], dtype: DType) -> Tensor<4> {
        let dims = self.dims();
        let fits = dims.iter().zip(scores).all(|(&m, n)| m == n || m == 1);
        assert!(fits, "the mask {dims:?} does not broadcast to scores of {scores:?}");
        match self.0 {
            Kind::Added(bias) => bias.cast(dtype),
            Kind::Hidden(hidden) => {
                let zeros = Tensor::zeros(dims, (&hidden.device(), dtype));
                zeros.mask_fill(hidden, f32::NEG_INFINITY)
            }
        }
    }
}

/// Where [`Mask::by_offset`] hides, `[1, 1, queries, keys]`.
pub(crate) fn hidden_by_offset(
    queries: usize,
    keys: usize,
    visible: impl Fn(i64) -> bool,
    device: &Device,
) -> Tensor<4, Bool> {
    assert!(queries <= keys, "{queries} queries do not stand at the last of {keys} keys");
    let past = (keys - queries) as i64;
    let hidden: Vec<bool> = (0..queries as i64)
        .flat_map(|query| (0..keys as i64).map(move |key| key - query - past))
        .map(|offset| !visible(offset))
        .collect();
    Tensor::from_data(TensorData::new(hidden, [1, 1, queries, keys]), device)
}
