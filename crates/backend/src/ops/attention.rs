//! Softmax attention.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{AttentionMask, FusedOps};

/// Which keys a query may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Causality {
    /// All.
    #[default]
    None,
    /// Query i sees keys 0 to i.
    Causal,
}

/// Options of [`scaled_dot_product_attention`]; the default is plain attention.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Added to the scores; broadcasts to `[batch, heads, queries, keys]`, and `-inf` hides a key.
    pub mask: Option<Tensor<4>>,
    /// Which keys a query may see, beside the mask.
    pub causality: Causality,
    /// What the scores are multiplied with; 1 / √head_dim when not given.
    pub scale: Option<f64>,
}

/// softmax(Q Kᵗ · scale + mask) V, in blocks over queries, so that memory is linear in the sequence's length
/// where the backend has a kernel. A query that may see no key gets zeros.
///
/// # Shapes
/// - `query`: `[batch, heads, queries, head_dim]`
/// - `key`: `[batch, heads, keys, head_dim]`
/// - `value`: `[batch, heads, keys, value_dim]`
/// - output: `[batch, heads, queries, value_dim]`
///
/// # Panics
/// If the shapes do not fit together.
///
/// Source: Vaswani et al. 2017, equation 1; PyTorch's `scaled_dot_product_attention`, whose boolean masks mean
/// the opposite of Burn's, which is why masks here are additive.
pub fn scaled_dot_product_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = query.dims();
    let [_, _, keys, value_dim] = value.dims();
    assert!(
        key.dims() == [batch, heads, keys, head_dim] && value.dims() == [batch, heads, keys, value_dim],
        "scaled_dot_product_attention: query {:?}, key {:?} and value {:?} do not fit together",
        query.dims(),
        key.dims(),
        value.dims()
    );
    let mask = match options.mask {
        None => AttentionMask::None,
        Some(mask) => {
            let fits = mask.dims().iter().zip([batch, heads, queries, keys]).all(|(&m, n)| m == n || m == 1);
            assert!(
                fits,
                "scaled_dot_product_attention: the mask {:?} does not broadcast to {:?}",
                mask.dims(),
                [batch, heads, queries, keys]
            );
            AttentionMask::Additive(mask.into_dispatch())
        }
    };
    let scale = options.scale.unwrap_or(1.0 / (head_dim as f64).sqrt());
    Tensor::from_dispatch(<Dispatch as FusedOps>::scaled_dot_product_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        mask,
        options.causality,
        scale,
    ))
}
