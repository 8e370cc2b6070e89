//! Keys and values of tokens that have been seen, kept for those that come (Shazeer 2019, section 2.4.1): decoding asks each
//! new token's query against them, and projects no token twice.
//!
//! ```text
//! (K, V) <- ([K, k_t], [V, v_t]),    y_t = softmax(q_t K^T / sqrt(d)) V
//! ```

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The keys and values of one layer; starts empty.
#[derive(Clone, Debug, Default)]
pub struct KeyValueCache {
    kept: Option<[Tensor<4>; 2]>,
    seen: usize,
    window: Option<usize>,
}

/// A [`KeyValueCache`] as plain numbers, to be written with serde.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyValueRecord {
    kept: Option<[TensorData; 2]>,
    seen: usize,
    window: Option<usize>,
}

impl KeyValueCache {
    /// Nothing seen yet, all to be kept.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing seen yet; of what comes, each token sees the last `window` tokens, itself among them, and no more are kept.
    ///
    /// # Panics
    ///
    /// If `window` is 0.
    #[must_use]
    pub fn sliding(window: usize) -> Self {
        assert!(window > 0, "a window of no tokens sees none");
        Self { window: Some(window), ..Self::default() }
    }

    /// Number of tokens seen so far: the place of the next.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Number of tokens kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.as_ref().map_or(0, |[key, _]| key.dims()[2])
    }

    /// How far back a token sees, itself counted.
    #[must_use]
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// Adds the keys and values, `[batch, heads, n, width]` each, of the next n tokens; gives those that these n tokens may
    /// ask, the newest last.
    ///
    /// # Panics
    ///
    /// If the shapes differ from those of before in more than n.
    pub fn append(&mut self, key: Tensor<4>, value: Tensor<4>) -> [Tensor<4>; 2] {
        self.seen += key.dims()[2];
        let all = match self.kept.take() {
            None => [key, value],
            Some([keys, values]) => [Tensor::cat(vec![keys, key], 2), Tensor::cat(vec![values, value], 2)],
        };
        let last = |x: &Tensor<4>, n: usize| {
            let length = x.dims()[2];
            x.clone().narrow(2, length - length.min(n), length.min(n))
        };
        // The next token is itself one of its window.
        self.kept = Some(match self.window {
            Some(window) => all.each_ref().map(|x| last(x, window - 1)),
            None => all.clone(),
        });
        all
    }

    /// Forgets the last `n` tokens: a draft that was not accepted. With a window, what fell out of it does not come back.
    ///
    /// # Panics
    ///
    /// If fewer are kept.
    pub fn forget(&mut self, n: usize) {
        let kept = self.kept();
        assert!(n <= kept, "{n} tokens cannot be forgotten of {kept}");
        self.seen -= n;
        self.kept = self.kept.take().map(|both| both.map(|x| x.narrow(2, 0, kept - n)));
    }

    /// Its numbers.
    #[must_use]
    pub fn to_record(&self) -> KeyValueRecord {
        let kept = self.kept.clone().map(|both| both.map(Tensor::into_data));
        KeyValueRecord { kept, seen: self.seen, window: self.window }
    }

    /// What [`to_record`](Self::to_record) gave, on `device`; `None` if the record is of no cache.
    #[must_use]
    pub fn from_record(record: KeyValueRecord, device: &Device) -> Option<Self> {
        let KeyValueRecord { kept, seen, window } = record;
        if let Some([key, value]) = &kept {
            let fits = key.rank() == 4 && value.rank() == 4 && key.shape()[..3] == value.shape()[..3];
            if !fits || key.shape()[2] > seen {
                return None;
            }
        }
        let kept = kept.map(|both| both.map(|data| Tensor::from_data(data, device)));
        (window != Some(0)).then_some(Self { kept, seen, window })
    }
}
