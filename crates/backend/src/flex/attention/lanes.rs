//! The forward pass with queries in the lanes of vectors: 16 to 48 of them together against tiles of keys, with running maxima and
//! sums (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022, "FlashAttention"):
//!
//! ```text
//! m' = max(m, max_tile s),   l' = e^(m - m') l + sum_tile e^(s - m'),   y' = e^(m - m') y + sum_tile e^(s - m') v
//! ```
//!
//! A tile's scores stand as `[key][query]`, so that maxima and sums go along vectors and none is summed within one, and are the right
//! side of the product with the values as they are. Keys and values are packed once for all queries.

use pulp::{NullaryFnOnce, Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::{Mask, Problem};
use crate::flex::product::{BLOCK, Left, Product, vectors};
use crate::flex::{fresh, math};

/// Keys in a tile: their scores for 48 queries are 48 KiB.
const TILE: usize = 256;
/// Blocks of queries that are taken together, at most: as many as a product sums at once.
const BLOCKS: usize = 3;

/// One forward pass into `out`, which has a row for each query.
pub(super) struct Forward<'a> {
    pub(super) problem: &'a Problem,
    pub(super) mask: Option<&'a Mask>,
    pub(super) query: &'a [f32],
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let Self { problem, mask, query, key, value, out } = self;
        let Problem { queries, keys, head_dim, value_dim, .. } = *problem;
        let keys = Keys::pack(problem, key, value, out.len() / (queries * value_dim), keys);
        let together = BLOCKS * BLOCK;
        out.par_chunks_mut(queries * value_dim)
            .enumerate()
            .flat_map(|(index, out)| {
                let out = out.par_chunks_mut(together * value_dim).enumerate();
                out.map(move |(i, out)| (index, i * together, out))
            })
            .for_each_init(
                || Scratch::new(simd, problem),
                |scratch, (index, first, out)| {
                    let query =
                        &query[(index * queries + first) * head_dim..][..out.len() / value_dim * head_dim];
                    let place = (index, first);
                    let group = Group { simd, problem, mask, place, query, keys: &keys, scratch, out };
                    match (out_rows(&group)).div_ceil(BLOCK) {
                        1 => simd.vectorize(Width::<_, { BLOCK }>(group)),
                        2 => simd.vectorize(Width::<_, { 2 * BLOCK }>(group)),
                        _ => simd.vectorize(Width::<_, { BLOCKS * BLOCK }>(group)),
                    }
                },
            );
    }
}

fn out_rows<S: Simd>(group: &Group<'_, S>) -> usize {
    group.out.len() / group.problem.value_dim
}

/// All problems' keys and values, as [`Product`] reads its left side.
struct Keys {
    /// `[problem][key block][head dim][BLOCK]`
    keys: Vec<f32>,
    /// `[problem][tile][value block][key of the tile][BLOCK]`
    values: Vec<f32>,
    /// Values of a problem in each.
    lengths: [usize; 2],
}

impl Keys {
    fn pack(problem: &Problem, key: &[f32], value: &[f32], problems: usize, count: usize) -> Self {
        let Problem { head_dim, value_dim, .. } = *problem;
        let lengths = [count.next_multiple_of(BLOCK) * head_dim, count * value_dim.next_multiple_of(BLOCK)];
        let [mut keys, mut values] = lengths.map(|length| fresh::zeros(problems * length));
        keys.par_chunks_mut(lengths[0])
            .zip(values.par_chunks_mut(lengths[1]))
            .zip(key.par_chunks(count * head_dim).zip(value.par_chunks(count * value_dim)))
            .for_each(|((keys, values), (key, value))| {
                for (block, rows) in keys.chunks_exact_mut(BLOCK * head_dim).zip(key.chunks(BLOCK * head_dim))
                {
                    for (lane, row) in rows.chunks_exact(head_dim).enumerate() {
                        for (depth, &v) in row.iter().enumerate() {
                            block[depth * BLOCK + lane] = v;
                        }
                    }
                }
                let padded = value_dim.next_multiple_of(BLOCK);
                for (tile, rows) in values.chunks_mut(TILE * padded).zip(value.chunks(TILE * value_dim)) {
                    let width = rows.len() / value_dim;
                    for (key, row) in rows.chunks_exact(value_dim).enumerate() {
                        for (block, part) in row.chunks(BLOCK).enumerate() {
                            tile[(block * width + key) * BLOCK..][..part.len()].copy_from_slice(part);
                        }
                    }
                }
            });
        Self { keys, values, lengths }
    }
}

/// What a thread needs for itself, of vectors.
struct Scratch<V> {
    /// `[head dim][block][vectors]`
    queries: Vec<V>,
    /// `[key of the tile][block][vectors]`
    scores: Vec<V>,
    /// `[value][block][vectors]`
    out: Vec<V>,
}

impl<V: Copy> Scratch<V> {
    fn new<S: Simd<f32s = V>>(simd: S, problem: &Problem) -> Self {
        let each = BLOCKS * vectors::<S>();
        let of = |rows: usize| vec![simd.splat_f32s(0.0); rows.next_multiple_of(8) * each];
        Self { queries: of(problem.head_dim), scores: of(TILE), out: of(problem.value_dim) }
    }
}

/// Some queries of one problem.
struct Group<'a, S: Simd> {
    simd: S,
    problem: &'a Problem,
    mask: Option<&'a Mask>,
    /// The problem, and the first of its queries that are meant.
    place: (usize, usize),
    query: &'a [f32],
    keys: &'a Keys,
    scratch: &'a mut Scratch<S::f32s>,
    out: &'a mut [f32],
}

