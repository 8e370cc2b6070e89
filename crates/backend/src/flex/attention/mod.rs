//! Softmax attention. The forward pass is [`lanes`]'. The backward pass, and that of few queries, go in blocks over queries: a block's
//! scores against all keys stay in the cache and are the only scores there are at a time, computed again in place of being kept.

mod lanes;
#[cfg(test)]
mod tests;

use burn::backend::{Flex, TensorMetadata};
use rayon::prelude::*;

use lanes::Forward;

use super::gemm::{Destination, gemm, row_major, transposed};
use super::{FlexTensor, contiguous, fresh, math, tensor, values, vectorised};
use crate::AttentionMask;
use crate::ops::Causality;

/// The sizes of one attention: batch x heads problems of queries x keys.
#[derive(Clone, Copy)]
struct Problem {
    heads: usize,
    queries: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    causality: Causality,
    scale: f32,
}

impl Problem {
    fn of(query: &FlexTensor, value: &FlexTensor, causality: Causality, scale: f64) -> Self {
        let [_, heads, queries, head_dim] = query.shape().dims();
        let [_, _, keys, value_dim] = value.shape().dims();
        Self { heads, queries, keys, head_dim, value_dim, causality, scale: scale as f32 }
    }

    /// Queries in a block: so many that their scores fill half a megabyte, of an L2 cache's one.
    fn block(&self) -> usize {
        (131_072 / self.keys.max(1)).clamp(8, 128).min(self.queries.max(1))
    }

    /// How many keys, from the first, the queries below `end` can see.
    fn visible(&self, end: usize) -> usize {
        match self.causality {
            Causality::None => self.keys,
            Causality::Causal => end.min(self.keys),
        }
    }
}

/// An additive mask `[batch or 1, heads or 1, queries or 1, keys or 1]`.
struct Mask {
    values: FlexTensor,
    shape: [usize; 4],
}

impl Mask {
    fn of(mask: AttentionMask<Flex>) -> Option<Self> {
        match mask {
            AttentionMask::None => None,
            AttentionMask::Additive(mask) => {
                let values = contiguous(mask);
                Some(Self { shape: values.shape().dims(), values })
            }
        }
    }

    /// What is added to the scores of `query`: one value for all keys, or one for each.
    fn row(&self, problem: &Problem, index: usize, query: usize) -> &[f32] {
        let [batches, heads, queries, keys] = self.shape;
        let pick = |i: usize, n: usize| if n == 1 { 0 } else { i };
        let (b, h) = (pick(index / problem.heads, batches), pick(index % problem.heads, heads));
        let start = ((b * heads + h) * queries + pick(query, queries)) * keys;
        &values(&self.values)[start..start + keys]
    }
}

/// The queries `first..first + rows` of the problem `index`: fills `scores` with `[rows, visible]` values
/// e^(s - max) and gives `visible`; `totals[i]` gets 1 / Σ of row i, or 0 of a row without any key.
fn exponentials(
    problem: &Problem,
    mask: Option<&Mask>,
    (index, first, rows): (usize, usize, usize),
    (query, key): (&[f32], &[f32]),
    scores: &mut [f32],
    totals: &mut [f32],
) -> usize {
    let d = problem.head_dim;
    let visible = problem.visible(first + rows);
    let queries = (&query[first * d..], row_major(d));
    gemm(
        [rows, visible, d],
        (scores, visible),
        Destination::Overwrite,
        queries,
        (key, transposed(d)),
        problem.scale,
    );
    if visible == 0 {
        totals.fill(0.0);
        return visible;
    }
    for (i, (row, total)) in scores[..rows * visible].chunks_exact_mut(visible).zip(totals).enumerate() {
        let (row, future) = row.split_at_mut(problem.visible(first + i + 1));
        let mask = mask.map_or(&[][..], |mask| mask.row(problem, index, first + i));
        let sum = exponentiate(row, mask);
        *total = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        future.fill(0.0);
    }
    visible
}

/// Scores of a row, with the mask added, to e^(s - max): gives their sum.
fn exponentiate(row: &mut [f32], mask: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            match mask {
                [] => {}
                [all] => row.iter_mut().for_each(|s| *s += all),
                each => row.iter_mut().zip(each).for_each(|(s, m)| *s += m),
            }
            let max = math::max(row).max(f32::MIN);
            for s in row.iter_mut() {
                *s = math::exp_nonpositive(*s - max);
            }
            math::sum(row, |e| e)
        },
    )
}

/// With fewer queries than these most lanes of a vector would be idle, and keys packed for little use.
const LANES_FROM: usize = 8;

