//! Softmax attention: softmax(Q Kᵗ scale + mask) V.

use std::ops::Range;

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, Slice};

use crate::AttentionMask;
use crate::ops::Causality;

/// Scores that are kept at once: 256 MiB in f32. At 1024 x 1024 pixels Stable Diffusion's attention has 2^32, which no GPU's buffer holds.
const SCORES: usize = 1 << 26;

/// Queries whose scores are kept at once, so that memory is linear in the sequence's length.
fn rows_at_once<B: Backend>(query: &FloatTensor<B>, key: &FloatTensor<B>) -> usize {
    let ([batch, heads, ..], keys) = (query.shape().dims::<4>(), key.shape()[2]);
    (SCORES / (batch * heads * keys).max(1)).max(1)
}

pub fn forward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: AttentionMask<B>,
    causality: Causality,
    scale: f64,
) -> FloatTensor<B> {
    let rows = rows_at_once::<B>(&query, &key);
    forward_in_blocks::<B>(query, key, value, mask, causality, scale, rows)
}

/// [`forward`] for `rows` queries at a time.
pub fn forward_in_blocks<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: AttentionMask<B>,
    causality: Causality,
    scale: f64,
    rows: usize,
) -> FloatTensor<B> {
    let all = blocks(query.shape()[2], rows);
    let block = move |rows: Range<usize>| {
        let mask = mask_of::<B>(&mask, &rows);
        let query = B::float_mul_scalar(rows_of::<B>(&query, &rows), scale.into());
        let p = probabilities::<B>(query, key.clone(), mask, causality, rows.start);
        B::float_matmul(p, value.clone())
    };
    together::<B>(all.map(block).collect())
}

/// With P the probabilities: ∂V = Pᵗ ∂O, ∂S = P (∂P - Σ_keys P ∂P) with ∂P = ∂O Vᵗ, ∂Q = scale ∂S K,
/// ∂K = scale ∂Sᵗ Q.
#[allow(clippy::needless_pass_by_value)] // whoever calls has no use for the mask after
pub fn backward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    mask: AttentionMask<B>,
    grad: FloatTensor<B>,
    causality: Causality,
    scale: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let rows = rows_at_once::<B>(&query, &key);
    backward_in_blocks::<B>([query, key, value, grad], &mask, causality, scale, rows)
}

/// [`backward`] for `rows` queries at a time, whose parts of ∂K and ∂V are added.
pub fn backward_in_blocks<B: Backend>(
    [query, key, value, grad]: [FloatTensor<B>; 4],
    mask: &AttentionMask<B>,
    causality: Causality,
    scale: f64,
    rows: usize,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (mut d_query, mut d_key, mut d_value) = (Vec::new(), None, None);
    let add = |sum: Option<FloatTensor<B>>, part| {
        Some(match sum {
            None => part,
            Some(sum) => B::float_add(sum, part),
        })
    };
    for rows in blocks(query.shape()[2], rows) {
        let mask = mask_of::<B>(mask, &rows);
        let query = B::float_mul_scalar(rows_of::<B>(&query, &rows), scale.into());
        let grad = rows_of::<B>(&grad, &rows);
        let p = probabilities::<B>(query.clone(), key.clone(), mask, causality, rows.start);
        d_value = add(d_value, B::float_matmul(B::float_transpose(p.clone()), grad.clone()));
        let dp = B::float_matmul(grad, B::float_transpose(value.clone()));
        let mean = B::float_sum_dim(B::float_mul(p.clone(), dp.clone()), 3);
        let ds = B::float_mul(p, B::float_sub(dp, mean));
        d_key = add(d_key, B::float_matmul(B::float_transpose(ds.clone()), query));
        d_query.push(B::float_mul_scalar(B::float_matmul(ds, key.clone()), scale.into()));
    }
    let sums = d_key.zip(d_value).expect("there is a block");
    (together::<B>(d_query), sums.0, sums.1)
}

/// The rows of each block; of no queries one empty block.
fn blocks(queries: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..queries.max(1)).step_by(rows);
    starts.map(move |start| start..start.saturating_add(rows).min(queries))
}

fn rows_of<B: Backend>(tensor: &FloatTensor<B>, rows: &Range<usize>) -> FloatTensor<B> {
    let shape = tensor.shape();
    if *rows == (0..shape[2]) {
        return tensor.clone();
    }
    let ranges = [0..shape[0], 0..shape[1], rows.clone(), 0..shape[3]];
    B::float_slice(tensor.clone(), &ranges.map(Slice::from))
}

/// A mask's rows; one row for all queries stays.
fn mask_of<B: Backend>(mask: &AttentionMask<B>, rows: &Range<usize>) -> AttentionMask<B> {
    match mask {
        AttentionMask::Additive(mask) if mask.shape()[2] > 1 => {
            AttentionMask::Additive(rows_of::<B>(mask, rows))
        }
        mask => mask.clone(),
    }
}

fn together<B: Backend>(mut parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    match parts.len() {
        1 => parts.remove(0),
        _ => B::float_cat(parts, 2),
    }
}

/// Of scaled queries, the first of which is the sequence's query number `first`. Scores are not scaled after they were summed: in f16
/// they would be beyond its numbers sooner.
fn probabilities<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    mask: AttentionMask<B>,
    causality: Causality,
    first: usize,
) -> FloatTensor<B> {
    let scores = B::float_matmul(query, B::float_transpose(key));
    let scores = match mask {
        AttentionMask::None => scores,
        AttentionMask::Additive(mask) => B::float_add(scores, mask),
    };
    let scores = match causality {
        Causality::None => scores,
        Causality::Causal => {
            let future = future::<B>(&scores, first);
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

/// True where key j lies in the future of query i: j > i, as in PyTorch's `is_causal`. The first row is query `first`.
fn future<B: Backend>(scores: &FloatTensor<B>, first: usize) -> BoolTensor<B> {
    let [batch, heads, queries, keys] = scores.shape().dims();
    let device = scores.device();
    let settings = get_or_init_device_settings::<B>(&device);
    let i = B::int_arange(first as i64..(first + queries) as i64, &device, settings.int_dtype);
    let j = B::int_arange(0..keys as i64, &device, settings.int_dtype);
    let future = B::int_lower(
        B::int_expand(B::int_reshape(i, Shape::new([queries, 1])), Shape::new([queries, keys])),
        B::int_expand(B::int_reshape(j, Shape::new([1, keys])), Shape::new([queries, keys])),
        settings.bool_dtype,
    );
    let future = B::bool_reshape(future, Shape::new([1, 1, queries, keys]));
    B::bool_expand(future, Shape::new([batch, heads, queries, keys]))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::FloatDType;

    use super::*;

    #[test]
    fn what_is_kept_at_once_is_bounded() {
        let rows = |[batch, heads, n]: [usize; 3]| {
            let tensor = Flex::float_zeros([batch, heads, n, 1].into(), &Default::default(), FloatDType::F32);
            rows_at_once::<Flex>(&tensor, &tensor)
        };
        assert_eq!(rows([2, 8, 4096]), 1024);
        assert_eq!(rows([2, 8, 16_384]), 256);
        assert!(rows([1, 1, 77]) >= 77);
    }

    #[test]
    fn every_query_is_in_one_block() {
        let all = |queries, rows| blocks(queries, rows).collect::<Vec<_>>();
        assert_eq!(all(7, 3), [0..3, 3..6, 6..7]);
        assert_eq!(all(6, 3), [0..3, 3..6]);
        assert_eq!(all(2, usize::MAX), vec![0..2; 1]);
        assert_eq!(all(0, 3), vec![0..0; 1]);
    }
}
