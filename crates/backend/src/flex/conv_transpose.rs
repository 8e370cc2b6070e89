//! Transposed convolution, output by output. Along an axis with stride s, the outputs of one remainder b of s are a convolution
//! of stride 1 with every s-th tap:
//!
//! y[s q + b] = Σ_t w[a + s t] x[q + m - t],    a = (b + padding) mod s,  m = ⌊(b + padding) / s⌋
//!
//! so each is a matrix product (the patches of [`conv`](super::conv)), and nothing is added up in the result. Where a group
//! makes few channels, products would be narrow: there rows are summed up, tap by tap.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::ops::ConvTransposeOptions;
use rayon::prelude::*;

use super::conv::Problem;
use super::fresh::pieces;
use super::gemm::{Destination, gemm, row_major};
use super::interleave::interleave;
use super::{FlexTensor, contiguous, fresh, tensor, values, vectorised};
use crate::Bias;
use crate::ops::output_side;

/// Output channels of a group from which on matrix products are worth it.
const WIDE: usize = 4;

/// Whether the kernel takes these options.
pub(super) fn takes(options: &ConvTransposeOptions<2>) -> bool {
    options.dilation == [1, 1]
}

/// The outputs `s q + b` of one axis.
#[derive(Clone, Copy)]
struct Phase {
    /// The first of its taps, of which it has every s-th.
    first_tap: usize,
    taps: usize,
    /// Output q reads the inputs from `q - padding` on.
    padding: isize,
    count: usize,
}

impl Phase {
    /// Those of all remainders, in order.
    fn all(kernel: usize, stride: usize, padding: usize, outputs: usize) -> Vec<Self> {
        let phase = |b: usize| {
            let (first_tap, moved) = ((b + padding) % stride, (b + padding) / stride);
            let taps = kernel.saturating_sub(first_tap).div_ceil(stride);
            let count = outputs.saturating_sub(b).div_ceil(stride);
            Self { first_tap, taps, padding: taps as isize - 1 - moved as isize, count }
        };
        (0..stride).map(phase).collect()
    }

    /// The kernel's tap that meets the `n`-th input that an output reads.
    fn tap(&self, n: usize, stride: usize) -> usize {
        self.first_tap + stride * (self.taps - 1 - n)
    }
}

struct Sizes {
    /// Channels in and out of a group.
    channels: [usize; 2],
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    out: [usize; 2],
    phases: [Vec<Phase>; 2],
}

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Bias<Flex>,
    options: &ConvTransposeOptions<2>,
) -> FlexTensor {
    let ([batch, channels, height, width], [_, out_channels, kh, kw]) =
        (x.shape().dims(), weight.shape().dims());
    let (groups, size, kernel) = (options.groups, [height, width], [kh, kw]);
    let out = [0, 1].map(|axis| output_side(size[axis], kernel[axis], options, axis).unwrap_or(0));
    let shape = [batch, groups * out_channels, out[0], out[1]];
    let (x, weight) = (contiguous(x), contiguous(weight));
    let bias = match bias {
        Bias::None => None,
        Bias::PerChannel(bias) => Some(contiguous(bias)),
    };
    let bias = bias.as_ref().map(values);
    if shape.contains(&0) || x.shape().num_elements() == 0 {
        return tensor(vec![0.0; shape.iter().product()], shape);
    }
    let sizes = Sizes {
        channels: [channels / groups, out_channels],
        size,
        kernel,
        stride: options.stride,
        out,
        phases: [0, 1]
            .map(|axis| Phase::all(kernel[axis], options.stride[axis], options.padding[axis], out[axis])),
    };
    let (area, input) = (out[0] * out[1], sizes.channels[0] * height * width);
    let (x, weight) = (values(&x), values(&weight));
    let bias = |channel: usize| bias.map_or(0.0, |bias| bias[channel]);
    if out_channels < WIDE {
        let y = pieces(batch * groups * out_channels, area, |n, y| {
            let (sample, channel) = (n / out_channels, n % out_channels);
            let group = sample % groups;
            let weight = &weight[group * sizes.channels[0] * out_channels * kh * kw..];
            sizes.by_rows(
                &x[sample * input..][..input],
                weight,
                channel,
                bias(group * out_channels + channel),
                y,
            );
        });
        return tensor(y, shape);
    }
    let filters = sizes.filters(weight, groups);
    let blocks = rayon::current_num_threads().div_ceil(batch * groups).min(out_channels);
    let block = out_channels.div_ceil(blocks);
    let mut y = fresh::zeros(shape.iter().product());
    // A sample's group at a time, and of that a block of output channels.
    y.par_chunks_mut(out_channels * area)
        .zip(x.par_chunks(input))
        .enumerate()
        .flat_map(|(n, (y, x))| {
            let blocks = y.par_chunks_mut(block * area).enumerate();
            blocks.map(move |(i, y)| (n % groups, i * block, y, x))
        })
        .for_each(|(group, first, y, x)| {
            sizes.by_products(x, &filters[group], first, |c| bias(group * out_channels + first + c), y);
        });
    tensor(y, shape)
}

