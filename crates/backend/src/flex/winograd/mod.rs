//! 3 x 3 convolution with stride 1 by minimal filtering, F(4 x 4, 3 x 3) (Winograd 1980; Lavin and Gray 2016): 36 products
//! for 16 outputs in place of 144.
//!
//! The picture is cut into tiles of 6 x 6 that overlap by two. A strip of them is transformed, and stays in the last cache;
//! then each thread takes blocks of output channels, transforms their kernels, some input channels at a time, so that
//! these stay in its own cache, multiplies at each of the 36 points, and transforms the sums into the outputs. Kernels are
//! transformed at each call and for each strip, which costs a few percent; transformed ones would take four times the
//! weights' memory. The gradient with respect to the input is a convolution too, with the kernels turned; that with respect
//! to the kernels is the adjoint of all this.

mod gradient;
mod kernels;
#[cfg(test)]
mod tests;
mod transform;

pub(super) use gradient::of_kernels;
pub(super) use kernels::Kernels;

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use std::sync::Mutex;

use super::product::{BLOCK, Left, Product, vectors};
use transform::POINTS;

/// Outputs of a tile along an axis, and what it sees.
const OUTPUTS: usize = 4;
const INPUTS: usize = 6;

/// Output channels that a thread takes at a time.
const ROWS: usize = 16;
/// Input channels whose kernels are transformed at a time: 36 · 32 · 96 values are 432 KiB.
const CHANNELS: usize = 96;
/// Tiles in a strip, at most and at least; and how large the strip may become in between.
const TILES: (usize, usize) = (64, 256);
const STRIP_VALUES: usize = 5 << 20;

/// The sizes of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Problem {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) out_channels: usize,
    pub(super) size: [usize; 2],
    pub(super) out: [usize; 2],
    /// Above and to the left; below 0, so many rows and columns are left out.
    pub(super) padding: [isize; 2],
}

impl Problem {
    /// Whether this way is the faster one: there are enough channels to pay for the transforms, and enough tiles to pay for the kernels'.
    pub(super) fn pays(&self) -> bool {
        self.channels >= 32 && self.out_channels >= 32 && self.tiles() >= 12
    }

    /// The convolution that makes the gradient with respect to the input from that with respect to the output, with
    /// the kernels turned.
    pub(super) fn of_gradient(&self) -> Self {
        Self {
            batch: self.batch,
            channels: self.out_channels,
            out_channels: self.channels,
            size: self.out,
            out: self.size,
            padding: self.padding.map(|padding| 2 - padding),
        }
    }

    fn grid(&self) -> [usize; 2] {
        self.out.map(|size| size.div_ceil(OUTPUTS))
    }

    fn tiles(&self) -> usize {
        let [rows, columns] = self.grid();
        self.batch * rows * columns
    }
}

/// A tile's place.
#[derive(Clone, Copy)]
struct Tile {
    sample: usize,
    /// Its first output.
    out: [usize; 2],
}

impl Tile {
    fn of(problem: &Problem, number: usize) -> Self {
        let [rows, columns] = problem.grid();
        let (sample, place) = (number / (rows * columns), number % (rows * columns));
        Self { sample, out: [place / columns * OUTPUTS, place % columns * OUTPUTS] }
    }
}

/// The convolution of `x` `[batch, channels, height, width]` into `out` `[batch, out channels, out height, out width]`.
pub(super) fn convolve(
    problem: &Problem,
    x: &[f32],
    kernels: Kernels,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    pulp::Arch::new().dispatch(Convolution { problem, x, kernels, bias, out });
}

