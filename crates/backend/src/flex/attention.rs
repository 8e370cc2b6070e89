//! Softmax attention in blocks over queries: a block's scores against all keys stay in the cache and are the only
//! scores there are at a time. The backward pass computes them again, block by block, in place of keeping them.
//!
//! Against so many keys that few queries' scores fit the cache, the forward pass goes through keys in tiles, too, with running
//! maxima and sums (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
//! "FlashAttention"):
//!
//! ```text
//! m' = max(m, max_tile s),   l' = e^(m - m') l + sum_tile e^(s - m'),   y' = e^(m - m') y + sum_tile e^(s - m') v
//! ```

use burn::backend::{Flex, TensorMetadata};
use rayon::prelude::*;

use super::gemm::{Destination, gemm, row_major, transposed};
use super::{FlexTensor, contiguous, math, tensor, values, vectorised};
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
        let (_, sum) = exponentiate(row, mask, f32::MIN);
        *total = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        future.fill(0.0);
    }
    visible
}

/// Scores of a row, with the mask added, to e^(s - max) where max is that of the row or `least`: gives max and their sum.
fn exponentiate(row: &mut [f32], mask: &[f32], least: f32) -> (f32, f32) {
    vectorised(
        #[inline(always)]
        || {
            match mask {
                [] => {}
                [all] => row.iter_mut().for_each(|s| *s += all),
                each => row.iter_mut().zip(each).for_each(|(s, m)| *s += m),
            }
            let max = math::max(row).max(least);
            for s in row.iter_mut() {
                *s = math::exp(*s - max);
            }
            (max, math::sum(row, |e| e))
        },
    )
}

/// From this many keys on, they come in tiles of [`TILE`], and queries in blocks of [`TILED_BLOCK`].
const TILED_FROM: usize = 4097;
const TILE: usize = 1024;
const TILED_BLOCK: usize = 128;

/// The queries `first..` of the problem `index`, as many as `out` has rows, tile by tile of keys. `state` has the running
/// maximum and sum of each.
fn in_tiles(
    problem: &Problem,
    mask: Option<&Mask>,
    (index, first): (usize, usize),
    [query, key, value]: [&[f32]; 3],
    scores: &mut [f32],
    state: &mut [(f32, f32)],
    out: &mut [f32],
) {
    let Problem { head_dim: d, value_dim, scale, .. } = *problem;
    let rows = out.len() / value_dim;
    let queries = (&query[first * d..], row_major(d));
    let state = &mut state[..rows];
    state.fill((f32::MIN, 0.0));
    for start in (0..problem.visible(first + rows)).step_by(TILE) {
        let width = TILE.min(problem.visible(first + rows) - start);
        let keys = (&key[start * d..], transposed(d));
        gemm([rows, width, d], (scores, width), Destination::Overwrite, queries, keys, scale);
        let tile = scores[..rows * width].chunks_exact_mut(width);
        for (i, ((row, (max, sum)), out)) in
            tile.zip(state.iter_mut()).zip(out.chunks_exact_mut(value_dim)).enumerate()
        {
            let seen = problem.visible(first + i + 1).saturating_sub(start).min(width);
            let (row, future) = row.split_at_mut(seen);
            future.fill(0.0);
            if row.is_empty() {
                continue;
            }
            let mask = match mask.map_or(&[][..], |mask| mask.row(problem, index, first + i)) {
                each if each.len() > 1 => &each[start..start + seen],
                one => one,
            };
            let (higher, of_tile) = exponentiate(row, mask, *max);
            let faded = (*max - higher).exp();
            out.iter_mut().for_each(|y| *y *= faded);
            (*max, *sum) = (higher, *sum * faded + of_tile);
        }
        let (p, values) =
            ((&scores[..], row_major(width)), (&value[start * value_dim..], row_major(value_dim)));
        gemm([rows, value_dim, width], (&mut *out, value_dim), Destination::Accumulate, p, values, 1.0);
    }
    for (row, (_, sum)) in out.chunks_exact_mut(value_dim).zip(state) {
        let share = if *sum == 0.0 { 0.0 } else { 1.0 / *sum };
        row.iter_mut().for_each(|y| *y *= share);
    }
}

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
    let mut out = vec![0.0_f32; shape.iter().product()];
    if out.is_empty() {
        return tensor(out, shape);
    }
    let tiled = keys >= TILED_FROM;
    let (block, width) = if tiled { (TILED_BLOCK, TILE) } else { (problem.block(), keys) };
    out.par_chunks_mut(queries * value_dim)
        .enumerate()
        .flat_map(|(index, out)| {
            out.par_chunks_mut(block * value_dim).enumerate().map(move |(i, out)| (index, i * block, out))
        })
        .for_each_init(
            || (vec![0.0; block * width], vec![0.0; block], vec![(0.0, 0.0); block]),
            |(scores, totals, state), (index, first, out)| {
                let rows = out.len() / value_dim;
                let query = &query[index * queries * head_dim..][..queries * head_dim];
                let key = &key[index * keys * head_dim..][..keys * head_dim];
                let value = &value[index * keys * value_dim..][..keys * value_dim];
                if tiled {
                    let all = [query, key, value];
                    return in_tiles(&problem, mask.as_ref(), (index, first), all, scores, state, out);
                }
                let place = (index, first, rows);
                let visible = exponentials(&problem, mask.as_ref(), place, (query, key), scores, totals);
                let p = (&scores[..], row_major(visible));
                let target = (&mut *out, value_dim);
                gemm(
                    [rows, value_dim, visible],
                    target,
                    Destination::Overwrite,
                    p,
                    (value, row_major(value_dim)),
                    1.0,
                );
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
    let [mut dq, mut dk, mut dv] = shapes.each_ref().map(|shape| vec![0.0_f32; shape.iter().product()]);
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
