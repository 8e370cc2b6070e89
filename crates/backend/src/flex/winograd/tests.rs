//! Every width of vectors that the machine has, against the definition in f64.

use pulp::{Simd, WithSimd};

use super::gradient::OfKernels;
use super::*;
use crate::flex::floats::Floats;
use crate::flex::widths::{Holds, at_every_width, numbers};

fn definition(problem: &Problem, x: &[f32], kernels: Kernels, bias: &[f32]) -> Vec<f64> {
    let Problem { batch, channels, out_channels, size: [height, width], out: [oh, ow], padding } = *problem;
    let Floats::F32(values) = kernels.values else { panic!("the definition takes f32") };
    let mut out = Vec::new();
    for sample in 0..batch {
        for (o, &bias) in bias.iter().enumerate().take(out_channels) {
            for (row, column) in (0..oh).flat_map(|row| (0..ow).map(move |column| (row, column))) {
                let mut sum = f64::from(bias);
                for c in 0..channels {
                    for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                        let y = (row + i).cast_signed() - padding[0];
                        let z = (column + j).cast_signed() - padding[1];
                        if y < 0 || z < 0 || y >= height.cast_signed() || z >= width.cast_signed() {
                            continue;
                        }
                        let pixel =
                            ((sample * channels + c) * height + y.unsigned_abs()) * width + z.unsigned_abs();
                        let place = if kernels.turned { 8 - (i * 3 + j) } else { i * 3 + j };
                        let weight = values[o * kernels.out_stride + c * kernels.in_stride + place];
                        sum += f64::from(weight) * f64::from(x[pixel]);
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// The kernels' gradient, its adjoint.
fn gradient(problem: &Problem, x: &[f32], grad: &[f32]) -> Vec<f64> {
    let Problem { batch, channels, out_channels, size: [height, width], out: [oh, ow], padding } = *problem;
    let mut out = Vec::new();
    for (o, c) in (0..out_channels).flat_map(|o| (0..channels).map(move |c| (o, c))) {
        for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
            let mut sum = 0.0;
            for (sample, row) in (0..batch).flat_map(|sample| (0..oh).map(move |row| (sample, row))) {
                let y = (row + i).cast_signed() - padding[0];
                if y < 0 || y >= height.cast_signed() {
                    continue;
                }
                let x = &x[((sample * channels + c) * height + y.unsigned_abs()) * width..][..width];
                let grad = &grad[((sample * out_channels + o) * oh + row) * ow..][..ow];
                for (column, &grad) in grad.iter().enumerate() {
                    let z = usize::try_from((column + j).cast_signed() - padding[1]);
                    let pixel = z.ok().and_then(|z| x.get(z)).copied().unwrap_or(0.0);
                    sum += f64::from(grad) * f64::from(pixel);
                }
            }
            out.push(sum);
        }
    }
    out
}

fn problems() -> [Problem; 7] {
    let same = |size| Problem { batch: 1, channels: 8, out_channels: 8, size, out: size, padding: [1, 1] };
    [
        same([8, 8]),
        same([13, 7]),
        Problem { batch: 3, channels: 200, out_channels: 37, ..same([5, 6]) },
        Problem { channels: 17, out_channels: 40, out: [22, 50], ..same([24, 52]) },
        Problem { channels: 3, out_channels: 9, out: [11, 10], padding: [2, 0], ..same([9, 12]) },
        Problem { channels: 5, out_channels: 1, out: [6, 7], padding: [-1, -2], ..same([9, 12]) },
        // Several strips, and blocks of tiles without an edge.
        Problem { channels: 1, ..same([180, 190]) },
    ]
}

fn holds(simd: impl Simd) {
    for problem in problems() {
        let Problem { batch, channels, out_channels, size, out, .. } = problem;
        let x = numbers(batch * channels * size[0] * size[1], 1);
        let weights = numbers(out_channels * channels * 9, 2);
        let bias = numbers(out_channels, 3);
        let values = Floats::F32(&weights);
        for turned in [false, true] {
            let kernels = match turned {
                false => Kernels { values, out_stride: channels * 9, in_stride: 9, turned },
                true => Kernels { values, out_stride: 9, in_stride: out_channels * 9, turned },
            };
            let mut result = vec![f32::NAN; batch * out_channels * out[0] * out[1]];
            Convolution { problem: &problem, x: &x, kernels, bias: Some(&bias), out: &mut result }
                .with_simd(simd);
            let expected = definition(&problem, &x, kernels, &bias);
            for (i, (&value, expected)) in result.iter().zip(expected).enumerate() {
                // The outputs' deviation: sums of 9 products a channel, each of two numbers of deviation 1 / √12.
                let deviation = (9.0 * channels as f64).sqrt() / 12.0;
                let error = (f64::from(value) - expected).abs() / deviation;
                assert!(
                    error < 4e-5,
                    "{channels} to {out_channels} channels, {size:?}, {i}: {value} for {expected}"
                );
            }
        }
        let grad = numbers(batch * out_channels * out[0] * out[1], 4);
        let result = OfKernels { problem: &problem, x: &x, grad: &grad }.with_simd(simd);
        let expected = gradient(&problem, &x, &grad);
        assert_eq!(result.len(), expected.len());
        let deviation = ((batch * out[0] * out[1]) as f64).sqrt() / 12.0;
        for (i, (&value, expected)) in result.iter().zip(expected).enumerate() {
            let error = (f64::from(value) - expected).abs() / deviation;
            assert!(error < 4e-5, "gradient of kernels, {size:?}, {i}: {value} for {expected}");
        }
    }
}

#[test]
fn at_every_width_of_vectors() {
    struct Convolutions;
    impl Holds for Convolutions {
        fn holds<S: Simd>(&self, simd: S) {
            holds(simd);
        }
    }
    at_every_width(&Convolutions);
}
