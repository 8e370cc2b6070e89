//! 3 x 3 convolution with stride 1 by minimal filtering, F(4 x 4, 3 x 3) (Winograd 1980; Lavin and Gray 2016): 36 products
//! for 16 outputs in place of 144.
//!
//! The picture is cut into tiles of 6 x 6 that overlap by two. A strip of them is transformed, and stays in the last cache;
//! then each thread takes blocks of output channels, transforms their kernels, some input channels at a time, so that
//! these stay in its own cache, multiplies at each of the 36 points, and transforms the sums into the outputs. Kernels are
//! transformed at each call and for each strip, which costs a few percent; transformed ones would take four times the
//! weights' memory.

#[cfg(test)]
mod tests;
mod transform;

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
const STRIP_VALUES: usize = 4 << 20;

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

/// Kernels of 3 x 3 inside a tensor: where an output channel's, and an input channel's among them, begin.
#[derive(Clone, Copy)]
pub(super) struct Kernels<'a> {
    pub(super) values: &'a [f32],
    pub(super) out_stride: usize,
    pub(super) in_stride: usize,
    /// Turned by half a circle, as the gradient takes them.
    pub(super) turned: bool,
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
        let strip = (STRIP_VALUES / (POINTS * channels)).clamp(TILES.0, TILES.1).min(problem.tiles());
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
        let mut gathered = vec![simd.splat_f32s(0.0); POINTS * per_block];
        for (block, tiles) in tiles.chunks(BLOCK).enumerate() {
            for channel in 0..channels {
                problem.gather(x, first + channel, tiles, points(&mut gathered));
                for vector in 0..per_block {
                    let start = (block * channels + channel) * per_block + vector;
                    transform::input(
                        simd,
                        #[inline(always)]
                        |point| gathered[point * per_block + vector],
                        #[inline(always)]
                        |point, value| out[point * blocks * channels * per_block + start] = value,
                    );
                }
            }
        }
    }
}

impl Problem {
    /// What the tiles see of a channel: `[point][tile]`. The places of tiles that are not there keep what they have.
    #[inline(always)]
    fn gather(&self, x: &[f32], channel: usize, tiles: &[Tile], gathered: &mut [[f32; BLOCK]; POINTS]) {
        let [height, width] = self.size;
        for (lane, tile) in (0..BLOCK).zip(tiles) {
            let plane = &x[(tile.sample * self.channels + channel) * height * width..][..height * width];
            let [y, x] = [0, 1].map(|axis| tile.out[axis].cast_signed() - self.padding[axis]);
            let inside =
                |from: isize, size: usize| from >= 0 && from + INPUTS.cast_signed() <= size.cast_signed();
            if inside(y, height) && inside(x, width) {
                let start = y.unsigned_abs() * width + x.unsigned_abs();
                for i in 0..INPUTS {
                    let row = &plane[start + i * width..][..INPUTS];
                    for (j, &value) in row.iter().enumerate() {
                        gathered[i * INPUTS + j][lane] = value;
                    }
                }
                continue;
            }
            for i in 0..INPUTS {
                let row = usize::try_from(y + i.cast_signed()).ok().filter(|&row| row < height);
                for j in 0..INPUTS {
                    let column = usize::try_from(x + j.cast_signed()).ok().filter(|&column| column < width);
                    let value = row.zip(column).map_or(0.0, |(row, column)| plane[row * width + column]);
                    gathered[i * INPUTS + j][lane] = value;
                }
            }
        }
    }

    /// Puts the outputs of tiles `[4 x 4][tile]` into a plane, and adds the bias.
    #[inline(always)]
    fn scatter(&self, values: &[f32], lane: usize, tile: Tile, bias: f32, plane: &mut [f32]) {
        let [height, width] = self.out;
        let [y, x] = tile.out;
        let (rows, columns) = ((height - y).min(OUTPUTS), (width - x).min(OUTPUTS));
        for i in 0..rows {
            let row = &mut plane[(y + i) * width + x..][..columns];
            for (j, out) in row.iter_mut().enumerate() {
                *out = values[(i * OUTPUTS + j) * BLOCK + lane] + bias;
            }
        }
    }
}