struct Convolution<'a> {
    problem: &'a Problem,
    x: &'a [f32],
    kernels: Kernels<'a>,
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl WithSimd for Convolution<'_> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let Self { problem, x, kernels, bias, out } = self;
        let Problem { channels, out_channels, .. } = *problem;
        let threads = rayon::current_num_threads();
        let even = |parts: usize| parts.next_multiple_of(threads);
        // Equal shares for the threads, of the input's channels and of the output's.
        let chunk = channels.div_ceil(even(channels.div_ceil(CHANNELS)));
        let rows = out_channels.div_ceil(even(out_channels.div_ceil(ROWS))).next_multiple_of(8);
        let mut planes = planes_by_block(problem, rows, out);
        let most = (STRIP_VALUES / (POINTS * channels)).clamp(TILES.0, TILES.1);
        // Equal strips: a short last one would cost the kernels' transforms once more for few tiles.
        let strip = problem.tiles().div_ceil(problem.tiles().div_ceil(most)).next_multiple_of(BLOCK);
        let tiles: Vec<Tile> = (0..problem.tiles()).map(|number| Tile::of(problem, number)).collect();
        // What blocks need for themselves goes from one to the next: there are as many as threads.
        let scratch = Mutex::new(Vec::new());
        let zero = simd.splat_f32s(0.0);
        let mut transformed = Vec::new();
        for tiles in tiles.chunks(strip) {
            let blocks = tiles.len().div_ceil(BLOCK);
            transformed.resize(POINTS * blocks * channels * vectors::<S>(), zero);
            transformed.par_chunks_mut(POINTS * blocks * chunk * vectors::<S>()).enumerate().for_each(
                |(part, out)| simd.vectorize(Input { simd, problem, x, tiles, first: part * chunk, out }),
            );
            planes.par_iter_mut().enumerate().for_each(|(block, planes)| {
                let first = block * rows;
                let bias = bias.map(|bias| &bias[first..(first + rows).min(out_channels)]);
                let kept = scratch.lock().ok().and_then(|mut kept| kept.pop());
                let mut own = kept.unwrap_or_else(|| Scratch::new(simd, rows, chunk, strip.div_ceil(BLOCK)));
                simd.vectorize(Block {
                    simd,
                    problem,
                    kernels,
                    bias,
                    tiles,
                    transformed: &transformed,
                    chunk,
                    first,
                    rows: rows.min(out_channels - first),
                    scratch: &mut own,
                    planes,
                });
                if let Ok(mut kept) = scratch.lock() {
                    kept.push(own);
                }
            });
        }
    }
}

/// The outputs' planes, by blocks of output channels: `[block][sample · channels of the block]`.
fn planes_by_block<'a>(problem: &Problem, rows: usize, out: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
    let blocks = problem.out_channels.div_ceil(rows);
    let mut planes: Vec<Vec<_>> = std::iter::repeat_with(Vec::new).take(blocks).collect();
    for (i, plane) in out.chunks_exact_mut(problem.out[0] * problem.out[1]).enumerate() {
        planes[i % problem.out_channels / rows].push(plane);
    }
    planes
}

/// Transforms the tiles of some channels: `[point][tile block][channel][vectors]`.
struct Input<'a, S: Simd> {
    simd: S,
    problem: &'a Problem,
    x: &'a [f32],
    tiles: &'a [Tile],
    /// The first of the channels.
    first: usize,
    out: &'a mut [S::f32s],
}

impl<S: Simd> pulp::NullaryFnOnce for Input<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, problem, x, tiles, first, out } = self;
        let per_block = vectors::<S>();
        let blocks = tiles.len().div_ceil(BLOCK);
        let channels = out.len() / (POINTS * blocks * per_block);
        let plane = problem.size[0] * problem.size[1];
        for (block, tiles) in tiles.chunks(BLOCK).enumerate() {
            let pieces = problem.seen(tiles);
            // What lies outside the picture stays 0.
            let mut lines = vec![simd.splat_f32s(0.0); 2 * INPUTS * OUTPUTS * per_block];
            for channel in 0..channels {
                let values: &mut [f32] = bytemuck::cast_slice_mut(&mut lines);
                for piece in &pieces {
                    let start = (piece.sample * problem.channels + first + channel) * plane + piece.pixel;
                    values[piece.line..][..piece.length].copy_from_slice(&x[start..][..piece.length]);
                }
                for vector in 0..per_block {
                    let mut seen = [simd.splat_f32s(0.0); POINTS];
                    for row in 0..INPUTS {
                        let near = columns(simd, &lines[(2 * row * per_block + vector) * OUTPUTS..]);
                        let far = columns(simd, &lines[((2 * row + 1) * per_block + vector) * OUTPUTS..]);
                        let seen = &mut seen[row * INPUTS..][..INPUTS];
                        seen[..OUTPUTS].copy_from_slice(&near);
                        seen[OUTPUTS..].copy_from_slice(&far[..INPUTS - OUTPUTS]);
                    }
                    let start = (block * channels + channel) * per_block + vector;
                    transform::input(
                        simd,
                        #[inline(always)]
                        |point| seen[point],
                        #[inline(always)]
                        |point, value| out[point * blocks * channels * per_block + start] = value,
                    );
                }
            }
        }
    }
}

