//! Resampling by a filter of finite impulse response (Karras et al. 2019, "Analyzing and Improving the Image Quality of
//! StyleGAN"; Song et al. 2021, "Score-Based Generative Modeling", appendix H: what NCSN++ resamples with).
//!
//! Along each axis
//!
//! ```text
//! z[up i] = x[i], 0 between           y[o] = sum_m k[m] z[down o + K - 1 - before - m]
//! ```
//!
//! zeros between the pixels, `before` and `after` zeros around them, a true convolution with `k`, and every `down`-th value of
//! it (`upfirdn` of Matlab and of StyleGAN). A picture's filter is the product of both axes' filters.

use burn::tensor::Tensor;
use kiln_backend::ops::{Taps, resample};

/// The filter of StyleGAN and NCSN++: two boxes and a tent, one after another.
pub const BINOMIAL: [f64; 4] = [1.0, 3.0, 3.0, 1.0];

/// By how much pixels are moved apart, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Distance of the input's pixels; the gaps are zero.
    pub up: usize,
    /// Distance of the outputs that are kept.
    pub down: usize,
}

/// Zeros around the picture, or pixels taken off where below 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    /// Above and to the left.
    pub before: isize,
    /// Below and to the right.
    pub after: isize,
}

/// Pixels moved apart, filtered with `kernel` along each axis, and thinned out. The kernel is taken as it is.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, ...]`, each side `(up side + before + after - kernel.len()) / down + 1`
///
/// # Panics
///
/// If the kernel is empty, a rate is 0, or the kernel is longer than the padded picture.
#[must_use]
pub fn upfirdn(x: Tensor<4>, kernel: &[f64], rates: Rates, edges: Edges) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let outputs = |side: usize| {
        let padded = (rates.up * side) as isize + edges.before + edges.after - kernel.len() as isize;
        assert!(padded >= 0, "upfirdn: {} taps for a side of {side} with {edges:?}", kernel.len());
        padded as usize / rates.down + 1
    };
    assert!(rates.up > 0 && rates.down > 0, "upfirdn: {rates:?}");
    let size = [outputs(height), outputs(width)];
    filtered(x, kernel, rates, edges.before, size)
}

/// Enlarge `factor` times with a filter, brought to such a sum that the picture keeps its brightness. Beyond its edges it
/// is 0. It has no parameters and costs the filter's taps an axis and output. It shows no checkerboard where the taps that
/// outputs meet have one sum for all of them, as `BINOMIAL`'s for a factor of 2.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, factor height, factor width]`
///
/// # Panics
///
/// If `factor` is 0, the kernel has fewer taps than that, or its sum is 0.
#[must_use]
pub fn fir_upsample(x: Tensor<4>, kernel: &[f64], factor: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    fir_upsample_to(x, kernel, factor, [factor * height, factor * width])
}

/// As [`fir_upsample`], cut or gone on with at the lower and right edges to the sides `size`.
///
/// # Panics
///
/// As `fir_upsample` does.
#[must_use]
pub fn fir_upsample_to(x: Tensor<4>, kernel: &[f64], factor: usize, size: [usize; 2]) -> Tensor<4> {
    // Only one in `factor` taps meets a pixel; the others meet zeros.
    let kernel = normalised(kernel, factor, factor as f64);
    let beyond = kernel.len() - factor;
    let before = beyond.div_ceil(2) + factor - 1;
    filtered(x, &kernel, Rates { up: factor, down: 1 }, before as isize, size)
}

/// Reduce `factor` times with a filter, brought to a sum of 1. Beyond its edges the picture is 0.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, height / factor, width / factor]`, rounded down
///
/// # Panics
///
/// If `factor` is 0, the kernel has fewer taps than that, its sum is 0, or a side is below `factor`.
#[must_use]
pub fn fir_downsample(x: Tensor<4>, kernel: &[f64], factor: usize) -> Tensor<4> {
    let kernel = normalised(kernel, factor, 1.0);
    let beyond = kernel.len() - factor;
    let edges = Edges { before: beyond.div_ceil(2) as isize, after: (beyond / 2) as isize };
    upfirdn(x, &kernel, Rates { up: 1, down: factor }, edges)
}

/// `kernel` with the sum `gain`.
fn normalised(kernel: &[f64], factor: usize, gain: f64) -> Vec<f64> {
    let sum: f64 = kernel.iter().sum();
    assert!(sum != 0.0, "a filter of sum 0 keeps nothing: {kernel:?}");
    assert!(factor > 0 && kernel.len() >= factor, "{} taps for a factor of {factor}", kernel.len());
    kernel.iter().map(|tap| tap * gain / sum).collect()
}

fn filtered(x: Tensor<4>, kernel: &[f64], rates: Rates, before: isize, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let taps = |side, outputs| axis(kernel, rates, before, side, outputs);
    resample(x, taps(height, size[0]), taps(width, size[1]))
}

/// The matrix of one axis.
fn axis(kernel: &[f64], Rates { up, down }: Rates, before: isize, inputs: usize, outputs: usize) -> Taps {
    let row = |output: usize| {
        // The filter turned round, so that it walks along the picture.
        let taps = kernel.iter().rev().enumerate().filter_map(|(m, &tap)| {
            let place = usize::try_from((down * output + m) as isize - before).ok()?;
            (place.is_multiple_of(up) && place / up < inputs).then_some((place / up, tap as f32))
        });
        taps.collect()
    };
    Taps::new(inputs, (0..outputs).map(row))
}