/// Vectors as blocks of numbers, one for each of `N` places.
fn points<V: bytemuck::Pod, const N: usize>(vectors: &mut [V]) -> &mut [[f32; BLOCK]; N] {
    bytemuck::cast_slice_mut(vectors).try_into().expect("there are as many vectors as N blocks have")
}

/// What a thread keeps for itself.
struct Scratch<V> {
    /// `[point][row block][channel][vectors]`
    kernels: Vec<V>,
    /// `[point][row][tile block][vectors]`
    sums: Vec<V>,
}

impl<V: Copy> Scratch<V> {
    fn new<S: Simd<f32s = V>>(simd: S, rows: usize, channels: usize, blocks: usize) -> Self {
        let zero = simd.splat_f32s(0.0);
        Self {
            kernels: vec![zero; POINTS * rows.next_multiple_of(BLOCK) * channels / S::F32_LANES],
            sums: vec![zero; POINTS * rows * blocks * vectors::<S>()],
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
            kernels.transform(simd, [first, rows], [part * chunk, channels], transformed_kernels);
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
        let mut outputs = vec![simd.splat_f32s(0.0); OUTPUTS * OUTPUTS * per_block];
        for row in 0..rows {
            let bias = bias.map_or(0.0, |bias| bias[row]);
            for (block, tiles) in tiles.chunks(BLOCK).enumerate() {
                for vector in 0..per_block {
                    let start = (row * blocks + block) * per_block + vector;
                    transform::output(
                        simd,
                        #[inline(always)]
                        |point| scratch.sums[point * padded * blocks * per_block + start],
                        #[inline(always)]
                        |place, value| outputs[place * per_block + vector] = value,
                    );
                }
                let values = bytemuck::cast_slice(&outputs);
                for (lane, &tile) in tiles.iter().enumerate() {
                    problem.scatter(values, lane, tile, bias, planes[tile.sample * rows + row]);
                }
            }
        }
    }
}

impl Kernels<'_> {
    /// Transforms the kernels of some output and input channels (where each begins, how many): `[point][row
    /// block][channel][vectors]`.
    #[inline(always)]
    fn transform<S: Simd>(
        &self,
        simd: S,
        [first, rows]: [usize; 2],
        [first_channel, channels]: [usize; 2],
        out: &mut [S::f32s],
    ) {
        let per_block = vectors::<S>();
        let blocks = rows.div_ceil(BLOCK);
        let mut gathered = vec![simd.splat_f32s(0.0); 9 * per_block];
        for block in 0..blocks {
            let first = first + block * BLOCK;
            let there = (rows - block * BLOCK).min(BLOCK);
            for channel in 0..channels {
                let values: &mut [[f32; BLOCK]; 9] = points(&mut gathered);
                #[allow(clippy::needless_range_loop, reason = "a kernel is spread over its places")]
                for lane in 0..BLOCK {
                    // Rows beyond the last are computed like it, and left out at the end.
                    let row = first + lane.min(there - 1);
                    let kernel = &self.values
                        [row * self.out_stride + (first_channel + channel) * self.in_stride..][..9];
                    for (place, &value) in kernel.iter().enumerate() {
                        let place = if self.turned { 8 - place } else { place };
                        values[place][lane] = value;
                    }
                }
                for vector in 0..per_block {
                    let start = (block * channels + channel) * per_block + vector;
                    transform::kernel(
                        simd,
                        #[inline(always)]
                        |place| gathered[place * per_block + vector],
                        #[inline(always)]
                        |point, value| out[point * blocks * channels * per_block + start] = value,
                    );
                }
            }
        }
    }
}
