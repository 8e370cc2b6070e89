//! Pixel shuffle and back, a plane of the larger picture a thread: rows between one another.

use super::fresh::pieces;
use super::interleave::{every, interleave};
use super::{FlexTensor, contiguous, tensor, values, vectorised};
use burn::backend::TensorMetadata;

pub(super) fn forward(x: FlexTensor, factor: usize) -> FlexTensor {
    let [batch, channels, height, width] = x.shape().dims();
    let shape = [batch, channels / (factor * factor), factor * height, factor * width];
    let x = contiguous(x);
    let (x, area) = (values(&x), factor * factor * height * width);
    let out = pieces(shape[0] * shape[1], area, |n, out| {
        let planes = &x[n * area..][..area];
        vectorised(
            #[inline(always)]
            || {
                for (y, out) in out.chunks_exact_mut(factor * width).enumerate() {
                    let (i, a) = (y / factor, y % factor);
                    let row = |b: usize| &planes[((a * factor + b) * height + i) * width..][..width];
                    interleave(factor, row, out);
                }
            },
        );
    });
    tensor(out, shape)
}

pub(super) fn backward(x: FlexTensor, factor: usize) -> FlexTensor {
    let [batch, channels, height, width] = x.shape().dims();
    let shape = [batch, channels * factor * factor, height / factor, width / factor];
    let x = contiguous(x);
    let ([_, _, rows, columns], area) = (shape, height * width);
    let x = values(&x);
    let out = pieces(batch * channels, area, |n, planes| {
        let picture = &x[n * area..][..area];
        vectorised(
            #[inline(always)]
            || {
                for (y, row) in picture.chunks_exact(width).enumerate() {
                    let (i, a) = (y / factor, y % factor);
                    for b in 0..factor {
                        let start = ((a * factor + b) * rows + i) * columns;
                        every(factor, b, row, &mut planes[start..][..columns]);
                    }
                }
            },
        );
    });
    tensor(out, shape)
}
