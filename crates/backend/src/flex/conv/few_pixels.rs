//! Convolution to few pixels, where reading the kernels is most of the work: they are read once, in the order they lie, for all pixels of
//! all samples, whose patches are made once.

use pulp::{NullaryFnOnce, Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::Problem;
use crate::flex::floats::Floats;
use crate::flex::fresh;
use crate::flex::product::{BLOCK, Left, Product, vectors};

/// Pixels of all samples, at most.
const PIXELS: usize = 128;
/// Patches' values, at least: with fewer, kernels stay in the cache.
const PATCH: usize = 1024;
/// Values of the patches that are multiplied at a time: by 64 pixels they are 256 KiB.
const DEPTH: usize = 1024;
/// Output channels that a thread takes at a time.
const ROWS: usize = 64;

/// Whether this way is the faster one.
pub(super) fn pays(problem: &Problem, batch: usize) -> bool {
    batch * problem.out_pixels() <= PIXELS && problem.patch() >= PATCH
}

/// The convolution of `x` into `out` `[batch, out channels, out pixels]`.
pub(super) fn convolve(problem: &Problem, x: &[f32], weight: Floats, bias: Option<&[f32]>, out: &mut [f32]) {
    let pixels = problem.out_pixels();
    let columns = (out.len() / problem.out_channels).next_multiple_of(BLOCK);
    let patches = patches(problem, x, columns);
    // As `[channel][sample][pixel]`, padded to whole blocks.
    let mut sums = fresh::zeros(problem.out_channels.next_multiple_of(8) * columns);
    sums.par_chunks_mut(ROWS * columns).enumerate().for_each(|(i, out)| {
        pulp::Arch::new().dispatch(Rows {
            problem,
            patches: &patches,
            weight,
            first: i * ROWS,
            columns,
            out,
        });
    });
    for (sample, out) in out.chunks_exact_mut(problem.out_channels * pixels).enumerate() {
        for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            let sums = &sums[channel * columns + sample * pixels..][..pixels];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum + bias);
        }
    }
}

/// All samples' patches, `[patch][sample][pixel]`, padded to `columns`.
fn patches(problem: &Problem, x: &[f32], columns: usize) -> Vec<f32> {
    let Problem { channels, kernel, out, .. } = *problem;
    let (pixels, taps) = (problem.out_pixels(), kernel[0] * kernel[1]);
    let one = Problem { channels: 1, ..*problem };
    let mut patches = fresh::zeros(problem.patch() * columns);
    patches.par_chunks_mut(taps * columns).enumerate().for_each_init(
        || vec![0.0; taps * pixels],
        |gathered, (channel, patches)| {
            for (sample, x) in x.chunks_exact(channels * problem.pixels()).enumerate() {
                one.gather(&x[channel * problem.pixels()..][..problem.pixels()], 0..out[0], gathered);
                for (line, patches) in gathered.chunks_exact(pixels).zip(patches.chunks_exact_mut(columns)) {
                    patches[sample * pixels..][..pixels].copy_from_slice(line);
                }
            }
        },
    );
    patches
}

/// Some output channels, up to a whole eight.
struct Rows<'a> {
    problem: &'a Problem,
    patches: &'a [f32],
    weight: Floats<'a>,
    first: usize,
    columns: usize,
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        simd.vectorize(Vectorised(simd, self));
    }
}

struct Vectorised<'a, S>(S, Rows<'a>);

impl<S: Simd> NullaryFnOnce for Vectorised<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(simd, Rows { problem, patches, weight, first, columns, out }) = self;
        let patch = problem.patch();
        let each = columns / S::F32_LANES;
        let rows = ROWS.min(problem.out_channels - first);
        let mut widened = Vec::new();
        for start in (0..patch).step_by(DEPTH) {
            let depth = DEPTH.min(patch - start);
            let left = match weight {
                Floats::F32(values) => Left::Rows { values, start: first * patch + start, stride: patch },
                narrow => {
                    widened.clear();
                    for row in first..first + rows {
                        narrow.widen(row * patch + start..row * patch + start + depth, &mut widened);
                    }
                    Left::Rows { values: &widened, start: 0, stride: depth }
                }
            };
            let mut product = Product {
                left,
                right: bytemuck::cast_slice(&patches[start * columns..][..depth * columns]),
                strides: [vectors::<S>(), each],
                rows,
                columns: each,
                depth,
                accumulate: start > 0,
                out: bytemuck::cast_slice_mut(&mut *out),
            };
            product.run(simd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flex::widths::{Holds, at_every_width, numbers};

    #[test]
    fn at_every_width_of_vectors() {
        struct Kernels;
        impl Holds for Kernels {
            fn holds<S: Simd>(&self, simd: S) {
                let (size, patch) = ([1, 1], 2 * DEPTH + 3);
                let problem = Problem {
                    channels: patch,
                    size,
                    out_channels: 13,
                    kernel: [1, 1],
                    stride: [1, 1],
                    padding: [0, 0],
                    out: size,
                };
                let (weight, columns) = (numbers(13 * patch, 1), 5 * BLOCK);
                let patches = numbers(patch * columns, 2);
                let mut out = vec![f32::NAN; 16 * columns];
                Rows {
                    problem: &problem,
                    patches: &patches,
                    weight: Floats::F32(&weight),
                    first: 0,
                    columns,
                    out: &mut out,
                }
                .with_simd(simd);
                for (row, column) in (0..13).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let product =
                        |i| f64::from(weight[row * patch + i]) * f64::from(patches[i * columns + column]);
                    let expected: f64 = (0..patch).map(product).sum();
                    let found = out[row * columns + column];
                    assert!(
                        (f64::from(found) - expected).abs() < 2e-4,
                        "{row}, {column}: {found} for {expected}"
                    );
                }
            }
        }
        at_every_width(&Kernels);
    }
}