pub(super) fn forward(
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    mask: AttentionMask<Flex>,
    causality: Causality,
    scale: f64,
) -> FlexTensor {
    let problem = Problem::of(&query, &value, causality, scale);
    let Problem { queries, keys, head_dim, value_dim, .. } = problem;
    let mask = Mask::of(mask);
    let shape = [query.shape()[0], problem.heads, queries, value_dim];
    let [query, key, value] = [query, key, value].map(contiguous);
    let (query, key, value) = (values(&query), values(&key), values(&value));
    let mut out = fresh::zeros(shape.iter().product());
    if out.is_empty() {
        return tensor(out, shape);
    }
    if queries >= LANES_FROM && keys > 0 && head_dim > 0 {
        let mask = mask.as_ref();
        pulp::Arch::new().dispatch(Forward { problem: &problem, mask, query, key, value, out: &mut out });
        return tensor(out, shape);
    }
    out.par_chunks_mut(queries * value_dim).enumerate().for_each_init(
        || (vec![0.0; queries * keys], vec![0.0; queries]),
        |(scores, totals), (index, out)| {
            let query = &query[index * queries * head_dim..][..queries * head_dim];
            let key = &key[index * keys * head_dim..][..keys * head_dim];
            let value = &value[index * keys * value_dim..][..keys * value_dim];
            let place = (index, 0, queries);
            let visible = exponentials(&problem, mask.as_ref(), place, (query, key), scores, totals);
            let p = (&scores[..], row_major(visible));
            let (target, value) = ((&mut *out, value_dim), (value, row_major(value_dim)));
            gemm([queries, value_dim, visible], target, Destination::Overwrite, p, value, 1.0);
            for (row, total) in out.chunks_exact_mut(value_dim).zip(totals) {
                row.iter_mut().for_each(|o| *o *= *total);
            }
        },
    );
    tensor(out, shape)
}

pub(super) fn backward(
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    mask: AttentionMask<Flex>,
    grad: FlexTensor,
    causality: Causality,
    scale: f64,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let problem = Problem::of(&query, &value, causality, scale);
    let Problem { queries, keys, head_dim, value_dim, .. } = problem;
    let mask = Mask::of(mask);
    let shapes = [&query, &key, &value].map(|t| t.shape().to_vec());
    let [query, key, value, grad] = [query, key, value, grad].map(contiguous);
    let (query, key, value, grad) = (values(&query), values(&key), values(&value), values(&grad));
    let block = problem.block();
    let [mut dq, mut dk, mut dv] = shapes.each_ref().map(|shape| fresh::zeros(shape.iter().product()));
    if !grad.is_empty() && keys > 0 && head_dim > 0 {
        dq.par_chunks_mut(queries * head_dim)
            .zip(dk.par_chunks_mut(keys * head_dim))
            .zip(dv.par_chunks_mut(keys * value_dim))
            .enumerate()
            .for_each_init(
                || (vec![0.0; block * keys], vec![0.0; block * keys], vec![0.0; block]),
                |(p, dp, totals), (index, ((dq, dk), dv))| {
                    let query = &query[index * queries * head_dim..][..queries * head_dim];
                    let key = &key[index * keys * head_dim..][..keys * head_dim];
                    let value = &value[index * keys * value_dim..][..keys * value_dim];
                    let grad = &grad[index * queries * value_dim..][..queries * value_dim];
                    for first in (0..queries).step_by(block) {
                        let rows = block.min(queries - first);
                        let place = (index, first, rows);
                        let visible = exponentials(&problem, mask.as_ref(), place, (query, key), p, totals);
                        let grad = (&grad[first * value_dim..], row_major(value_dim));
                        let values = (value, transposed(value_dim));
                        let out = (&mut dp[..], visible);
                        gemm([rows, visible, value_dim], out, Destination::Overwrite, grad, values, 1.0);
                        softmax_backward(
                            &mut p[..rows * visible],
                            &mut dp[..rows * visible],
                            visible,
                            totals,
                        );
                        // ∂V += Pᵗ ∂O, ∂Q = scale ∂S K, ∂K += scale ∂Sᵗ Q.
                        let p = (&p[..], transposed(visible));
                        let dv = (&mut dv[..], value_dim);
                        gemm([visible, value_dim, rows], dv, Destination::Accumulate, p, grad, 1.0);
                        let dq = (&mut dq[first * head_dim..], head_dim);
                        let (ds, keys) = ((&dp[..], row_major(visible)), (key, row_major(head_dim)));
                        gemm([rows, head_dim, visible], dq, Destination::Overwrite, ds, keys, problem.scale);
                        let queries = (&query[first * head_dim..], row_major(head_dim));
                        let ds = (&dp[..], transposed(visible));
                        let dk = (&mut dk[..], head_dim);
                        gemm(
                            [visible, head_dim, rows],
                            dk,
                            Destination::Accumulate,
                            ds,
                            queries,
                            problem.scale,
                        );
                    }
                },
            );
    }
    let [sq, sk, sv] = shapes;
    (tensor(dq, sq), tensor(dk, sk), tensor(dv, sv))
}

/// Row by row: P from its exponentials, and ∂S = P (∂P - Σ P ∂P) in the place of ∂P.
fn softmax_backward(p: &mut [f32], dp: &mut [f32], keys: usize, totals: &[f32]) {
    if keys == 0 {
        return;
    }
    for ((p, dp), &total) in p.chunks_exact_mut(keys).zip(dp.chunks_exact_mut(keys)).zip(totals) {
        vectorised(
            #[inline(always)]
            || {
                p.iter_mut().for_each(|p| *p *= total);
                let mean = math::sum2(p, dp, |p, dp| p * dp);
                for (dp, &p) in dp.iter_mut().zip(p.iter()) {
                    *dp = p * (*dp - mean);
                }
            },
        );
    }
}
