//! Convolution as matrix products, a strip of output rows at a time: the strip's patches (im2col) stay in the cache,
//! and nothing of the size of the whole picture's patches is ever made. Threads take samples, and where there are
//! fewer of these than threads, blocks of output channels. Kernels of 3 x 3 go another way where that pays,
//! [minimal filtering](super::winograd), and so do convolutions to [few pixels](few_pixels).

mod few_pixels;

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::ops::ConvOptions;
use rayon::prelude::*;

use super::floats::Floats;
use super::gemm::{Destination, gemm, row_major, transposed};
use super::{FlexTensor, contiguous, fresh, tensor, values, winograd};
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

    /// The same as minimal filtering takes it.
    fn minimal(&self, batch: usize) -> Option<winograd::Problem> {
        (self.kernel == [3, 3] && self.stride == [1, 1]).then_some(winograd::Problem {
            batch,
            channels: self.channels,
            out_channels: self.out_channels,
            size: self.size,
            out: self.out,
            padding: self.padding,
        })
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
    let (x, weight) = (values(&x), Floats::of(&weight));
    let bias = match bias {
        Bias::None => None,
        Bias::PerChannel(bias) => Some(contiguous(bias)),
    };
    let bias = bias.as_ref().map(values);
    let mut out = fresh::zeros(shape.iter().product());
    if out.is_empty() || x.is_empty() {
        return tensor(out, shape);
    }
    if let Some(minimal) = problem.minimal(batch).filter(winograd::Problem::pays) {
        let kernels = winograd::Kernels {
            values: weight,
            out_stride: problem.channels * 9,
            in_stride: 9,
            turned: false,
        };
        winograd::convolve(&minimal, x, kernels, bias, &mut out);
        return tensor(out, shape);
    }
    if few_pixels::pays(&problem, batch) {
        few_pixels::convolve(&problem, x, weight, bias, &mut out);
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
            || {
                let patches = if problem.is_pointwise() { 0 } else { patch * strip * problem.out[1] };
                (vec![0.0_f32; patches], Vec::new())
            },
            |(patches, widened), (first, out, sample)| {
                let channels = out.len() / n;
                for (c, row) in out.chunks_exact_mut(n).enumerate() {
                    row.fill(bias.map_or(0.0, |bias| bias[first + c]));
                }
                let weight = weight.widened(first * patch..(first + channels) * patch, widened);
                let weight = (weight, row_major(patch));
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
    let dx = problem.input_gradient(x_shape[0], weight, grad);
    let d_weight = match problem.minimal(x_shape[0]).filter(winograd::Problem::pays_for_kernels) {
        Some(minimal) => winograd::of_kernels(&minimal, x, grad),
        None => problem.weight_gradient(x_shape[0], x, grad),
    };
    let d_bias = problem.bias_gradient(grad);
    (tensor(dx, x_shape), tensor(d_weight, weight_shape), tensor(d_bias, [problem.out_channels]))
}

/// The samples are divided among this many sums of ∂w, however many threads there are: so the sum is made in one
/// order, and a run gives the same bits on any machine.
const PARTS: usize = 8;

impl Problem {
    fn input_gradient(&self, batch: usize, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let (patch, n, out_channels) = (self.patch(), self.out_pixels(), self.out_channels);
        let sample_len = self.channels * self.pixels();
        let mut dx = fresh::zeros(batch * sample_len);
        if dx.is_empty() || grad.is_empty() {
            return dx;
        }
        let minimal = self.minimal(batch).map(|minimal| minimal.of_gradient());
        if let Some(minimal) = minimal.filter(winograd::Problem::pays) {
            let in_stride = self.channels * 9;
            let values = Floats::F32(weight);
            let kernels = winograd::Kernels { values, out_stride: 9, in_stride, turned: true };
            winograd::convolve(&minimal, grad, kernels, None, &mut dx);
            return dx;
        }
        let strip = self.strip();
        dx.par_chunks_mut(sample_len).zip(grad.par_chunks(out_channels * n)).for_each_init(
            || vec![0.0_f32; patch * strip * self.out[1]],
            |d_patches, (dx, grad)| {
                for row in (0..self.out[0]).step_by(strip) {
                    let rows = row..(row + strip).min(self.out[0]);
                    let width = rows.len() * self.out[1];
                    // ∂patches = wᵗ ∂y.
                    let grad = (&grad[row * self.out[1]..], row_major(n));
                    let out = (&mut d_patches[..], width);
                    let lhs = (weight, transposed(patch));
                    gemm([patch, width, out_channels], out, Destination::Overwrite, lhs, grad, 1.0);
                    self.scatter(d_patches, rows, dx);
                }
            },
        );
        dx
    }

    fn weight_gradient(&self, batch: usize, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let (patch, n, out_channels) = (self.patch(), self.out_pixels(), self.out_channels);
        let (sample_len, out_len) = (self.channels * self.pixels(), out_channels * n);
        let zeros = || vec![0.0_f32; out_channels * patch];
        if x.is_empty() || grad.is_empty() {
            return zeros();
        }
        let part = batch.div_ceil(PARTS);
        let parts = batch.div_ceil(part);
        // Fewer parts than threads: each is divided by output channels, which changes no sum.
        let block = out_channels.div_ceil(rayon::current_num_threads().div_ceil(parts));
        let strip = self.strip();
        let mut sums: Vec<_> = (0..parts).map(|_| zeros()).collect();
        sums.par_iter_mut()
            .zip(x.par_chunks(part * sample_len).zip(grad.par_chunks(part * out_len)))
            .flat_map(|(d_weight, (x, grad))| {
                let blocks = d_weight.par_chunks_mut(block * patch);
                blocks.enumerate().map(move |(i, d_weight)| (i * block, d_weight, x, grad))
            })
            .for_each_init(
                || vec![0.0_f32; patch * strip * self.out[1]],
                |patches, (first, d_weight, x, grad)| {
                    for (x, grad) in x.chunks_exact(sample_len).zip(grad.chunks_exact(out_len)) {
                        for row in (0..self.out[0]).step_by(strip) {
                            let rows = row..(row + strip).min(self.out[0]);
                            let width = rows.len() * self.out[1];
                            self.gather(x, rows, patches);
                            // ∂w += ∂y patchesᵗ.
                            let size = [d_weight.len() / patch, patch, width];
                            let grad = (&grad[first * n + row * self.out[1]..], row_major(n));
                            let columns = (&patches[..], transposed(width));
                            let out = (&mut d_weight[..], patch);
                            gemm(size, out, Destination::Accumulate, grad, columns, 1.0);
                        }
                    }
                },
            );
        let mut sums = sums.into_iter();
        let mut d_weight = sums.next().unwrap_or_else(zeros);
        for sum in sums {
            d_weight.iter_mut().zip(sum).for_each(|(sum, v)| *sum += v);
        }
        d_weight
    }

    /// Over samples and pixels.
    fn bias_gradient(&self, grad: &[f32]) -> Vec<f32> {
        let n = self.out_pixels();
        let sum = |channel: usize| {
            let planes = grad.chunks_exact(n.max(1)).skip(channel).step_by(self.out_channels);
            planes.map(|plane| super::math::sum(plane, |v| v)).sum()
        };
        (0..self.out_channels).into_par_iter().map(sum).collect()
    }
}
