//! Relative positions in buckets, with a learned bias for each bucket and head (Raffel et al. 2020, "Exploring the Limits of
//! Transfer Learning with a Unified Text-to-Text Transformer", section 2.1).
//!
//! ```text
//! score(i, j) = q_i k_j^T + w[bucket(j - i), head]
//! bucket(r)   = r                                                 r < n/2       one bucket a distance
//!             = n/2 + floor(n/2 ln(2r/n) / ln(2 max_distance/n))  otherwise     wider and wider, n-1 at most
//! ```
//!
//! with n buckets for distances into the past. Where the future is visible too, it has as many buckets of its own, after
//! the past's.

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_backend::ops::Causality;

/// How distances are put into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBuckets {
    buckets: usize,
    max_distance: usize,
    causality: Causality,
}

impl RelativeBuckets {
    /// `buckets` in all, half of them for the future unless it is hidden; from `max_distance` on, all is in one bucket.
    /// `None` if there are too few buckets to have both kinds, or `max_distance` lies among those of one distance each.
    #[must_use]
    pub fn new(buckets: usize, max_distance: usize, causality: Causality) -> Option<Self> {
        let new = Self { buckets, max_distance, causality };
        let exact = new.of_one_side() / 2;
        (exact > 0 && max_distance > exact).then_some(new)
    }

    fn of_one_side(&self) -> usize {
        match self.causality {
            Causality::None => self.buckets / 2,
            Causality::Causal => self.buckets,
        }
    }

    /// The bucket of a key `offset` places after its query (before it, if negative).
    #[must_use]
    pub fn bucket(&self, offset: i64) -> usize {
        let n = self.of_one_side();
        let (first, distance) = match self.causality {
            Causality::None if offset > 0 => (n, offset.unsigned_abs()),
            Causality::None => (0, offset.unsigned_abs()),
            // A key of the future is never seen; it counts as the present.
            Causality::Causal => (0, offset.min(0).unsigned_abs()),
        };
        let exact = n / 2;
        let distance = usize::try_from(distance).unwrap_or(usize::MAX);
        if distance < exact {
            return first + distance;
        }
        // In f32, as it was trained: on the border of two buckets the last place decides.
        let octaves = (distance as f32 / exact as f32).ln();
        let range = (self.max_distance as f64 / exact as f64).ln() as f32;
        let wider = (octaves / range * (n - exact) as f32) as usize;
        first + (exact + wider).min(n - 1)
    }

    /// The bucket of each key for each query, `[queries, keys]`; keys stand from place 0 on, queries from place `first` on.
    #[must_use]
    pub fn table(&self, first: usize, queries: usize, keys: usize) -> TensorData {
        // Only so many offsets are different.
        let nearest = -((first + queries) as i64);
        let line: Vec<i64> = (0..queries + keys).map(|i| self.bucket(nearest + i as i64) as i64).collect();
        let rows = (0..queries).flat_map(|query| line[queries - query..].iter().take(keys).copied());
        TensorData::new(rows.collect::<Vec<_>>(), [queries, keys])
    }
}

/// Configuration of a [`RelativeBias`].
#[derive(Config, Debug)]
pub struct RelativeBiasConfig {
    /// Number of buckets, future and past together.
    pub buckets: usize,
    /// Number of heads.
    pub heads: usize,
    /// Distance from which on all is in one bucket.
    #[config(default = 128)]
    pub max_distance: usize,
    /// Whether the future is hidden: then all buckets are the past's.
    #[config(default = "Causality::None")]
    pub causality: Causality,
    /// Standard deviation at the start.
    #[config(default = 1.0)]
    pub std: f64,
}

/// The learned bias of every bucket and head.
#[derive(Module, Debug)]
pub struct RelativeBias {
    /// `[buckets, heads]`.
    pub weight: Param<Tensor<2>>,
    max_distance: usize,
    #[module(skip)]
    causality: Causality,
}

impl RelativeBiasConfig {
    /// The table, normally distributed, on `device`.
    ///
    /// # Panics
    ///
    /// If [`RelativeBuckets::new`] makes none of these numbers.
    #[must_use]
    pub fn init(&self, device: &Device) -> RelativeBias {
        assert!(
            RelativeBuckets::new(self.buckets, self.max_distance, self.causality).is_some(),
            "{} buckets do not reach to a distance of {}",
            self.buckets,
            self.max_distance
        );
        let initializer = Initializer::Normal { mean: 0.0, std: self.std };
        RelativeBias {
            weight: initializer.init([self.buckets, self.heads], device),
            max_distance: self.max_distance,
            causality: self.causality,
        }
    }
}

impl RelativeBias {
    /// The bias of every score, `[1, heads, queries, keys]`.
    ///
    /// # Panics
    ///
    /// If the number of buckets does not reach to the greatest distance.
    #[must_use]
    pub fn forward(&self, queries: usize, keys: usize) -> Tensor<4> {
        self.from(0, queries, keys)
    }

    /// [`forward`](Self::forward) for queries that stand from place `first` on.
    ///
    /// # Panics
    ///
    /// As there.
    #[must_use]
    pub fn from(&self, first: usize, queries: usize, keys: usize) -> Tensor<4> {
        let weight = self.weight.val();
        let [count, heads] = weight.dims();
        let buckets = RelativeBuckets::new(count, self.max_distance, self.causality)
            .expect("the config has been checked against its buckets");
        let table = Tensor::<2, Int>::from_data(buckets.table(first, queries, keys), &weight.device());
        let rows = weight.select(0, table.reshape([queries * keys]));
        rows.reshape([queries, keys, heads]).permute([2, 0, 1]).unsqueeze_dim(0)
    }
}