/// Pixels under a block of tiles that lie together both in a plane and in a line, which has four pixels for each tile.
struct Piece {
    sample: usize,
    /// The first one's place in the plane.
    pixel: usize,
    /// And in the lines.
    line: usize,
    length: usize,
}

impl Problem {
    /// What a block of tiles sees, in lines `[row][side][tile][4]`: a tile's first four columns, and, on the other
    /// side, those from the fifth on, of which it sees two.
    fn seen(&self, tiles: &[Tile]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (lane, run) in runs(tiles) {
            for line in 0..2 * INPUTS {
                let (row, side) = (line / 2, line % 2);
                let y = (run[0].out[0] + row).cast_signed() - self.padding[0];
                let x = (run[0].out[1] + side * OUTPUTS).cast_signed() - self.padding[1];
                let end = (x + (run.len() * OUTPUTS).cast_signed()).min(self.size[1].cast_signed());
                let start = x.max(0);
                if (0..self.size[0].cast_signed()).contains(&y) && start < end {
                    pieces.push(Piece {
                        sample: run[0].sample,
                        pixel: y.unsigned_abs() * self.size[1] + start.unsigned_abs(),
                        line: (line * BLOCK + lane) * OUTPUTS + (start - x).unsigned_abs(),
                        length: (end - start).unsigned_abs(),
                    });
                }
            }
        }
        pieces
    }

    /// What a block of tiles makes, in lines `[row][tile][4]`.
    fn made(&self, tiles: &[Tile]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (lane, run) in runs(tiles) {
            let [y, x] = run[0].out;
            for row in 0..OUTPUTS.min(self.out[0] - y) {
                pieces.push(Piece {
                    sample: run[0].sample,
                    pixel: (y + row) * self.out[1] + x,
                    line: (row * BLOCK + lane) * OUTPUTS,
                    length: (run.len() * OUTPUTS).min(self.out[1] - x),
                });
            }
        }
        pieces
    }
}

/// The tiles that are neighbours in a row, with the first one's place among all of them.
fn runs(tiles: &[Tile]) -> impl Iterator<Item = (usize, &[Tile])> {
    // A row of tiles ends where the next one begins at column 0.
    let runs = tiles.chunk_by(|_, next| next.out[1] > 0);
    runs.scan(0, |end, run| {
        *end += run.len();
        Some((*end - run.len(), run))
    })
}

/// The columns of tiles whose pixels lie in four vectors, tile after tile. The tiles' order in a vector is the machine's
/// own; [`pixels`] undoes it.
#[inline(always)]
fn columns<S: Simd>(simd: S, pixels: &[S::f32s]) -> [S::f32s; OUTPUTS] {
    simd.deinterleave_shfl_f32s([pixels[0], pixels[1], pixels[2], pixels[3]])
}

/// The pixels of tiles, tile after tile, from their columns.
#[inline(always)]
fn pixels<S: Simd>(simd: S, columns: [S::f32s; OUTPUTS]) -> [S::f32s; OUTPUTS] {
    simd.interleave_shfl_f32s(columns)
}

