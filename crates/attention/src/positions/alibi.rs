//! Attention with linear biases (Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input
//! Length Extrapolation").
//!
//! ```text
//! score(i, j) = q_i k_j^T / sqrt(d) - m_h |i - j|
//! m_h         = 2^(-8 h / H), h = 1 ... H        H a power of two
//! ```
//!
//! For other H: the slopes of the power of two below, then every second one of the power of two above.

use burn::tensor::{Device, Tensor, TensorData};

use crate::Mask;

/// m_h for each of `heads` heads.
#[must_use]
pub fn slopes(heads: usize) -> Vec<f64> {
    let of_power = |count: usize| (1..=count).map(move |head| (-8.0 * head as f64 / count as f64).exp2());
    if heads == 0 {
        return Vec::new();
    }
    let below = 1 << heads.ilog2();
    let more = of_power(2 * below).step_by(2).take(heads - below);
    of_power(below).chain(more).collect()
}

/// `-m_h |i - j|`, `[1, heads, queries, keys]`; the last query stands at the last key.
///
/// # Panics
///
/// If there are more queries than keys.
#[must_use]
pub fn alibi(heads: usize, queries: usize, keys: usize, device: &Device) -> Mask {
    assert!(queries <= keys, "{queries} queries do not stand at the last of {keys} keys");
    let past = keys - queries;
    let mut bias = Vec::with_capacity(heads * queries * keys);
    for slope in slopes(heads) {
        for query in past..keys {
            bias.extend((0..keys).map(|key| (-slope * query.abs_diff(key) as f64) as f32));
        }
    }
    let bias = TensorData::new(bias, [1, heads, queries, keys]);
    Mask::bias(Tensor::from_data(bias, device))
}
