//! Feature maps without parameters.
//!
//! ```text
//! elu + 1        phi(x) = x + 1 for x > 0, e^x otherwise              Katharopoulos et al. 2020
//! ReLU, ReLU^2   phi(x) = max(x, 0), max(x, 0)^2                      Kasai et al. 2021; So et al. 2021 for the square
//! exp            phi(x) = e^x
//! two softmaxes  y_i = softmax_f(q_i) softmax_j(k)^T v                Shen et al. 2021, "Efficient Attention"
//! Taylor         sim(q, k) = 1 + (q / |q|) (k / |k|)^T                Li et al. 2020, "Linear Attention Mechanism"
//! cosine         sim(q_i, k_j) = ReLU(q_i) ReLU(k_j)^T cos(pi (i - j) / 2 M)      Qin et al. 2022, "cosFormer"
//! ```
//!
//! Two softmaxes are of the general form with one normaliser a feature: softmax over keys divides e^k by its sum over them.
//! Over the past alone, that sum is over the past.

use std::f64::consts::FRAC_PI_2;

use burn::tensor::activation;
use burn::tensor::{DType, Tensor, TensorData};
use kiln_backend::ops::Causality;
use serde::{Deserialize, Serialize};

/// phi of queries and keys, in f32.
#[derive(Clone, Debug)]
pub struct Features {
    /// `[batch, heads, n, features]`.
    pub query: Tensor<4>,
    /// `[batch, heads, m, features]`.
    pub key: Tensor<4>,
    /// What similarities are divided by.
    pub normaliser: Normaliser,
}

/// What similarities are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normaliser {
    /// Their sum over keys, or `floor` where that is more: below it, a sum is rounding.
    Total {
        /// The least sum.
        floor: f64,
    },
    /// Feature by feature, the sum of the keys' features.
    PerFeature,
}

/// A feature map without parameters; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureMap {
    /// elu(x) + 1.
    #[default]
    EluPlusOne,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    SquaredRelu,
    /// e^x.
    Exp,
    /// Softmax over a query's channels, and over keys.
    TwoSoftmax,
    /// 1 + q k^T of normalised q and k.
    Taylor,
    /// ReLU, weighted with the cosine of the distance.
    Cosine {
        /// M: the longest sequence.
        length: usize,
    },
}

/// The least sum of similarities that is not taken for none.
pub(super) const FLOOR: f64 = 1e-12;

impl FeatureMap {
    /// The features of `query`, `[batch, heads, n, d]`, and `key`, `[batch, heads, m, d]`, whose first tokens stand at place
    /// `first`. Exponentials are scaled so that they fit; over the past alone, a scale by the largest key would tell of the
    /// future, so there keys must be below 88.
    ///
    /// # Panics
    ///
    /// If a cosine's sequence is longer than its M.
    #[must_use]
    pub fn features(self, query: Tensor<4>, key: Tensor<4>, first: usize, causality: Causality) -> Features {
        let (query, key) = (query.cast(DType::F32), key.cast(DType::F32));
        let total = Normaliser::Total { floor: FLOOR };
        let both = |phi: fn(Tensor<4>) -> Tensor<4>, query, key| Features {
            query: phi(query),
            key: phi(key),
            normaliser: total,
        };
        match self {
            Self::EluPlusOne => both(elu_plus_one, query, key),
            Self::Relu => both(activation::relu, query, key),
            Self::SquaredRelu => both(|x| activation::relu(x).square(), query, key),
            Self::Exp => {
                // One factor a query, and one for all keys: both cancel.
                let query = (query.clone() - query.detach().max_dim(3)).exp();
                let key = match causality {
                    Causality::None => (key.clone() - key.detach().max_dim(3).max_dim(2)).exp(),
                    Causality::Causal => key.exp(),
                };
                Features { query, key, normaliser: total }
            }
            Self::TwoSoftmax => {
                let key = match causality {
                    // One factor a feature: it cancels.
                    Causality::None => (key.clone() - key.detach().max_dim(2)).exp(),
                    Causality::Causal => key.exp(),
                };
                Features { query: activation::softmax(query, 3), key, normaliser: Normaliser::PerFeature }
            }
            Self::Taylor => Features {
                query: one_and_direction(query),
                key: one_and_direction(key),
                // 1 + cos is exact to about 1e-7: where all keys look away from a query, nothing else is left.
                normaliser: Normaliser::Total { floor: 1e-5 },
            },
            Self::Cosine { length } => Features {
                query: cosines(activation::relu(query), first, length),
                key: cosines(activation::relu(key), first, length),
                normaliser: total,
            },
        }
    }

    /// Number of features of heads of `head_dim` channels.
    #[must_use]
    pub fn width(self, head_dim: usize) -> usize {
        match self {
            Self::EluPlusOne | Self::Relu | Self::SquaredRelu | Self::Exp | Self::TwoSoftmax => head_dim,
            Self::Taylor => head_dim + 1,
            Self::Cosine { .. } => 2 * head_dim,
        }
    }
}

fn elu_plus_one(x: Tensor<4>) -> Tensor<4> {
    // The exponential of what is not positive: neither it nor its gradient can overflow.
    activation::relu(x.clone()) + x.clamp_max(0.0).exp()
}

/// `[1, x / |x|]`; of zeros, `[1, 0]`.
fn one_and_direction(x: Tensor<4>) -> Tensor<4> {
    let [batch, heads, n, _] = x.dims();
    let norm = x.clone().square().sum_dim(3).clamp_min(1e-24).sqrt();
    let one = Tensor::ones([batch, heads, n, 1], (&x.device(), DType::F32));
    Tensor::cat(vec![one, x / norm], 3)
}

/// `[x cos(pi i / 2 M), x sin(pi i / 2 M)]` for token i.
fn cosines(x: Tensor<4>, first: usize, length: usize) -> Tensor<4> {
    let n = x.dims()[2];
    assert!(first + n <= length, "{n} tokens from place {first} on are more than {length}");
    let angles = || (first..first + n).map(|i| FRAC_PI_2 * i as f64 / length as f64);
    let weights = |values: Vec<f32>| {
        let data = TensorData::new(values, [1, 1, n, 1]);
        Tensor::<4>::from_data(data, (&x.device(), DType::F32))
    };
    let cos = weights(angles().map(|a| a.cos() as f32).collect());
    let sin = weights(angles().map(|a| a.sin() as f32).collect());
    Tensor::cat(vec![x.clone() * cos, x * sin], 3)
}