/// What a thread keeps for itself.
struct Scratch<V> {
    /// `[point][row block][channel][vectors]`
    kernels: Vec<V>,
    /// `[point][row][tile block][vectors]`
    sums: Vec<V>,
    /// Kernels that came in 16 bits.
    widened: Vec<f32>,
}

impl<V: Copy> Scratch<V> {
    fn new<S: Simd<f32s = V>>(simd: S, rows: usize, channels: usize, blocks: usize) -> Self {
        let zero = simd.splat_f32s(0.0);
        Self {
            kernels: vec![zero; POINTS * rows.next_multiple_of(BLOCK) * channels / S::F32_LANES],
            sums: vec![zero; POINTS * rows * blocks * vectors::<S>()],
            widened: Vec::new(),
        }
    }
}

/// A block of output channels over a strip of tiles.
struct Block<'a, 'b, S: Simd> {
    simd: S,
    problem: &'a Problem,
    kernels: Kernels<'a>,
    bias: Option<&'a [f32]>,
    tiles: &'a [Tile],
    /// The transformed tiles, in parts of `chunk` channels.
    transformed: &'a [S::f32s],
    chunk: usize,
    first: usize,
    rows: usize,
    scratch: &'a mut Scratch<S::f32s>,
    planes: &'a mut [&'b mut [f32]],
}

impl<S: Simd> pulp::NullaryFnOnce for Block<'_, '_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, problem, kernels, bias, tiles, transformed, chunk, first, rows, scratch, planes } =
            self;
        let per_block = vectors::<S>();
        let blocks = tiles.len().div_ceil(BLOCK);
        let padded = rows.next_multiple_of(8);
        for (part, transformed) in transformed.chunks(POINTS * blocks * chunk * per_block).enumerate() {
            let channels = transformed.len() / (POINTS * blocks * per_block);
            let per_point = rows.next_multiple_of(BLOCK) * channels / S::F32_LANES;
            let transformed_kernels = &mut scratch.kernels[..POINTS * per_point];
            let kernels = kernels.part([first, rows], [part * chunk, channels], &mut scratch.widened);
            kernels.transform(simd, [rows, channels], transformed_kernels);
            for point in 0..POINTS {
                let mut product = Product {
                    left: Left::Blocks(bytemuck::cast_slice(
                        &transformed_kernels[point * per_point..][..per_point],
                    )),
                    right: &transformed[point * blocks * channels * per_block..]
                        [..blocks * channels * per_block],
                    out: &mut scratch.sums[point * padded * blocks * per_block..]
                        [..padded * blocks * per_block],
                    strides: [channels * per_block, per_block],
                    rows: padded,
                    columns: blocks * per_block,
                    depth: channels,
                    accumulate: part > 0,
                };
                product.run(simd);
            }
        }
        let mut lines = vec![simd.splat_f32s(0.0); OUTPUTS * OUTPUTS * per_block];
        let pieces: Vec<_> = tiles.chunks(BLOCK).map(|tiles| problem.made(tiles)).collect();
        for row in 0..rows {
            let bias = simd.splat_f32s(bias.map_or(0.0, |bias| bias[row]));
            for (block, pieces) in pieces.iter().enumerate() {
                for vector in 0..per_block {
                    let start = (row * blocks + block) * per_block + vector;
                    let mut made = [bias; OUTPUTS * OUTPUTS];
                    transform::output(
                        simd,
                        #[inline(always)]
                        |point| scratch.sums[point * padded * blocks * per_block + start],
                        #[inline(always)]
                        |place, value| made[place] = simd.add_f32s(value, bias),
                    );
                    let (made, _) = made.as_chunks::<OUTPUTS>();
                    for line in 0..OUTPUTS {
                        lines[(line * per_block + vector) * OUTPUTS..][..OUTPUTS]
                            .copy_from_slice(&pixels(simd, made[line]));
                    }
                }
                let values: &[f32] = bytemuck::cast_slice(&lines);
                for piece in pieces {
                    planes[piece.sample * rows + row][piece.pixel..][..piece.length]
                        .copy_from_slice(&values[piece.line..][..piece.length]);
                }
            }
        }
    }
}