/// For each phase down, and of these across, the taps `[taps down, out_channels, channels · taps across]`.
type Filters = Vec<Vec<f32>>;

impl Sizes {
    /// For each group.
    fn filters(&self, weight: &[f32], groups: usize) -> Vec<Filters> {
        let ([channels, out_channels], [kh, kw]) = (self.channels, self.kernel);
        let of = |group: usize, down: &Phase, across: &Phase| {
            let mut packed = Vec::with_capacity(out_channels * channels * down.taps * across.taps);
            for i in 0..down.taps {
                let row = down.tap(i, self.stride[0]) * kw;
                for o in 0..out_channels {
                    for c in 0..channels {
                        let filter = ((group * channels + c) * out_channels + o) * kh * kw + row;
                        let tap = |j| weight[filter + across.tap(j, self.stride[1])];
                        packed.extend((0..across.taps).map(tap));
                    }
                }
            }
            packed
        };
        let acrosses = &self.phases[1];
        let pairs = self.phases[0].par_iter().flat_map_iter(|d| acrosses.iter().map(move |a| (d, a)));
        let all = |group| pairs.clone().map(|(down, across)| of(group, down, across)).collect();
        (0..groups).map(all).collect()
    }

    /// Some output channels from `first` on, by matrix products. The patches are single rows, and so serve all phases down and
    /// all their taps, which read them from another row on.
    fn by_products(
        &self,
        x: &[f32],
        filters: &Filters,
        first: usize,
        bias: impl Fn(usize) -> f32,
        y: &mut [f32],
    ) {
        let ([downs, acrosses], area) = (&self.phases, self.out[0] * self.out[1]);
        let (count, longest) = (y.len() / area, downs[0].count);
        // Rows that output row 0 of any phase reads, counted from the picture's first: from the highest to the lowest.
        let highest = downs.iter().map(|down| -down.padding).min().unwrap_or(0);
        let lowest = downs.iter().map(|down| down.taps as isize - down.padding).max().unwrap_or(0);
        let reach = (lowest - highest).max(1).unsigned_abs();
        let problems: Vec<Problem> = acrosses.iter().map(|across| self.rows(across, -highest)).collect();
        let strip = problems.iter().map(Problem::strip).min().unwrap_or(1).min(longest);
        let mut patches = Vec::new();
        let mut made: Vec<Vec<f32>> = vec![Vec::new(); downs.len() * acrosses.len()];
        for start in (0..longest).step_by(strip) {
            for (a, problem) in problems.iter().enumerate() {
                let (patch, columns) = (problem.patch(), problem.out[1]);
                let gathered = start..start + strip + reach - 1;
                let line = gathered.len() * columns;
                patches.resize(patch * line, 0.0);
                if patch * columns > 0 {
                    problem.gather(x, gathered, &mut patches);
                }
                for (b, down) in downs.iter().enumerate() {
                    let width = strip.min(down.count.saturating_sub(start)) * columns;
                    let made = &mut made[b * acrosses.len() + a];
                    made.resize(count * width, 0.0);
                    if width == 0 {
                        continue;
                    }
                    for (c, made) in made.chunks_exact_mut(width).enumerate() {
                        made.fill(bias(c));
                    }
                    if patch == 0 {
                        continue;
                    }
                    let taps = filters[b * acrosses.len() + a].chunks_exact(self.channels[1] * patch);
                    for (i, taps) in taps.enumerate() {
                        let row = (i as isize - down.padding - highest).unsigned_abs();
                        gemm(
                            [count, width, patch],
                            (&mut *made, width),
                            Destination::Accumulate,
                            (&taps[first * patch..][..count * patch], row_major(patch)),
                            (&patches[row * columns..], row_major(line)),
                            1.0,
                        );
                    }
                }
            }
            for (b, down) in downs.iter().enumerate() {
                let rows = start..(start + strip).min(down.count);
                let made = &made[b * acrosses.len()..][..acrosses.len()];
                vectorised(
                    #[inline(always)]
                    || {
                        for (c, y) in y.chunks_exact_mut(area).enumerate() {
                            for (n, row) in rows.clone().enumerate() {
                                let line = |a: usize| {
                                    let columns = problems[a].out[1];
                                    &made[a][(c * rows.len() + n) * columns..][..columns]
                                };
                                let y = &mut y[(downs.len() * row + b) * self.out[1]..][..self.out[1]];
                                interleave(acrosses.len(), line, y);
                            }
                        }
                    },
                );
            }
        }
    }

