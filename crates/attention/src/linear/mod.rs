//! Linear attention: the similarity of query and key is a product of features, so that sums over keys are made once for all
//! queries (Katharopoulos et al. 2020, "Transformers are RNNs").
//!
//! ```text
//! y_i = sum_j sim(q_i, k_j) v_j / sum_j sim(q_i, k_j)          sim(q, k) = phi(q) phi(k)^T >= 0
//!     = phi(q_i) S / phi(q_i) z                                S = sum_j phi(k_j)^T v_j,   z = sum_j phi(k_j)^T
//! ```
//!
//! With f features and d channels that is O(n f d) in time and O(n) in memory; over the past alone the sums run along
//! ([`causal`]). Which phi is a question of [`feature_maps`], or of chance ([`random_features`]), or is learned.
//!
//! Features and sums are in f32, whatever the type of queries, keys and values is.

pub mod causal;
pub mod feature_maps;
mod layer;
pub mod learned_features;
pub mod random_features;

use burn::tensor::{DType, Int, Tensor};
use kiln_backend::ops::{self, Causality, FeatureFunction};

use feature_maps::FLOOR;

pub use causal::{CausalForm, LinearState, LinearStateRecord, causal_linear_attention};
pub use feature_maps::{FeatureMap, Features, Normaliser};
pub use layer::{LinearAttention, LinearAttentionConfig, LinearKernel};
pub use learned_features::{LearnedFeatures, LearnedFeaturesConfig};
pub use random_features::{RandomFeatures, RandomFeaturesConfig};

/// Linear attention of every query over all keys; `value` is `[batch, heads, m, value_dim]`, the result
/// `[batch, heads, n, value_dim]` in its type. A query that nothing is similar to gets zeros.
///
/// # Panics
///
/// If the shapes do not fit together.
#[must_use]
pub fn linear_attention(features: Features, value: Tensor<4>) -> Tensor<4> {
    let dtype = value.dtype();
    let Features { query, key, normaliser } = features;
    let value = value.cast(DType::F32);
    let y = match normaliser {
        Normaliser::Total { floor } => {
            ops::linear_attention(query, key, value, FeatureFunction::Identity, floor)
        }
        Normaliser::PerFeature => {
            let total = key.clone().sum_dim(2).swap_dims(2, 3).clamp_min(f32::MIN_POSITIVE);
            query.matmul(key.swap_dims(2, 3).matmul(value) / total)
        }
    };
    y.cast(dtype)
}

/// [`linear_attention`] of every query over all keys with the features of `map`; where features go channel by channel, they
/// are made on the way and not kept. Shapes as there, the result in `value`'s type.
///
/// # Panics
///
/// If the shapes do not fit together, or a cosine's sequence is longer than its M.
#[must_use]
pub fn mapped_linear_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    map: FeatureMap,
) -> Tensor<4> {
    let function = match map {
        FeatureMap::EluPlusOne => FeatureFunction::EluPlusOne,
        FeatureMap::Relu => FeatureFunction::Relu,
        FeatureMap::SquaredRelu => FeatureFunction::SquaredRelu,
        _ => return linear_attention(map.features(query, key, 0, Causality::None), value),
    };
    let dtype = value.dtype();
    let [query, key, value] = [query, key, value].map(|x| x.cast(DType::F32));
    ops::linear_attention(query, key, value, function, FLOOR).cast(dtype)
}

/// The same with the matrix of all similarities, O(n m): the definition that the others are held to.
///
/// # Panics
///
/// If the shapes do not fit together.
#[must_use]
pub fn quadratic_linear_attention(features: Features, value: Tensor<4>) -> Tensor<4> {
    let dtype = value.dtype();
    let Features { query, key, normaliser } = features;
    let query = match normaliser {
        Normaliser::Total { .. } => query,
        Normaliser::PerFeature => query / key.clone().sum_dim(2).clamp_min(f32::MIN_POSITIVE),
    };
    let similarity = query.matmul(key.swap_dims(2, 3));
    let y = match normaliser {
        Normaliser::Total { floor } => {
            let total = similarity.clone().sum_dim(3).clamp_min(floor);
            similarity.matmul(value.cast(DType::F32)) / total
        }
        Normaliser::PerFeature => similarity.matmul(value.cast(DType::F32)),
    };
    y.cast(dtype)
}

impl Features {
    /// Hides the keys where `visible`, `[batch, m]`, is 0: the attention mask of a tokenizer.
    ///
    /// # Panics
    ///
    /// If `visible` has another batch or number of keys.
    #[must_use]
    pub fn with_visible_keys(self, visible: Tensor<2, Int>) -> Self {
        let [batch, _, keys, width] = self.key.dims();
        assert_eq!(visible.dims(), [batch, keys], "visible keys of {:?}", self.key.dims());
        let hidden = visible.equal_elem(0).reshape([batch, 1, keys, 1]);
        let hidden = hidden.expand([batch, self.key.dims()[1], keys, width]);
        Self { key: self.key.mask_fill(hidden, 0.0), ..self }
    }
}
