//! Resampling, one plane a thread: columns first, which are gathered, into rows that then add up as a whole.

use burn::backend::TensorMetadata;
use rayon::prelude::*;

use super::{FlexTensor, contiguous, tensor, values, vectorised};
use crate::ops::Taps;

pub(super) fn forward(x: FlexTensor, rows: &Taps, columns: &Taps) -> FlexTensor {
    let [batch, channels, height, width] = x.shape().dims();
    let shape = [batch, channels, rows.outputs(), columns.outputs()];
    let x = contiguous(x);
    let mut out = vec![0.0_f32; shape.iter().product()];
    if out.is_empty() || height * width == 0 {
        return tensor(out, shape);
    }
    let selection = columns.selection();
    out.par_chunks_mut(shape[2] * shape[3]).zip(values(&x).par_chunks(height * width)).for_each_init(
        || vec![0.0; height * columns.outputs()],
        |narrow, (out, plane)| {
            for (row, narrow) in plane.chunks_exact(width).zip(narrow.chunks_exact_mut(columns.outputs())) {
                match &selection {
                    Some(indices) => {
                        for (v, &j) in narrow.iter_mut().zip(indices) {
                            *v = row[j as usize];
                        }
                    }
                    None => {
                        for (j, v) in narrow.iter_mut().enumerate() {
                            *v = columns
                                .row(j)
                                .iter()
                                .map(|&(input, weight)| row[input as usize] * weight)
                                .sum();
                        }
                    }
                }
            }
            let line = |i: u32| &narrow[i as usize * columns.outputs()..][..columns.outputs()];
            for (i, out) in out.chunks_exact_mut(columns.outputs()).enumerate() {
                match rows.row(i) {
                    &[(input, 1.0)] => out.copy_from_slice(line(input)),
                    taps => {
                        for &(input, weight) in taps {
                            let line = line(input);
                            vectorised(
                                #[inline(always)]
                                || out.iter_mut().zip(line).for_each(|(o, &v)| *o = v.mul_add(weight, *o)),
                            );
                        }
                    }
                }
            }
        },
    );
    tensor(out, shape)
}
