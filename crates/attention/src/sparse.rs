//! Softmax attention over a pattern of keys: those nearby, every so-manyth, or both (Child et al. 2019, "Generating Long
//! Sequences with Sparse Transformers").
//!
//! ```text
//! local     |i - j| <= w                    O(n w)
//! atrous    i - j a multiple of r           O(n^2 / r)
//! strided   either of them                  O(n w + n^2 / r)
//! ```
//!
//! Only scores of the pattern are made: of neighbouring blocks, and within classes of tokens whose places are the same
//! modulo r. Both go through one softmax.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use kiln_backend::ops::Causality;
use serde::{Deserialize, Serialize};

use crate::Mask;
use crate::grouped::softmax;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// Those at most `reach` places away.
    Local {
        /// w.
        reach: usize,
    },
    /// Those whose distance is a multiple of `stride`.
    Atrous {
        /// r.
        stride: usize,
    },
    /// Both.
    Strided {
        /// w.
        reach: usize,
        /// r.
        stride: usize,
    },
}

impl Pattern {
    fn reach(self) -> Option<usize> {
        match self {
            Self::Local { reach } | Self::Strided { reach, .. } => Some(reach),
            Self::Atrous { .. } => None,
        }
    }

    fn stride(self) -> Option<usize> {
        match self {
            Self::Atrous { stride } | Self::Strided { stride, .. } => Some(stride),
            Self::Local { .. } => None,
        }
    }

    /// Whether a query sees the key `offset` places after it.
    ///
    /// # Panics
    ///
    /// If the stride is 0.
    #[must_use]
    pub fn sees(self, offset: i64) -> bool {
        let distance = offset.unsigned_abs();
        let near = self.reach().is_some_and(|reach| distance <= reach as u64);
        near || self.stride().is_some_and(|stride| distance.is_multiple_of(stride as u64))
    }

    /// The pattern as a mask over all scores: what [`sparse_attention`] is held to.
    ///
    /// # Panics
    ///
    /// As [`Mask::by_offset`] does.
    #[must_use]
    pub fn mask(self, queries: usize, keys: usize, causality: Causality, device: &Device) -> Mask {
        let past = causality == Causality::Causal;
        Mask::by_offset(queries, keys, |offset| self.sees(offset) && !(past && offset > 0), device)
    }
}

/// Softmax attention over the keys of a pattern; all are `[batch, heads, n, d]`.
///
/// # Panics
///
/// If the shapes differ, or a stride is 0.
#[must_use]
pub fn sparse_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    pattern: Pattern,
    causality: Causality,
) -> Tensor<4> {
    let [batch, heads, n, d] = query.dims();
    assert!(
        key.dims() == query.dims() && value.dims()[..3] == query.dims()[..3],
        "sparse attention: queries {:?}, keys {:?} and values {:?} do not fit together",
        query.dims(),
        key.dims(),
        value.dims()
    );
    assert!(pattern.stride() != Some(0), "a stride of 0 leads nowhere");
    if n == 0 {
        return value;
    }
    let width = value.dims()[3];
    let flat = |x: Tensor<4>, width| x.reshape([batch * heads, n, width]);
    let query = flat(query.mul_scalar(1.0 / (d as f64).sqrt()), d);
    let (key, value) = (flat(key, d), flat(value, width));
    let blocks = pattern.reach().map(|reach| Blocks::new(n, reach));
    let classes = pattern.stride().map(|stride| Classes { n, stride: stride.min(n) });
    let past = causality == Causality::Causal;
    let mut scores = Vec::new();
    if let Some(blocks) = blocks {
        scores.push(blocks.scores(query.clone(), key.clone(), past));
    }
    if let Some(classes) = classes {
        // What is near has been seen.
        let from = pattern.reach().map_or(0, |reach| reach + 1);
        scores.push(classes.scores(query, key, past, from));
    }
    let widths: Vec<usize> = scores.iter().map(|part| part.dims()[2]).collect();
    let probabilities = softmax(Tensor::cat(scores, 2));
    let y = match (blocks, classes) {
        (Some(blocks), Some(classes)) => {
            let near = blocks.gather(probabilities.clone().narrow(2, 0, widths[0]), value.clone());
            near + classes.gather(probabilities.narrow(2, widths[0], widths[1]), value)
        }
        (Some(blocks), None) => blocks.gather(probabilities, value),
        (None, Some(classes)) => classes.gather(probabilities, value),
        (None, None) => unreachable!("a pattern has a reach or a stride"),
    };
    y.reshape([batch, heads, n, width])
}

/// Tokens in blocks of `size`, each of which sees itself and its two neighbours.
#[derive(Clone, Copy)]
struct Blocks {
    n: usize,
    reach: usize,
    size: usize,
    count: usize,
}

