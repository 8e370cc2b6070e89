//! Linear attention over the past, three ways that agree (Katharopoulos et al. 2020, section 3.3; chunks: Hua et al. 2022,
//! section 3.2).
//!
//! ```text
//! quadratic    y_i = sum_(j <= i) (phi(q_i) phi(k_j)^T) v_j / sum_(j <= i) phi(q_i) phi(k_j)^T
//! recurrent    S_i = S_(i-1) + phi(k_i)^T v_i,   z_i = z_(i-1) + phi(k_i)^T,   y_i = phi(q_i) S_i / phi(q_i) z_i
//! chunked      within a chunk quadratic, from all chunks before it by their S and z
//! ```
//!
//! z stands as one more column in S, as if every value ended with a 1. S is all that decoding keeps: a token costs as much
//! after a million others as after ten.

use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Features, Normaliser};

/// How sums over the past are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CausalForm {
    /// With the matrix of all similarities: O(n^2), the definition.
    Quadratic,
    /// With such matrices within chunks of this many tokens: O(n).
    Chunked(usize),
    /// Token by token: O(n), and nothing is parallel.
    Recurrent,
}

impl Default for CausalForm {
    fn default() -> Self {
        Self::Chunked(64)
    }
}

/// What is left of the past: S and z, one column of the same tensor. Starts empty.
#[derive(Clone, Debug, Default)]
pub struct LinearState {
    /// `[batch, heads, features, value_dim + 1]`.
    sums: Option<Tensor<4>>,
    seen: usize,
}

/// A [`LinearState`] as plain numbers, to be written with serde.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinearStateRecord {
    sums: Option<TensorData>,
    seen: usize,
}

/// Linear attention over the past: query i sees the keys `0..=i`; `value` is `[batch, heads, n, value_dim]`, and so is the
/// result, in its type.
///
/// # Panics
///
/// If the shapes do not fit together, or chunks are of no tokens.
#[must_use]
pub fn causal_linear_attention(features: Features, value: Tensor<4>, form: CausalForm) -> Tensor<4> {
    match form {
        CausalForm::Quadratic => {
            let n = value.dims()[2];
            LinearState::default().advance(features, value, n.max(1))
        }
        CausalForm::Chunked(chunk) => LinearState::default().advance(features, value, chunk),
        CausalForm::Recurrent => {
            let mut state = LinearState::default();
            let Features { query, key, normaliser } = features;
            let steps = (0..value.dims()[2]).map(|i| {
                let at = |x: &Tensor<4>| x.clone().narrow(2, i, 1);
                let features = Features { query: at(&query), key: at(&key), normaliser };
                state.advance(features, at(&value), 1)
            });
            Tensor::cat(steps.collect(), 2)
        }
    }
}

impl LinearState {
    /// Number of tokens seen so far: the place of the next.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The next n tokens, `chunk` of them at a time: their answers, `[batch, heads, n, value_dim]`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together or to those of before, or `chunk` is 0.
    #[must_use]
    pub fn advance(&mut self, features: Features, value: Tensor<4>, chunk: usize) -> Tensor<4> {
        assert!(chunk > 0, "a chunk of no tokens comes to no end");
        let dtype = value.dtype();
        let Features { query, key, normaliser } = features;
        let [batch, heads, n, width] = query.dims();
        let value_dim = value.dims()[3];
        assert!(
            key.dims() == query.dims() && value.dims()[..3] == query.dims()[..3],
            "causal linear attention: queries {:?}, keys {:?} and values {:?} do not fit together",
            query.dims(),
            key.dims(),
            value.dims()
        );
        if n == 0 {
            return value;
        }
        let device = query.device();
        let before = match self.sums.take() {
            Some(sums) => sums,
            None => Tensor::zeros([batch, heads, width, value_dim + 1], (&device, DType::F32)),
        };
        assert_eq!(before.dims(), [batch, heads, width, value_dim + 1], "the state is of other sizes");
        let query = match normaliser {
            Normaliser::Total { .. } => query,
            Normaliser::PerFeature => {
                // z before is summed with the keys and not added to their sums: such a column of a larger tensor, added
                // element by element, is read wrong by Burn's fusion on GPUs.
                let z = before.clone().narrow(3, value_dim, 1).swap_dims(2, 3);
                let z = Tensor::cat(vec![z, key.clone()], 2).cumsum(2).narrow(2, 1, n);
                query / z.clamp_min(f32::MIN_POSITIVE)
            }
        };
        let ones = Tensor::ones([batch, heads, n, 1], (&device, DType::F32));
        let value = Tensor::cat(vec![value.cast(DType::F32), ones], 3);

        let chunk = chunk.min(n);
        let chunks = n.div_ceil(chunk);
        // Tokens of zeros fill up the last chunk: they come after all others, and add nothing to any sum.
        let in_chunks = |x: Tensor<4>| {
            let width = x.dims()[3];
            let x = match chunks * chunk - n {
                0 => x,
                missing => {
                    let rest = Tensor::zeros([batch, heads, missing, width], (&device, DType::F32));
                    Tensor::cat(vec![x, rest], 2)
                }
            };
            x.reshape([batch * heads, chunks, chunk, width])
        };
        let [query, key, value] = [query, key, value].map(in_chunks);
        let of_chunks = key.clone().swap_dims(2, 3).matmul(value.clone());
        let before = before.reshape([batch * heads, 1, width, value_dim + 1]);
        // S before each chunk, and at the last place S after all.
        let sums = match chunks {
            1 => Tensor::cat(vec![before.clone(), before + of_chunks], 1),
            _ => Tensor::cat(vec![before, of_chunks], 1).cumsum(1),
        };
        let after = sums.clone().narrow(1, chunks, 1).reshape([batch, heads, width, value_dim + 1]);
        let future = Tensor::<2, Bool>::tril_mask([chunk, chunk], 0, &device);
        let future = future.reshape([1, 1, chunk, chunk]).expand([batch * heads, chunks, chunk, chunk]);
        let within = query.clone().matmul(key.swap_dims(2, 3)).mask_fill(future, 0.0).matmul(value);
        let y = within + query.matmul(sums.narrow(1, 0, chunks));
        let y = y.reshape([batch, heads, chunks * chunk, value_dim + 1]).narrow(2, 0, n);
        self.sums = Some(after);
        self.seen += n;
        let sums = y.clone().narrow(3, 0, value_dim);
        match normaliser {
            Normaliser::Total { floor } => sums / y.narrow(3, value_dim, 1).clamp_min(floor),
            Normaliser::PerFeature => sums,
        }
        .cast(dtype)
    }

    /// Its numbers.
    #[must_use]
    pub fn to_record(&self) -> LinearStateRecord {
        LinearStateRecord { sums: self.sums.clone().map(Tensor::into_data), seen: self.seen }
    }

    /// What [`to_record`](Self::to_record) gave, on `device`; `None` if the record is of no state.
    #[must_use]
    pub fn from_record(record: LinearStateRecord, device: &Device) -> Option<Self> {
        let LinearStateRecord { sums, seen } = record;
        let fits = sums.as_ref().is_none_or(|sums| sums.rank() == 4 && sums.dtype() == DType::F32);
        let sums = sums.filter(|_| fits).map(|data| Tensor::from_data(data, (device, DType::F32)));
        fits.then_some(Self { sums, seen })
    }
}
