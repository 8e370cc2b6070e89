//! Softmax attention: softmax(Q Kᵗ scale + mask) V.

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::Shape;

use crate::AttentionMask;
use crate::ops::Causality;

pub fn forward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: AttentionMask<B>,
    causality: Causality,
    scale: f64,
) -> FloatTensor<B> {
    B::float_matmul(probabilities::<B>(query, key, mask, causality, scale), value)
}

/// With P the probabilities: ∂V = Pᵗ ∂O, ∂S = P (∂P - Σ_keys P ∂P) with ∂P = ∂O Vᵗ, ∂Q = scale ∂S K,
/// ∂K = scale ∂Sᵗ Q.
pub fn backward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: AttentionMask<B>,
    grad: FloatTensor<B>,
    causality: Causality,
    scale: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let p = probabilities::<B>(query.clone(), key.clone(), mask, causality, scale);
    let d_value = B::float_matmul(B::float_transpose(p.clone()), grad.clone());
    let dp = B::float_matmul(grad, B::float_transpose(value));
    let mean = B::float_sum_dim(B::float_mul(p.clone(), dp.clone()), 3);
    let ds = B::float_mul_scalar(B::float_mul(p, B::float_sub(dp, mean)), scale.into());
    let d_key = B::float_matmul(B::float_transpose(ds.clone()), query);
    (B::float_matmul(ds, key), d_key, d_value)
}

fn probabilities<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    mask: AttentionMask<B>,
    causality: Causality,
    scale: f64,
) -> FloatTensor<B> {
    let scores = B::float_mul_scalar(B::float_matmul(query, B::float_transpose(key)), scale.into());
    let scores = match mask {
        AttentionMask::None => scores,
        AttentionMask::Additive(mask) => B::float_add(scores, mask),
    };
    let scores = match causality {
        Causality::None => scores,
        Causality::Causal => {
            let future = future::<B>(&scores);
            B::float_mask_fill(scores, future, f32::NEG_INFINITY.into())
        }
    };
    // A row without any key gives zeros, not NaN: its maximum -inf and its sum 0 are replaced by the nearest
    // numbers that can be computed with.
    let dtype = scores.dtype().finfo().expect("attention is over floats");
    let max = B::float_clamp_min(B::float_max_dim(scores.clone(), 3), dtype.min.into());
    let exp = B::float_exp(B::float_sub(scores, max));
    let sum = B::float_clamp_min(B::float_sum_dim(exp.clone(), 3), dtype.min_positive.into());
    B::float_div(exp, sum)
}

/// True where key j lies in the future of query i: j > i, as in PyTorch's `is_causal`.
fn future<B: Backend>(scores: &FloatTensor<B>) -> BoolTensor<B> {
    let [batch, heads, queries, keys] = scores.shape().dims();
    let device = scores.device();
    let settings = get_or_init_device_settings::<B>(&device);
    let i = B::int_arange(0..queries as i64, &device, settings.int_dtype);
    let j = B::int_arange(0..keys as i64, &device, settings.int_dtype);
    let future = B::int_lower(
        B::int_expand(B::int_reshape(i, Shape::new([queries, 1])), Shape::new([queries, keys])),
        B::int_expand(B::int_reshape(j, Shape::new([1, keys])), Shape::new([queries, keys])),
        settings.bool_dtype,
    );
    let future = B::bool_reshape(future, Shape::new([1, 1, queries, keys]));
    B::bool_expand(future, Shape::new([batch, heads, queries, keys]))
}