/// A group of at most `W` queries.
struct Width<G, const W: usize>(G);

impl<S: Simd, const W: usize> NullaryFnOnce for Width<Group<'_, S>, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Group { simd, problem, mask, place, query, keys, scratch, out } = self.0;
        let Problem { head_dim, value_dim, scale, .. } = *problem;
        let (index, first) = place;
        let (each, rows) = (W / S::F32_LANES, out.len() / value_dim);
        let queries = &mut scratch.queries[..head_dim * each];
        {
            let queries: &mut [f32] = bytemuck::cast_slice_mut(&mut *queries);
            queries.fill(0.0);
            for (lane, row) in query.chunks_exact(head_dim).enumerate() {
                for (depth, &v) in row.iter().enumerate() {
                    queries[depth * W + lane] = v * scale;
                }
            }
        }
        let key = &keys.keys[index * keys.lengths[0]..][..keys.lengths[0]];
        let value = &keys.values[index * keys.lengths[1]..][..keys.lengths[1]];
        let (mut max, mut sum) = ([f32::MIN; W], [0.0_f32; W]);
        let value_rows = value_dim.next_multiple_of(8);
        let visible = problem.visible(first + rows);
        for start in (0..visible).step_by(TILE) {
            let width = TILE.min(problem.keys - start);
            let score_rows = width.next_multiple_of(8);
            let mut product = Product {
                left: Left::Blocks(&key[start * head_dim..]),
                right: queries,
                strides: [vectors::<S>(), each],
                out: &mut scratch.scores[..score_rows * each],
                rows: score_rows,
                columns: each,
                depth: head_dim,
                accumulate: false,
            };
            product.run(simd);
            let scores: &mut [[f32; W]] = bytemuck::cast_slice_mut(&mut scratch.scores[..width * each]);
            hide(problem, mask, place, start, rows, scores);
            let before = max;
            largest(simd, &scratch.scores[..width * each], bytemuck::cast_slice_mut(&mut max));
            let scores: &mut [[f32; W]] = bytemuck::cast_slice_mut(&mut scratch.scores[..width * each]);
            let mut of_tile = [0.0_f32; W];
            for row in scores {
                for i in 0..W {
                    row[i] = math::exp_nonpositive(row[i] - max[i]);
                    of_tile[i] += row[i];
                }
            }
            let mut faded = [0.0_f32; W];
            for i in 0..W {
                faded[i] = math::exp_nonpositive(before[i] - max[i]);
                sum[i] = sum[i] * faded[i] + of_tile[i];
            }
            let summed = &mut scratch.out[..value_rows * each];
            if start > 0 {
                let summed: &mut [[f32; W]] = bytemuck::cast_slice_mut(&mut *summed);
                for row in summed {
                    for i in 0..W {
                        row[i] *= faded[i];
                    }
                }
            }
            let padded = value_dim.next_multiple_of(BLOCK);
            let mut product = Product {
                left: Left::Blocks(&value[start * padded..][..width * padded]),
                right: &scratch.scores[..width * each],
                strides: [vectors::<S>(), each],
                out: summed,
                rows: value_rows,
                columns: each,
                depth: width,
                accumulate: start > 0,
            };
            product.run(simd);
        }
        if visible == 0 {
            return out.fill(0.0);
        }
        let summed: &[[f32; W]] = bytemuck::cast_slice(&scratch.out[..value_rows * each]);
        for (lane, out) in out.chunks_exact_mut(value_dim).enumerate() {
            // A query that sees no key gets 0.
            let share = if sum[lane] == 0.0 { 0.0 } else { 1.0 / sum[lane] };
            for (out, row) in out.iter_mut().zip(summed) {
                *out = row[lane] * share;
            }
        }
    }
}

/// Raises each lane's maximum to that of a tile's scores, `[key][each]`.
#[inline(always)]
fn largest<S: Simd>(simd: S, scores: &[S::f32s], max: &mut [S::f32s]) {
    let each = max.len();
    for (vector, max) in max.iter_mut().enumerate() {
        // Four at once, since each waits for the one before it.
        let mut four = [*max; 4];
        let whole = scores.len() / (4 * each) * 4 * each;
        let mut key = vector;
        while key < whole {
            for i in 0..4 {
                four[i] = simd.max_f32s(scores[key + i * each], four[i]);
            }
            key += 4 * each;
        }
        while key < scores.len() {
            four[0] = simd.max_f32s(scores[key], four[0]);
            key += each;
        }
        *max = simd.max_f32s(simd.max_f32s(four[0], four[1]), simd.max_f32s(four[2], four[3]));
    }
}

/// Adds the mask to a tile's scores, and takes keys away from the queries before them where attention is causal.
#[inline(always)]
fn hide<const W: usize>(
    problem: &Problem,
    mask: Option<&Mask>,
    (index, first): (usize, usize),
    start: usize,
    rows: usize,
    scores: &mut [[f32; W]],
) {
    if let Some(mask) = mask {
        for lane in 0..rows {
            match mask.row(problem, index, first + lane) {
                [all] => scores.iter_mut().for_each(|row| row[lane] += all),
                each => scores.iter_mut().zip(&each[start..]).for_each(|(row, m)| row[lane] += m),
            }
        }
    }
    for (key, row) in (start..).zip(scores) {
        let seen_from = (0..W).take_while(|lane| problem.visible(first + lane + 1) <= key).count();
        row[..seen_from].fill(f32::NEG_INFINITY);
    }
}
