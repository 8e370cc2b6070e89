//! Softmax attention of low rank: the matrix of scores is not of full rank, nearly, and need not be made.
//!
//! ```text
//! Linformer   y = softmax(Q (E K)^T / sqrt(d)) F V            E, F: [r, m], learned; Wang et al. 2020
//! Nystrom     y = softmax(Q K~^T) softmax(Q~ K~^T)^+ softmax(Q~ K^T) V      Xiong et al. 2021, "Nystromformer"
//! ```
//!
//! with landmarks Q~, K~ the means over segments of n / r tokens. The pseudo-inverse is an iteration of the third order
//! (Razavi et al. 2014), Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4.

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{AttentionOptions, scaled_dot_product_attention};
use serde::{Deserialize, Serialize};

use crate::grouped::softmax;

/// Which of Linformer's projections are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Keys and values have projections of their own.
    #[default]
    None,
    /// One for both.
    KeyValue,
}

/// Configuration of [`Linformer`].
#[derive(Config, Debug)]
pub struct LinformerConfig {
    /// m: the longest sequence.
    pub length: usize,
    /// r: the rank.
    pub rank: usize,
    /// Which projections are one.
    #[config(default = "Sharing::None")]
    pub sharing: Sharing,
}

/// Linformer's attention, without projections of channels; the same E and F for all heads. See the [module](self).
#[derive(Module, Debug)]
pub struct Linformer {
    /// E, `[rank, length]`.
    pub key: Param<Tensor<2>>,
    /// F, if it is not E.
    pub value: Option<Param<Tensor<2>>>,
}

impl LinformerConfig {
    /// Projections of variance 1 / `length` on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> Linformer {
        let std = 1.0 / (self.length.max(1) as f64).sqrt();
        let new = || Initializer::Normal { mean: 0.0, std }.init([self.rank, self.length], device);
        Linformer { key: new(), value: (self.sharing == Sharing::None).then(new) }
    }
}

impl Linformer {
    /// `query` is `[batch, heads, n, d]`, `key` and `value` are `[batch, heads, m, d]` with m at most the longest sequence;
    /// of a shorter one the first columns of E and F are taken. The result is `[batch, heads, n, d]`.
    ///
    /// # Panics
    ///
    /// If there are more keys than that.
    #[must_use]
    pub fn forward(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
        let keys = key.dims()[2];
        let length = self.key.val().dims()[1];
        assert!(keys <= length, "{keys} keys for projections of {length}");
        let project = |projection: &Param<Tensor<2>>, x: Tensor<4>| {
            projection.val().narrow(1, 0, keys).unsqueeze::<4>().matmul(x)
        };
        let value = project(self.value.as_ref().unwrap_or(&self.key), value);
        scaled_dot_product_attention(query, project(&self.key, key), value, AttentionOptions::default())
    }
}

/// Nystrom attention: `query`, `key` and `value` are `[batch, heads, n, d]`, and so is the result. With `landmarks` of n, it
/// is softmax attention.
///
/// # Panics
///
/// If `landmarks` does not divide n, or the shapes do not fit together.
#[must_use]
pub fn nystrom(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    landmarks: usize,
    iterations: usize,
) -> Tensor<4> {
    let [batch, heads, n, d] = query.dims();
    assert_eq!(key.dims(), query.dims(), "Nystrom attention is of a sequence to itself");
    assert!(
        landmarks > 0 && n.is_multiple_of(landmarks),
        "{landmarks} landmarks do not divide {n} tokens into segments"
    );
    if landmarks == n {
        return scaled_dot_product_attention(query, key, value, AttentionOptions::default());
    }
    // Half of 1 / sqrt(d) each.
    let scale = (d as f64).powf(-0.25);
    let (query, key) = (query.mul_scalar(scale), key.mul_scalar(scale));
    let means = |x: &Tensor<4>| {
        let segments = x.clone().reshape([batch, heads, landmarks, n / landmarks, d]);
        segments.mean_dim(3).reshape([batch, heads, landmarks, d])
    };
    let (of_queries, of_keys) = (means(&query), means(&key));
    let to_landmarks = softmax(query.matmul(of_keys.clone().swap_dims(2, 3)));
    let among = softmax(of_queries.clone().matmul(of_keys.swap_dims(2, 3)));
    let from_landmarks = scaled_dot_product_attention(
        of_queries,
        key,
        value,
        AttentionOptions { scale: Some(1.0), ..Default::default() },
    );
    to_landmarks.matmul(pseudo_inverse(among, iterations).matmul(from_landmarks))
}

/// The pseudo-inverse of matrices whose rows sum to 1, `[batch, heads, r, r]`, by as many iterations. They start from
/// `A^T / c` with c the greatest sum of a column over the whole batch.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "tensors go by value, as everywhere")]
pub fn pseudo_inverse(matrix: Tensor<4>, iterations: usize) -> Tensor<4> {
    let [.., r, _] = matrix.dims();
    let identity = Tensor::<2>::eye(r, &matrix.device()).cast(matrix.dtype()).unsqueeze::<4>();
    let largest = matrix.clone().sum_dim(2).max().reshape([1, 1, 1, 1]);
    let mut inverse = matrix.clone().swap_dims(2, 3) / largest;
    for _ in 0..iterations {
        let product = matrix.clone().matmul(inverse.clone());
        let inner = identity.clone().mul_scalar(7.0) - product.clone();
        let inner = identity.clone().mul_scalar(15.0) - product.clone().matmul(inner);
        let inner = identity.clone().mul_scalar(13.0) - product.matmul(inner);
        inverse = inverse.mul_scalar(0.25).matmul(inner);
    }
    inverse
}
