//! Convolution as matrix products, a strip of output rows at a time: the strip's patches (im2col) stay in the cache,
//! and nothing of the size of the whole picture's patches is ever made. Threads take samples, and where there are
//! fewer of these than threads, blocks of output channels.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::ops::ConvOptions;
use rayon::prelude::*;

use super::gemm::{Destination, gemm, row_major, transposed};
use super::{FlexTensor, contiguous, tensor, values};
use crate::Bias;

/// The sizes of one convolution.
#[derive(Clone, Copy)]
pub(super) struct Problem {
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
    pub(super) out_channels: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// Above and to the left; below 0, so many rows and columns are left out.
    pub(super) padding: [isize; 2],
    pub(super) out: [usize; 2],
}

/// Whether the kernel takes these options.
pub(super) fn takes(options: &ConvOptions<2>) -> bool {
    options.groups == 1 && options.dilation == [1, 1]
}

impl Problem {
    fn of(x: &FlexTensor, weight: &FlexTensor, options: &ConvOptions<2>) -> Self {
        let [_, channels, height, width] = x.shape().dims();
        let [out_channels, _, kh, kw] = weight.shape().dims();
        let out = |size: usize, kernel: usize, axis: usize| {
            let (before, after) = options.padding[axis];
            (size + before + after - kernel) / options.stride[axis] + 1
        };
        Self {
            channels,
            size: [height, width],
            out_channels,
            kernel: [kh, kw],
            stride: options.stride,
            padding: [options.padding[0].0, options.padding[1].0].map(usize::cast_signed),
            out: [out(height, kh, 0), out(width, kw, 1)],
        }
    }

    /// Values in a patch: the inner dimension of the products.
    pub(super) fn patch(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn out_pixels(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Output rows in a strip: so many that their patches take a quarter of a megabyte.
    pub(super) fn strip(&self) -> usize {
        (65_536 / (self.patch() * self.out[1]).max(1)).clamp(1, self.out[0])
    }

    /// For a kernel column: the outputs (first and end) whose input lies inside the picture.
    fn inside(&self, column: usize) -> (usize, usize) {
        let stride = self.stride[1];
        // Output 0's place, counted from the picture's edge.
        let place = column.cast_signed() - self.padding[1];
        let from = |edge: isize| (edge - place).max(0).unsigned_abs().div_ceil(stride);
        let (first, end) = (from(0), from(self.size[1].cast_signed()).min(self.out[1]));
        (first.min(end), end)
    }

    /// Calls `each` for every row piece of the patches of output rows `rows`: (where it starts in the patches, the
    /// outputs it covers, where it starts in the sample) or, for a row in the padding, no sample.
    #[inline(always)]
    fn pieces(
        &self,
        rows: std::ops::Range<usize>,
        mut each: impl FnMut(usize, (usize, usize), Option<usize>),
    ) {
        let length = rows.len() * self.out[1];
        let mut line = 0;
        for channel in 0..self.channels {
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let inside = self.inside(j);
                    for (n, row) in rows.clone().enumerate() {
                        let y = (row * self.stride[0] + i).checked_add_signed(-self.padding[0]);
                        let source = y.filter(|&y| y < self.size[0]).map(|y| {
                            let x = (inside.0 * self.stride[1] + j).saturating_add_signed(-self.padding[1]);
                            (channel * self.size[0] + y) * self.size[1] + x
                        });
                        each(line * length + n * self.out[1], inside, source);
                    }
                    line += 1;
                }
            }
        }
    }

    /// The patches of output rows `rows`: `[patch, rows · out width]`.
    pub(super) fn gather(&self, sample: &[f32], rows: std::ops::Range<usize>, patches: &mut [f32]) {
        let (width, stride) = (self.out[1], self.stride[1]);
        self.pieces(rows, |start, (first, end), source| {
            let line = &mut patches[start..start + width];
            let Some(source) = source.filter(|_| first < end) else {
                line.fill(0.0);
                return;
            };
            line[..first].fill(0.0);
            line[end..].fill(0.0);
            let count = end - first;
            if stride == 1 {
                line[first..end].copy_from_slice(&sample[source..source + count]);
            } else {
                for (v, &s) in line[first..end].iter_mut().zip(sample[source..].iter().step_by(stride)) {
                    *v = s;
                }
            }
        });
    }

    /// The adjoint of [`gather`](Self::gather): adds the patches onto the sample.
    fn scatter(&self, patches: &[f32], rows: std::ops::Range<usize>, sample: &mut [f32]) {
        let stride = self.stride[1];
        self.pieces(rows, |start, (first, end), source| {
            let Some(source) = source.filter(|_| first < end) else { return };
            let line = &patches[start + first..start + end];
            if stride == 1 {
                for (s, &v) in sample[source..source + line.len()].iter_mut().zip(line) {
                    *s += v;
                }
            } else {
                for (s, &v) in sample[source..].iter_mut().step_by(stride).zip(line) {
                    *s += v;
                }
            }
        });
    }

