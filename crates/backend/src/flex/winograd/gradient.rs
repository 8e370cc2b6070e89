//! The gradient with respect to the kernels, by the adjoint of the same filtering: with the sum over tiles,
//! ∂g = Gᵗ [Σ (Bᵗ d B) ⊙ (A ∂y Aᵗ)] G, 36 products for 144.
//!
//! Tiles are what is summed over, so a vector is one of channels here. The pixels that a row of tiles sees are turned to
//! channels-last lines, and every tile reads its own from there.

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::transform::{self, POINTS};
use super::{BLOCK, INPUTS, Left, OUTPUTS, Problem, Product, STRIP_VALUES, Tile, runs, vectors};

/// Tiles that are multiplied at a time: three vectors of columns of so many stay in a thread's first cache.
const DEPTH: usize = 128;
/// Tiles that are transformed at a time, at most.
const TILES: usize = 16 * DEPTH;
/// Sums at all points together, at most: they take four times the memory of the weights.
const SUMS: usize = 16 << 20;

impl Problem {
    /// Whether this is the faster way to the kernels' gradient.
    pub(in super::super) fn pays_for_kernels(&self) -> bool {
        self.pays() && POINTS * self.channels * self.out_channels <= SUMS
    }
}

/// The gradient of the kernels `[out channels, channels, 3, 3]`, of the input `x` and the gradient of the output.
pub(in super::super) fn of_kernels(problem: &Problem, x: &[f32], grad: &[f32]) -> Vec<f32> {
    pulp::Arch::new().dispatch(OfKernels { problem, x, grad })
}

pub(super) struct OfKernels<'a> {
    pub(super) problem: &'a Problem,
    pub(super) x: &'a [f32],
    pub(super) grad: &'a [f32],
}

impl WithSimd for OfKernels<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { problem, x, grad } = self;
        let Problem { channels, out_channels, size, out, padding, .. } = *problem;
        let x = Planes { values: x, channels, size, padding };
        let grad = Planes { values: grad, channels: out_channels, size: out, padding: [0, 0] };
        let rows = out_channels.next_multiple_of(8);
        let columns = channels.div_ceil(BLOCK) * vectors::<S>();
        let zero = simd.splat_f32s(0.0);
        // `[point][row][column block][vectors]`
        let mut sums = vec![zero; POINTS * rows * columns];
        let (mut of_x, mut of_grad) = (Vec::new(), Vec::new());
        let tiles: Vec<Tile> = (0..problem.tiles()).map(|number| Tile::of(problem, number)).collect();
        // However many threads there are: sums are made in one order, and give the same bits on any machine.
        let strip = (STRIP_VALUES / (POINTS * (channels + out_channels))).clamp(DEPTH, TILES);
        for (strip, tiles) in tiles.chunks(strip).enumerate() {
            x.transform::<S, INPUTS>(simd, tiles, &mut of_x);
            grad.transform::<S, OUTPUTS>(simd, tiles, &mut of_grad);
            sums.par_chunks_mut(rows * columns).enumerate().for_each(|(point, sums)| {
                let accumulate = strip > 0;
                let tiles = tiles.len();
                simd.vectorize(Point {
                    simd,
                    point,
                    tiles,
                    of_x: &of_x,
                    of_grad: &of_grad,
                    accumulate,
                    sums,
                });
            });
        }
        let mut d_weight = vec![0.0; out_channels * channels * 9];
        d_weight.par_chunks_exact_mut(channels * 9).enumerate().for_each(|(row, out)| {
            simd.vectorize(Row { simd, sums: &sums, rows, row, out });
        });
        d_weight
    }
}

/// Pictures `[sample][channel][height][width]`, and where in them the first tile begins.
#[derive(Clone, Copy)]
struct Planes<'a> {
    values: &'a [f32],
    channels: usize,
    size: [usize; 2],
    /// Above and to the left; below 0, so many rows and columns are left out.
    padding: [isize; 2],
}

impl Planes<'_> {
    /// The transformed tiles of `N` x `N` pixels: `[channel block][point][tile][vectors]`.
    fn transform<S: Simd, const N: usize>(self, simd: S, tiles: &[Tile], out: &mut Vec<S::f32s>) {
        let per_block = POINTS * tiles.len() * vectors::<S>();
        out.resize(self.channels.div_ceil(BLOCK) * per_block, simd.splat_f32s(0.0));
        out.par_chunks_exact_mut(per_block).enumerate().for_each(|(block, out)| {
            simd.vectorize(Transform::<S, N> { simd, planes: self, tiles, first: block * BLOCK, out });
        });
    }

    /// What tiles of `N` x `N` pixels that are neighbours in a row see of the channels from `first` on, `width` pixels:
    /// `[N][width][channel]`. What lies outside the picture is left as it is.
    #[inline(always)]
    fn gather<const N: usize>(&self, first: usize, tile: Tile, width: usize, lines: &mut [[f32; BLOCK]]) {
        let [height, across] = self.size;
        let [top, left] = [0, 1].map(|axis| tile.out[axis].cast_signed() - self.padding[axis]);
        let before = (-left).max(0).unsigned_abs().min(width);
        let after = (across.cast_signed() - left).max(0).unsigned_abs().min(width);
        for i in 0..N {
            let row = usize::try_from(top + i.cast_signed()).ok().filter(|&row| row < height);
            let Some(row) = row.filter(|_| before < after) else { continue };
            let line = &mut lines[i * width..][before..after];
            let mut rows: [&[f32]; BLOCK] = [&[]; BLOCK];
            for (lane, pixels) in rows.iter_mut().enumerate() {
                // Channels beyond the last are computed like it, and left out at the end.
                let channel = (first + lane).min(self.channels - 1);
                let start = ((tile.sample * self.channels + channel) * height + row) * across;
                *pixels = &self.values[start + before.saturating_add_signed(left)..][..line.len()];
            }
            for quad in 0..BLOCK / 4 {
                let rows = [rows[4 * quad], rows[4 * quad + 1], rows[4 * quad + 2], rows[4 * quad + 3]];
                for (x, pixel) in line.iter_mut().enumerate() {
                    let quad = &mut pixel[4 * quad..][..4];
                    for lane in 0..4 {
                        quad[lane] = rows[lane][x];
                    }
                }
            }
        }
    }
}

