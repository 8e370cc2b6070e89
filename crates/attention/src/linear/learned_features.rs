//! Features that are learned, head by head (Kasai et al. 2021, "Finetuning Pretrained Transformers into RNNs").
//!
//! ```text
//! phi_h(x) = max(x W_h + b_h, 0)
//! ```

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor, activation};

use super::feature_maps::{FLOOR, Features, Normaliser};

/// Configuration of [`LearnedFeatures`].
#[derive(Config, Debug)]
pub struct LearnedFeaturesConfig {
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Features of a head.
    pub features: usize,
}

/// Learned features, each head's its own; see the [module](self).
#[derive(Module, Debug)]
pub struct LearnedFeatures {
    /// `[heads, head_dim, features]`.
    pub weight: Param<Tensor<3>>,
    /// `[heads, features]`.
    pub bias: Param<Tensor<2>>,
}

impl LearnedFeaturesConfig {
    /// Weights of variance 1 / `head_dim`, and no bias, on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> LearnedFeatures {
        let std = 1.0 / (self.head_dim as f64).sqrt();
        LearnedFeatures {
            weight: Initializer::Normal { mean: 0.0, std }
                .init([self.heads, self.head_dim, self.features], device),
            bias: Initializer::Zeros.init([self.heads, self.features], device),
        }
    }
}

impl LearnedFeatures {
    /// The features of `query` and `key`, `[batch, heads, n, head_dim]`.
    ///
    /// # Panics
    ///
    /// If the heads are others.
    #[must_use]
    pub fn features(&self, query: Tensor<4>, key: Tensor<4>) -> Features {
        let weight = self.weight.val().cast(DType::F32).unsqueeze_dim::<4>(0);
        let bias = self.bias.val().cast(DType::F32).unsqueeze_dim::<3>(1).unsqueeze_dim::<4>(0);
        let phi = |x: Tensor<4>| activation::relu(x.cast(DType::F32).matmul(weight.clone()) + bias.clone());
        Features { query: phi(query), key: phi(key), normaliser: Normaliser::Total { floor: FLOOR } }
    }
}