    /// Whether a patch is a pixel, so that the picture is its own matrix of patches.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.size == self.out
    }
}

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Bias<Flex>,
    options: &ConvOptions<2>,
) -> FlexTensor {
    let problem = Problem::of(&x, &weight, options);
    let batch = x.shape()[0];
    let shape = [batch, problem.out_channels, problem.out[0], problem.out[1]];
    let (x, weight) = (contiguous(x), contiguous(weight));
    let (x, weight) = (values(&x), values(&weight));
    let bias = match bias {
        Bias::None => None,
        Bias::PerChannel(bias) => Some(contiguous(bias)),
    };
    let bias = bias.as_ref().map(values);
    let mut out = vec![0.0_f32; shape.iter().product()];
    if out.is_empty() || x.is_empty() {
        return tensor(out, shape);
    }
    let (patch, n) = (problem.patch(), problem.out_pixels());
    let blocks = rayon::current_num_threads().div_ceil(batch).min(problem.out_channels);
    let block = problem.out_channels.div_ceil(blocks);
    let strip = problem.strip();
    let samples =
        out.par_chunks_mut(problem.out_channels * n).zip(x.par_chunks(problem.channels * problem.pixels()));
    samples
        .flat_map(|(out, sample)| {
            out.par_chunks_mut(block * n).enumerate().map(move |(i, out)| (i * block, out, sample))
        })
        .for_each_init(
            || vec![0.0_f32; if problem.is_pointwise() { 0 } else { patch * strip * problem.out[1] }],
            |patches, (first, out, sample)| {
                let channels = out.len() / n;
                for (c, row) in out.chunks_exact_mut(n).enumerate() {
                    row.fill(bias.map_or(0.0, |bias| bias[first + c]));
                }
                let weight = (&weight[first * patch..][..channels * patch], row_major(patch));
                if problem.is_pointwise() {
                    let sample = (sample, row_major(n));
                    gemm([channels, n, patch], (out, n), Destination::Accumulate, weight, sample, 1.0);
                    return;
                }
                for row in (0..problem.out[0]).step_by(strip) {
                    let rows = row..(row + strip).min(problem.out[0]);
                    let width = rows.len() * problem.out[1];
                    problem.gather(sample, rows, patches);
                    let out = (&mut out[row * problem.out[1]..], n);
                    let patches = (&patches[..], row_major(width));
                    gemm([channels, width, patch], out, Destination::Accumulate, weight, patches, 1.0);
                }
            },
        );
    tensor(out, shape)
}

/// The samples are divided among this many sums of ∂w, however many threads there are: so the sum is made in one
/// order, and a run gives the same bits on any machine.
const PARTS: usize = 8;

pub(super) fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
    options: &ConvOptions<2>,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let problem = Problem::of(&x, &weight, options);
    let (x_shape, weight_shape) = (x.shape().to_vec(), weight.shape().to_vec());
    let [x, weight, grad] = [x, weight, grad].map(contiguous);
    let (x, weight, grad) = (values(&x), values(&weight), values(&grad));
    let (patch, n, out_channels) = (problem.patch(), problem.out_pixels(), problem.out_channels);
    let (sample_len, out_len) = (problem.channels * problem.pixels(), out_channels * n);
    let part = x_shape[0].div_ceil(PARTS).max(1);
    let strip = problem.strip();
    let mut dx = vec![0.0_f32; x.len()];
    let mut sums =
        vec![(vec![0.0_f32; weight.len()], vec![0.0_f32; out_channels]); x_shape[0].div_ceil(part)];
    if !x.is_empty() && !grad.is_empty() {
        dx.par_chunks_mut(part * sample_len)
            .zip(x.par_chunks(part * sample_len))
            .zip(grad.par_chunks(part * out_len))
            .zip(sums.par_iter_mut())
            .for_each_init(
                || [(); 2].map(|()| vec![0.0_f32; patch * strip * problem.out[1]]),
                |[patches, d_patches], (((dx, x), grad), (d_weight, d_bias))| {
                    let samples = dx.chunks_exact_mut(sample_len).zip(x.chunks_exact(sample_len));
                    for ((dx, x), grad) in samples.zip(grad.chunks_exact(out_len)) {
                        for (sum, row) in d_bias.iter_mut().zip(grad.chunks_exact(n)) {
                            *sum += super::math::sum(row, |v| v);
                        }
                        for row in (0..problem.out[0]).step_by(strip) {
                            let rows = row..(row + strip).min(problem.out[0]);
                            let width = rows.len() * problem.out[1];
                            let grad = (&grad[row * problem.out[1]..], row_major(n));
                            // ∂w += ∂y patchesᵗ, ∂patches = wᵗ ∂y.
                            problem.gather(x, rows.clone(), patches);
                            let columns = (&patches[..], transposed(width));
                            let d_weight = (&mut d_weight[..], patch);
                            gemm(
                                [out_channels, patch, width],
                                d_weight,
                                Destination::Accumulate,
                                grad,
                                columns,
                                1.0,
                            );
                            let lhs = (weight, transposed(patch));
                            let out = (&mut d_patches[..], width);
                            gemm([patch, width, out_channels], out, Destination::Overwrite, lhs, grad, 1.0);
                            problem.scatter(d_patches, rows, dx);
                        }
                    }
                },
            );
    }
    let mut sums = sums.into_iter();
    let (mut d_weight, mut d_bias) =
        sums.next().unwrap_or_else(|| (vec![0.0; weight.len()], vec![0.0; out_channels]));
    for (w, b) in sums {
        d_weight.iter_mut().zip(w).for_each(|(sum, v)| *sum += v);
        d_bias.iter_mut().zip(b).for_each(|(sum, v)| *sum += v);
    }
    (tensor(dx, x_shape), tensor(d_weight, weight_shape), tensor(d_bias, [out_channels]))
}
