//! Normalisation by the root mean square, row by row.

use burn::backend::TensorMetadata;

use super::{CHUNK, FlexTensor, contiguous, fresh, math, tensor, values, vectorised};

pub(super) fn forward(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
    let shape = x.shape().to_vec();
    let (x, weight) = (contiguous(x), contiguous(weight));
    let (x, weight) = (values(&x), values(&weight));
    let width = weight.len();
    if x.is_empty() {
        return tensor(Vec::new(), shape);
    }
    let rows = (CHUNK / width).max(1);
    let count = x.len() / width;
    // Whole pieces of rows; what is left over goes row by row.
    let length = if count.is_multiple_of(rows) { rows * width } else { width };
    let out = fresh::pieces(x.len() / length, length, |i, out| {
        let x = &x[i * length..][..length];
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let mean = math::sum(x, |v| v * v) / width as f32;
                    let inverse = 1.0 / (mean + eps as f32).sqrt();
                    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * inverse * weight;
                    }
                }
            },
        );
    });
    tensor(out, shape)
}
