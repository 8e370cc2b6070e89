//! Linear attention in two passes over blocks of tokens: the first sums φ(k)ᵗ v and φ(k), the second asks the sums. Features
//! are made block by block, and no more of them are kept.

use burn::backend::TensorMetadata;
use rayon::prelude::*;

use super::gemm::{Destination, gemm, row_major, transposed};
use super::{FlexTensor, contiguous, fresh, math, tensor, values, vectorised};
use crate::ops::FeatureFunction;

/// Tokens of a block: its features and values are in the L2 cache together.
const BLOCK: usize = 256;
/// Blocks that one task sums up. Partial sums are added in a fixed order, whatever the number of threads.
const BLOCKS: usize = 8;

pub(super) fn forward(
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    function: FeatureFunction,
    floor: f64,
) -> FlexTensor {
    let [batch, heads, queries, width] = query.shape().dims();
    let [_, _, keys, value_dim] = value.shape().dims();
    let shape = [batch, heads, queries, value_dim];
    let [query, key, value] = [query, key, value].map(contiguous);
    let (query, key, value) = (values(&query), values(&key), values(&value));
    let mut out = fresh::zeros(shape.iter().product());
    if out.is_empty() || keys == 0 || width == 0 {
        return tensor(out, shape);
    }
    // φ(k)ᵗ v, and after it φ(k)ᵗ 1.
    let sums_len = width * (value_dim + 1);
    let sums_of = |index: usize| -> Vec<f32> {
        let partial: Vec<Vec<f32>> = (0..keys)
            .into_par_iter()
            .step_by(BLOCK * BLOCKS)
            .map(|first| {
                let last = keys.min(first + BLOCK * BLOCKS);
                let mut sums = vec![0.0; sums_len];
                let mut features = vec![0.0; BLOCK * width];
                for first in (first..last).step_by(BLOCK) {
                    let rows = BLOCK.min(last - first);
                    let key = &key[(index * keys + first) * width..][..rows * width];
                    let value = &value[(index * keys + first) * value_dim..][..rows * value_dim];
                    let features = &mut features[..rows * width];
                    apply(function, key, features);
                    let (products, total) = sums.split_at_mut(width * value_dim);
                    gemm(
                        [width, value_dim, rows],
                        (products, value_dim),
                        Destination::Accumulate,
                        (features, transposed(width)),
                        (value, row_major(value_dim)),
                        1.0,
                    );
                    vectorised(
                        #[inline(always)]
                        || {
                            for row in features.chunks_exact(width) {
                                total.iter_mut().zip(row).for_each(|(t, f)| *t += f);
                            }
                        },
                    );
                }
                sums
            })
            .collect();
        partial
            .into_iter()
            .reduce(|mut sums, more| {
                sums.iter_mut().zip(more).for_each(|(s, m)| *s += m);
                sums
            })
            .unwrap_or_else(|| vec![0.0; sums_len])
    };
    let floor = floor as f32;
    out.par_chunks_mut(queries * value_dim).enumerate().for_each(|(index, out)| {
        let sums = sums_of(index);
        let (products, total) = sums.split_at(width * value_dim);
        out.par_chunks_mut(BLOCK * value_dim).enumerate().for_each_init(
            || vec![0.0; BLOCK * width],
            |features, (block, out)| {
                let rows = out.len() / value_dim;
                let features = &mut features[..rows * width];
                apply(
                    function,
                    &query[(index * queries + block * BLOCK) * width..][..rows * width],
                    features,
                );
                gemm(
                    [rows, value_dim, width],
                    (&mut *out, value_dim),
                    Destination::Overwrite,
                    (features, row_major(width)),
                    (products, row_major(value_dim)),
                    1.0,
                );
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, out) in features.chunks_exact(width).zip(out.chunks_exact_mut(value_dim)) {
                            let divisor = math::sum2(row, total, |f, t| f * t);
                            let factor = 1.0 / if divisor > floor { divisor } else { floor };
                            out.iter_mut().for_each(|o| *o *= factor);
                        }
                    },
                );
            },
        );
    });
    tensor(out, shape)
}

/// φ of `x`, into `features`.
fn apply(function: FeatureFunction, x: &[f32], features: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            let both = features.iter_mut().zip(x);
            match function {
                FeatureFunction::Identity => both.for_each(|(f, &x)| *f = x),
                FeatureFunction::EluPlusOne => both.for_each(|(f, &x)| {
                    let above = if x > 0.0 { x } else { 0.0 };
                    *f = above + math::exp_nonpositive(x - above);
                }),
                FeatureFunction::Relu => both.for_each(|(f, &x)| *f = if x > 0.0 { x } else { 0.0 }),
                FeatureFunction::SquaredRelu => {
                    both.for_each(|(f, &x)| *f = if x > 0.0 { x * x } else { 0.0 });
                }
            }
        },
    );
}
