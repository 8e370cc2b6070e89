//! The kernels: where they lie, and their transform.

use pulp::{Simd, bytemuck};

use super::transform;
use crate::flex::floats::Floats;
use crate::flex::product::{BLOCK, vectors};

/// Kernels of 3 x 3 inside a tensor: where an output channel's, and an input channel's among them, begin.
#[derive(Clone, Copy)]
pub(in crate::flex) struct Kernels<'a> {
    pub(in crate::flex) values: Floats<'a>,
    pub(in crate::flex) out_stride: usize,
    pub(in crate::flex) in_stride: usize,
    /// Turned by half a circle, as the gradient takes them.
    pub(in crate::flex) turned: bool,
}

impl<'a> Kernels<'a> {
    /// Those of some output and input channels (where each begins, how many).
    pub(super) fn part<'s>(
        &self,
        [first, rows]: [usize; 2],
        [first_channel, channels]: [usize; 2],
        space: &'s mut Vec<f32>,
    ) -> Part<'s>
    where
        'a: 's,
    {
        let Self { values, out_stride, in_stride, turned } = *self;
        let start = |row: usize| row * out_stride + first_channel * in_stride;
        if let Floats::F32(values) = values {
            return Part { values: &values[start(first)..], out_stride, in_stride, turned };
        }
        // An output channel's lie together.
        let length = (channels - 1) * in_stride + 9;
        space.clear();
        for row in first..first + rows {
            values.widen(start(row)..start(row) + length, space);
        }
        Part { values: space, out_stride: length, in_stride, turned }
    }
}

/// Some of the [`Kernels`], from the first one on.
pub(super) struct Part<'a> {
    values: &'a [f32],
    out_stride: usize,
    in_stride: usize,
    turned: bool,
}

impl Part<'_> {
    /// Transforms the kernels of so many output and input channels: `[point][row block][channel][vectors]`.
    #[inline(always)]
    pub(super) fn transform<S: Simd>(&self, simd: S, [rows, channels]: [usize; 2], out: &mut [S::f32s]) {
        let per_block = vectors::<S>();
        let blocks = rows.div_ceil(BLOCK);
        let mut gathered = vec![simd.splat_f32s(0.0); 9 * per_block];
        for block in 0..blocks {
            let first = block * BLOCK;
            let there = (rows - block * BLOCK).min(BLOCK);
            for channel in 0..channels {
                let values: &mut [f32] = bytemuck::cast_slice_mut(&mut gathered);
                #[allow(clippy::needless_range_loop, reason = "a kernel is spread over its places")]
                for lane in 0..BLOCK {
                    // Rows beyond the last are computed like it, and left out at the end.
                    let row = first + lane.min(there - 1);
                    let kernel = &self.values[row * self.out_stride + channel * self.in_stride..][..9];
                    for (place, &value) in kernel.iter().enumerate() {
                        let place = if self.turned { 8 - place } else { place };
                        values[place * BLOCK + lane] = value;
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