impl Blocks {
    fn new(n: usize, reach: usize) -> Self {
        let reach = reach.min(n - 1);
        let size = reach.max(1);
        Self { n, reach, size, count: n.div_ceil(size) }
    }

    /// `[b, n, width]` to `[b, count, 3 size, width]`: of each block, those before, in and after it.
    fn neighbourhoods(self, x: Tensor<3>) -> Tensor<4> {
        let [b, _, width] = x.dims();
        let Self { n, size, count, .. } = self;
        let zeros = |tokens| Tensor::zeros([b, tokens, width], (&x.device(), x.dtype()));
        let (before, after) = (zeros(size), zeros(size * (count + 1) - n));
        let x = Tensor::cat(vec![before, x, after], 1);
        let part = |i: usize| x.clone().narrow(1, i * size, count * size).reshape([b, count, size, width]);
        Tensor::cat(vec![part(0), part(1), part(2)], 2)
    }

    /// `[b, n, width]` to `[b, count, size, width]`.
    fn split(self, x: Tensor<3>) -> Tensor<4> {
        let [b, _, width] = x.dims();
        let x = padded(x, self.size * self.count);
        x.reshape([b, self.count, self.size, width])
    }

    fn join(self, x: Tensor<4>) -> Tensor<3> {
        let [b, _, _, width] = x.dims();
        x.reshape([b, self.count * self.size, width]).narrow(1, 0, self.n)
    }

    /// `[b, n, 3 size]`.
    fn scores(self, query: Tensor<3>, key: Tensor<3>, past: bool) -> Tensor<3> {
        let Self { n, reach, size, count } = self;
        let scores = self.split(query).matmul(self.neighbourhoods(key).swap_dims(2, 3));
        let hidden = (0..count * size).flat_map(|i| {
            let first = (i / size * size) as i64 - size as i64;
            (first..first + 3 * size as i64).map(move |j| {
                let offset = j - i as i64;
                let inside = (0..n as i64).contains(&j);
                !inside || offset.unsigned_abs() > reach as u64 || (past && offset > 0)
            })
        });
        let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), [1, count, size, 3 * size]);
        let hidden = Tensor::<4, Bool>::from_data(hidden, &scores.device()).expand(scores.dims());
        self.join(scores.mask_fill(hidden, f32::NEG_INFINITY))
    }

    fn gather(self, probabilities: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        self.join(self.split(probabilities).matmul(self.neighbourhoods(value)))
    }
}

/// Tokens in `stride` classes, by their places modulo it.
#[derive(Clone, Copy)]
struct Classes {
    n: usize,
    stride: usize,
}

impl Classes {
    fn rows(self) -> usize {
        self.n.div_ceil(self.stride)
    }

    /// `[b, n, width]` to `[b, stride, rows, width]`.
    fn split(self, x: Tensor<3>) -> Tensor<4> {
        let [b, _, width] = x.dims();
        padded(x, self.rows() * self.stride).reshape([b, self.rows(), self.stride, width]).swap_dims(1, 2)
    }

    fn join(self, x: Tensor<4>) -> Tensor<3> {
        let [b, _, _, width] = x.dims();
        x.swap_dims(1, 2).reshape([b, self.rows() * self.stride, width]).narrow(1, 0, self.n)
    }

    /// `[b, n, rows]`; keys nearer than `from` places are hidden.
    fn scores(self, query: Tensor<3>, key: Tensor<3>, past: bool, from: usize) -> Tensor<3> {
        let (rows, stride) = (self.rows(), self.stride);
        let scores = self.split(query).matmul(self.split(key).swap_dims(2, 3));
        let hidden = (0..stride).flat_map(|class| {
            (0..rows).flat_map(move |i| {
                (0..rows).map(move |j| {
                    let outside = j * stride + class >= self.n;
                    outside || i.abs_diff(j) * stride < from || (past && j > i)
                })
            })
        });
        let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), [1, stride, rows, rows]);
        let hidden = Tensor::<4, Bool>::from_data(hidden, &scores.device()).expand(scores.dims());
        self.join(scores.mask_fill(hidden, f32::NEG_INFINITY))
    }

    fn gather(self, probabilities: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        self.join(self.split(probabilities).matmul(self.split(value)))
    }
}

/// `x`, `[b, n, width]`, with zeros after it up to `length` tokens.
fn padded(x: Tensor<3>, length: usize) -> Tensor<3> {
    let [b, n, width] = x.dims();
    if n == length {
        return x;
    }
    let zeros = Tensor::zeros([b, length - n, width], (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], 1)
}
