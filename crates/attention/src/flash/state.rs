//! FLASH over the past, token by token: what is kept of the past does not grow with it.
//!
//! ```text
//! y_i  = sum_(j in c(i), j <= i) a_ij v_j  +  q'_i P / (c g)
//! open = open + k'_i^T v_i                       and when the chunk is full: P = P + open, open = 0, c = c + 1
//! ```
//!
//! Kept are the keys and values of the chunk that is not full yet, and the two sums: O(g (s + e) + s e).

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::Flash;
use crate::gau::{Gated, turned};
use crate::mask::hidden_by_offset;

/// What a causal [`Flash`] keeps of the tokens that it has seen; starts empty.
#[derive(Clone, Debug, Default)]
pub struct FlashState {
    seen: usize,
    /// Keys, `[batch, m, s]`, and values, `[batch, m, e]`, of the m tokens of the chunk that is not full.
    chunk: Option<[Tensor<3>; 2]>,
    /// Sums of k'^T v, `[batch, s, e]`, in f32: of that chunk, and of those before it.
    open: Option<Tensor<3>>,
    past: Option<Tensor<3>>,
}

/// A [`FlashState`] as plain numbers, to be written with serde.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlashStateRecord {
    seen: usize,
    chunk: Option<[TensorData; 2]>,
    open: Option<TensorData>,
    past: Option<TensorData>,
}

impl FlashState {
    /// Number of tokens seen so far: the place of the next.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Number of tokens whose keys and values are kept: less than a chunk.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.chunk.as_ref().map_or(0, |[key, _]| key.dims()[1])
    }

    /// Its numbers.
    #[must_use]
    pub fn to_record(&self) -> FlashStateRecord {
        let numbers = |x: &Option<Tensor<3>>| x.clone().map(Tensor::into_data);
        FlashStateRecord {
            seen: self.seen,
            chunk: self.chunk.clone().map(|both| both.map(Tensor::into_data)),
            open: numbers(&self.open),
            past: numbers(&self.past),
        }
    }

    /// What [`to_record`](Self::to_record) gave, on `device`; `None` if the record is of no state.
    #[must_use]
    pub fn from_record(record: FlashStateRecord, device: &Device) -> Option<Self> {
        let FlashStateRecord { seen, chunk, open, past } = record;
        let kept = match &chunk {
            None => 0,
            Some([key, value]) => {
                let fits = key.rank() == 3 && value.rank() == 3 && key.shape()[..2] == value.shape()[..2];
                if !fits {
                    return None;
                }
                key.shape()[1]
            }
        };
        let sums_fit = [&open, &past].into_iter().flatten().all(|x| x.rank() == 3 && x.dtype() == DType::F32);
        // The chunk's tokens are in its sum, and what was seen before them in the other.
        if !sums_fit || kept > seen || open.is_some() != (kept > 0) || past.is_some() != (seen > kept) {
            return None;
        }
        let sum = |data: TensorData| Tensor::from_data(data, (device, DType::F32));
        let kept = |data: TensorData| {
            let dtype = data.dtype();
            Tensor::from_data(data, (device, dtype))
        };
        Some(Self { seen, chunk: chunk.map(|both| both.map(kept)), open: open.map(sum), past: past.map(sum) })
    }

    /// Adds tokens of the open chunk; gives its keys and values, the newest last.
    fn append(&mut self, key: Tensor<3>, value: Tensor<3>) -> [Tensor<3>; 2] {
        self.seen += key.dims()[1];
        let all = match self.chunk.take() {
            None => [key, value],
            Some([keys, values]) => [Tensor::cat(vec![keys, key], 1), Tensor::cat(vec![values, value], 1)],
        };
        self.chunk = Some(all.clone());
        all
    }

    /// The chunk is full: it is past.
    fn close(&mut self) {
        self.chunk = None;
        self.past = match (self.past.take(), self.open.take()) {
            (Some(past), Some(open)) => Some(past + open),
            (past, open) => past.or(open),
        };
    }
}

impl Flash {
    /// The next n tokens, `[batch, n, width]`, over those that `state` has seen and themselves. Token by token, or many at a
    /// time: the results are those of one causal [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// If the layer is not causal, or the state another layer's.
    #[must_use]
    pub fn decode(&self, x: Tensor<3>, state: &mut FlashState) -> Tensor<3> {
        assert!(self.is_causal(), "only causal attention can go on from a state");
        let n = x.dims()[1];
        let mut parts = Vec::new();
        let mut first = 0;
        while first < n {
            let count = (self.chunk - state.seen % self.chunk).min(n - first);
            parts.push(self.within_a_chunk(x.clone().narrow(1, first, count), state));
            first += count;
        }
        if parts.is_empty() { x } else { Tensor::cat(parts, 1) }
    }

    /// The next tokens, none of them beyond the end of the open chunk.
    fn within_a_chunk(&self, x: Tensor<3>, state: &mut FlashState) -> Tensor<3> {
        let [batch, n, _] = x.dims();
        let device = x.device();
        let (first, in_chunk) = (state.seen, state.seen % self.chunk);
        assert_eq!(state.kept(), in_chunk, "the state is of chunks of another length");
        let Gated { gate, value, shared } = self.unit.project(x.clone());
        let heads = turned(self.shared.forward(shared), self.rotary.as_ref(), first);
        let [.., shared_dim] = heads.dims();
        let [q, k, q_far, k_far] =
            [0, 1, 2, 3].map(|head| heads.clone().narrow(1, head, 1).squeeze_dim::<3>(1));
        let dtype = value.dtype();

        let [keys, values] = state.append(k, value.clone());
        let seen = in_chunk + n;
        let future = hidden_by_offset(n, seen, |offset| offset <= 0, &device);
        let products = q.matmul(keys.swap_dims(1, 2)).unsqueeze_dim::<4>(1);
        let length = Tensor::full([1, 1, 1, 1], self.chunk as f64, (&device, dtype));
        let bias = self.bias.from(in_chunk, n, seen);
        let weights =
            self.scores.weights(products, bias, future.expand([batch, 1, n, seen]), length, shared_dim);
        let near = weights.squeeze_dim::<3>(1).matmul(values);

        let y = match &state.past {
            None => near,
            Some(past) => {
                let mean = past.clone().div_scalar((first - in_chunk) as f64);
                near + q_far.matmul(mean.cast(dtype))
            }
        };
        let sum = k_far.cast(DType::F32).swap_dims(1, 2).matmul(value.cast(DType::F32));
        state.open = Some(match state.open.take() {
            Some(open) => open + sum,
            None => sum,
        });
        if seen == self.chunk {
            state.close();
        }
        x + self.unit.close(gate, y)
    }
}
