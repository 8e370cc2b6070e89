//! Softmax attention with options of language models: fewer heads of keys than of queries, scores that are capped,
//! dropout of probabilities.
//!
//! ```text
//! s(i, j) = cap tanh(q_i k_j^T / (sqrt(d) cap)) + M(i, j)          without a cap: q_i k_j^T / sqrt(d) + M(i, j)
//! y_i     = sum_j dropout(softmax_j s(i, j)) v_j
//! ```
//!
//! Head h of H asks the keys and values of head `floor(h G / H)` of G: with G = H that is multi-head attention, with G = 1
//! multi-query attention (Shazeer 2019, "Fast Transformer Decoding"), between them grouped-query attention (Ainslie et
//! al. 2023, "GQA"). The cap is Gemma 2's (2024, section 2).

use burn::nn::Dropout;
use burn::tensor::{Bool, Tensor};
use kiln_backend::ops::{AttentionOptions, Causality, scaled_dot_product_attention};

/// What is done to scores and probabilities on the way; the default is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scores<'a> {
    /// Scores are kept between minus this and this.
    pub cap: Option<f64>,
    /// Of probabilities, in training only.
    pub dropout: Option<&'a Dropout>,
}

/// Softmax attention of `query`, `[batch, heads, n, head_dim]`, over `key`, `[batch, groups, m, head_dim]`, and `value`,
/// `[batch, groups, m, value_dim]`; the result is `[batch, heads, n, value_dim]`. A query that may see no key gets zeros.
///
/// With a cap or a dropout at work the scores are kept as a whole; without, no score matrix is.
///
/// # Panics
///
/// If `groups` does not divide `heads`, or the shapes do not fit together.
#[must_use]
pub fn grouped_query(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
    scores: Scores<'_>,
) -> Tensor<4> {
    let [batch, heads, n, head_dim] = query.dims();
    let groups = key.dims()[1];
    assert!(
        groups > 0 && heads.is_multiple_of(groups),
        "{groups} heads of keys do not divide {heads} heads of queries"
    );
    let dropout = scores.dropout.filter(|layer| layer.prob > 0.0 && query.device().is_autodiff());
    let plain = scores.cap.is_none() && dropout.is_none();
    // Where all queries see the same, those of a group are one long sequence, and nothing is repeated.
    let alike = options.causality == Causality::None
        && options.mask.as_ref().is_none_or(|mask| mask.dims()[1] == 1 && mask.dims()[2] == 1);
    if plain && alike {
        let query = query.reshape([batch, groups, heads / groups * n, head_dim]);
        let value_dim = value.dims()[3];
        let y = scaled_dot_product_attention(query, key, value, options);
        return y.reshape([batch, heads, n, value_dim]);
    }
    let (key, value) = (repeated(key, heads), repeated(value, heads));
    if plain {
        return scaled_dot_product_attention(query, key, value, options);
    }
    let scale = options.scale.unwrap_or(1.0 / (head_dim as f64).sqrt());
    let raw = query.matmul(key.swap_dims(2, 3)).mul_scalar(scale);
    let capped = match scores.cap {
        Some(cap) => raw.div_scalar(cap).tanh().mul_scalar(cap),
        None => raw,
    };
    let masked = match options.mask {
        Some(mask) => {
            let fits = mask.dims().iter().zip(capped.dims()).all(|(&m, n)| m == n || m == 1);
            assert!(fits, "the mask {:?} does not broadcast to scores of {:?}", mask.dims(), capped.dims());
            capped + mask
        }
        None => capped,
    };
    let seen = match options.causality {
        Causality::None => masked,
        Causality::Causal => {
            let [.., queries, keys] = masked.dims();
            let future = Tensor::<2, Bool>::tril_mask([queries, keys], 0, &masked.device());
            let future = future.reshape([1, 1, queries, keys]).expand(masked.dims());
            masked.mask_fill(future, f32::NEG_INFINITY)
        }
    };
    let probabilities = softmax(seen);
    let probabilities = match dropout {
        Some(layer) => layer.forward(probabilities),
        None => probabilities,
    };
    probabilities.matmul(value)
}

/// `[batch, groups, n, width]` to `[batch, heads, n, width]`, each head `heads / groups` times.
fn repeated(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, groups, n, width] = x.dims();
    if groups == heads {
        return x;
    }
    let x = x.unsqueeze_dim::<5>(2).expand([batch, groups, heads / groups, n, width]);
    x.reshape([batch, heads, n, width])
}

/// The softmax of `scores` over their last axis; a row that is `-inf` throughout gives zeros, not NaN.
#[must_use]
pub fn softmax<const D: usize>(scores: Tensor<D>) -> Tensor<D> {
    let finite = scores.dtype().finfo().expect("scores are floats");
    // The maximum cancels, and so does its gradient.
    let max = scores.clone().detach().max_dim(D - 1).clamp_min(finite.min);
    let exp = (scores - max).exp();
    let sum = exp.clone().sum_dim(D - 1).clamp_min(finite.min_positive);
    exp / sum
}
