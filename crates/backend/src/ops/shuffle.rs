//! Channels become pixels, and back (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient
//! Sub-Pixel Convolutional Neural Network", arXiv 1609.05158, equation 4).

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::FusedOps;

/// `y[c, r i + a, r j + b] = x[c r² + r a + b, i, j]`, with r = `factor`: PyTorch's `pixel_shuffle`.
///
/// # Shapes
/// - `x`: `[batch, channels factor², height, width]`
/// - output: `[batch, channels, factor height, factor width]`
///
/// # Panics
/// If the factor is 0, or its square does not divide the channels.
pub fn pixel_shuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [_, channels, _, _] = x.dims();
    assert!(
        factor > 0 && channels.is_multiple_of(factor * factor),
        "pixel_shuffle: {channels} channels, {factor} times"
    );
    Tensor::from_dispatch(<Dispatch as FusedOps>::pixel_shuffle(x.into_dispatch(), factor))
}

/// The inverse and adjoint of [`pixel_shuffle`]: PyTorch's `pixel_unshuffle`.
///
/// # Shapes
/// - `x`: `[batch, channels, factor height, factor width]`
/// - output: `[batch, channels factor², height, width]`
///
/// # Panics
/// If the factor is 0, or does not divide both sides.
pub fn pixel_unshuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    assert!(
        factor > 0 && height.is_multiple_of(factor) && width.is_multiple_of(factor),
        "pixel_unshuffle: a picture of {height} x {width}, {factor} times"
    );
    Tensor::from_dispatch(<Dispatch as FusedOps>::pixel_unshuffle(x.into_dispatch(), factor))
}
