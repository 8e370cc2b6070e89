//! Max unpooling, a plane a thread: values in the input's order, so that of one index the last stays.

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use rayon::prelude::*;

use super::fresh::pieces;
use super::{FlexTensor, contiguous, fresh, tensor, values};
use crate::composed::unpooling::place;

/// Whether the kernel takes these indices.
pub(super) fn takes(indices: &FlexTensor) -> bool {
    matches!(indices.dtype(), DType::I64 | DType::I32)
}

pub(super) fn forward(x: FlexTensor, indices: &FlexTensor, outputs: usize) -> FlexTensor {
    let [batch, channels, inputs] = x.shape().dims();
    let x = contiguous(x);
    let indices = indices.to_contiguous();
    let sizes = [batch * channels, inputs, outputs];
    let out = match indices.dtype() {
        DType::I64 => put(values(&x), indices.as_slice::<i64>().expect(OF_THIS_TYPE), sizes),
        _ => put(values(&x), indices.as_slice::<i32>().expect(OF_THIS_TYPE), sizes),
    };
    tensor(out, [batch, channels, outputs])
}

fn put<I: Copy + Into<i64> + Sync>(
    x: &[f32],
    indices: &[I],
    [planes, inputs, outputs]: [usize; 3],
) -> Vec<f32> {
    if let (0, Some(&first)) = (outputs, indices.first()) {
        place(first.into(), outputs);
    }
    pieces(planes, outputs, |plane, out| {
        let (x, indices) = (&x[plane * inputs..][..inputs], &indices[plane * inputs..][..inputs]);
        for (&v, &index) in x.iter().zip(indices) {
            out[place(index.into(), out.len())] = v;
        }
    })
}

/// The gradient with respect to x.
pub(super) fn backward(grad: FlexTensor, indices: &FlexTensor) -> FlexTensor {
    let [batch, channels, outputs] = grad.shape().dims();
    let inputs = indices.shape()[2];
    let mut out = fresh::zeros(batch * channels * inputs);
    let grad = contiguous(grad);
    let indices = indices.to_contiguous();
    match indices.dtype() {
        DType::I64 => {
            take(values(&grad), indices.as_slice::<i64>().expect(OF_THIS_TYPE), [inputs, outputs], &mut out);
        }
        _ => {
            take(values(&grad), indices.as_slice::<i32>().expect(OF_THIS_TYPE), [inputs, outputs], &mut out);
        }
    }
    tensor(out, [batch, channels, inputs])
}

fn take<I: Copy + Into<i64> + Sync>(
    grad: &[f32],
    indices: &[I],
    [inputs, outputs]: [usize; 2],
    out: &mut [f32],
) {
    if out.is_empty() || grad.is_empty() {
        return;
    }
    let planes = grad.par_chunks(outputs).zip(indices.par_chunks(inputs));
    out.par_chunks_mut(inputs).zip(planes).for_each_init(
        || vec![false; outputs],
        |taken, (out, (grad, indices))| {
            taken.fill(false);
            // From the end: the first to come is the one that was kept.
            for (v, &index) in out.iter_mut().zip(indices).rev() {
                let place = place(index.into(), outputs);
                if !std::mem::replace(&mut taken[place], true) {
                    *v = grad[place];
                }
            }
        },
    );
}

const OF_THIS_TYPE: &str = "indices in one piece, of the type that was looked at";