/// The transformed tiles of a block of channels: `[point][tile][vectors]`.
struct Transform<'a, S: Simd, const N: usize> {
    simd: S,
    planes: Planes<'a>,
    tiles: &'a [Tile],
    first: usize,
    out: &'a mut [S::f32s],
}

impl<S: Simd, const N: usize> pulp::NullaryFnOnce for Transform<'_, S, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, planes, tiles, first, out } = self;
        let per_block = vectors::<S>();
        let mut lines = Vec::new();
        for (start, run) in runs(tiles) {
            let width = (run.len() - 1) * OUTPUTS + N;
            lines.clear();
            lines.resize(N * width * per_block, simd.splat_f32s(0.0));
            planes.gather::<N>(first, run[0], width, bytemuck::cast_slice_mut(&mut lines));
            for i in 0..run.len() {
                for vector in 0..per_block {
                    of_tile::<S, N>(
                        simd,
                        #[inline(always)]
                        |place| lines[(place / N * width + i * OUTPUTS + place % N) * per_block + vector],
                        #[inline(always)]
                        |point, value| out[(point * tiles.len() + start + i) * per_block + vector] = value,
                    );
                }
            }
        }
    }
}

/// What a tile becomes: one of `x` has the side [`INPUTS`], one of the output's gradient [`OUTPUTS`].
#[inline(always)]
fn of_tile<S: Simd, const N: usize>(
    simd: S,
    at: impl Fn(usize) -> S::f32s,
    each: impl FnMut(usize, S::f32s),
) {
    match N {
        INPUTS => transform::input(simd, at, each),
        _ => transform::gradient(simd, at, each),
    }
}

/// The products at a point, summed over a strip's tiles.
struct Point<'a, S: Simd> {
    simd: S,
    point: usize,
    tiles: usize,
    of_x: &'a [S::f32s],
    of_grad: &'a [S::f32s],
    accumulate: bool,
    /// `[row][column block][vectors]`
    sums: &'a mut [S::f32s],
}

impl<S: Simd> pulp::NullaryFnOnce for Point<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, point, tiles, of_x, of_grad, accumulate, sums } = self;
        let per_block = POINTS * tiles * vectors::<S>();
        let columns = of_x.len() / per_block * vectors::<S>();
        for first in (0..tiles).step_by(DEPTH) {
            let start = (point * tiles + first) * vectors::<S>();
            let depth = DEPTH.min(tiles - first);
            for (grads, sums) in of_grad.chunks_exact(per_block).zip(sums.chunks_mut(BLOCK * columns)) {
                let mut product = Product {
                    left: Left::Blocks(bytemuck::cast_slice(&grads[start..][..depth * vectors::<S>()])),
                    right: &of_x[start..],
                    strides: [per_block, vectors::<S>()],
                    rows: sums.len() / columns,
                    out: sums,
                    columns,
                    depth,
                    accumulate: accumulate || first > 0,
                };
                product.run(simd);
            }
        }
    }
}

/// An output channel's kernels, from the sums.
struct Row<'a, S: Simd> {
    simd: S,
    /// `[point][row][column block][vectors]`
    sums: &'a [S::f32s],
    rows: usize,
    row: usize,
    /// `[channel][3 x 3]`
    out: &'a mut [f32],
}

impl<S: Simd> pulp::NullaryFnOnce for Row<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, sums, rows, row, out } = self;
        let per_block = vectors::<S>();
        let columns = sums.len() / (POINTS * rows);
        let mut made = vec![simd.splat_f32s(0.0); 9 * per_block];
        for (block, kernels) in out.chunks_mut(9 * BLOCK).enumerate() {
            for vector in 0..per_block {
                let column = block * per_block + vector;
                transform::kernel_gradient(
                    simd,
                    #[inline(always)]
                    |point| sums[(point * rows + row) * columns + column],
                    #[inline(always)]
                    |place, value| made[place * per_block + vector] = value,
                );
            }
            let values: &[f32] = bytemuck::cast_slice(&made);
            for (lane, kernel) in kernels.chunks_exact_mut(9).enumerate() {
                for (place, value) in kernel.iter_mut().enumerate() {
                    *value = values[place * BLOCK + lane];
                }
            }
        }
    }
}