    /// The patches of a phase across, of single rows, from the row before the picture's first by `above`.
    fn rows(&self, across: &Phase, above: isize) -> Problem {
        Problem {
            channels: self.channels[0],
            size: self.size,
            out_channels: self.channels[1],
            kernel: [1, across.taps],
            stride: [1, 1],
            padding: [above, across.padding],
            out: [self.phases[0][0].count, across.count],
        }
    }

    /// One output channel, row by row. `weight` is that of the group.
    fn by_rows(&self, x: &[f32], weight: &[f32], channel: usize, bias: f32, y: &mut [f32]) {
        let ([channels, out_channels], [kh, kw], [height, width]) = (self.channels, self.kernel, self.size);
        let longest = self.phases[1].iter().map(|across| across.count).max().unwrap_or(0);
        // With zeros to both sides, every tap reads a whole row.
        let sides = self.phases[1]
            .iter()
            .map(|across| (across.padding, (across.count + across.taps) as isize - across.padding));
        let (before, end) = sides.fold((0, width as isize), |(a, b), (c, d)| (a.max(c), b.max(d)));
        let (before, padded) = (before.unsigned_abs(), (before + end).unsigned_abs());
        let mut lines = vec![0.0_f32; channels * height * padded];
        for (line, row) in lines.chunks_exact_mut(padded).zip(x.chunks_exact(width)) {
            line[before..before + width].copy_from_slice(row);
        }
        let mut sums = vec![0.0_f32; self.stride[1] * longest];
        vectorised(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(self.out[1]).enumerate() {
                    let (q, down) = (row / self.stride[0], &self.phases[0][row % self.stride[0]]);
                    sums.fill(bias);
                    for c in 0..channels {
                        let filter = &weight[(c * out_channels + channel) * kh * kw..][..kh * kw];
                        for i in 0..down.taps {
                            let line = (q + i).checked_add_signed(-down.padding);
                            let Some(line) = line.filter(|&line| line < height) else { continue };
                            let line = &lines[(c * height + line) * padded..][..padded];
                            let taps = &filter[down.tap(i, self.stride[0]) * kw..][..kw];
                            for (across, sums) in self.phases[1].iter().zip(sums.chunks_exact_mut(longest)) {
                                let weight = |j: usize| taps[across.tap(j, self.stride[1])];
                                let read = |j: usize| {
                                    let start = (before + j).saturating_add_signed(-across.padding);
                                    &line[start..][..across.count]
                                };
                                let mut j = 0;
                                while j + 1 < across.taps {
                                    add_two([read(j), read(j + 1)], [weight(j), weight(j + 1)], sums);
                                    j += 2;
                                }
                                if j < across.taps {
                                    add(read(j), weight(j), sums);
                                }
                            }
                        }
                    }
                    interleave(self.stride[1], |a| &sums[a * longest..][..self.phases[1][a].count], y);
                }
            },
        );
    }
}

#[inline(always)]
fn add(row: &[f32], weight: f32, sums: &mut [f32]) {
    for (sum, &v) in sums.iter_mut().zip(row) {
        *sum = v.mul_add(weight, *sum);
    }
}

#[inline(always)]
fn add_two([a, b]: [&[f32]; 2], [u, v]: [f32; 2], sums: &mut [f32]) {
    for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
        *sum = b.mul_add(v, a.mul_add(u, *sum));
    }
}
