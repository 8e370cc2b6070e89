//! Transposed convolution, and its weights at the start: interpolation, or nearest neighbours.
//!
//! The layers are Burn's, [`ConvTranspose1d`](burn::nn::conv::ConvTranspose1d) to `3d`, whose options and numbers are
//! PyTorch's; [`convolve_transposed`] runs a `ConvTranspose2d` by the backend's kernel. Their kernel and bias are learnt; an output
//! pixel costs about channels² (kernel / stride)² products. Where the kernel is no multiple of the stride, outputs meet different numbers of taps, which shows as a
//! checkerboard (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts").

use burn::module::Param;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::ops::ConvTransposeOptions;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops::conv_transpose2d;

/// What `layer.forward(x)` computes, by the backend's kernel: on the CPU it takes a fraction of the time.
///
/// # Shapes
///
/// - `x`: `[batch, channels[0], height, width]`
/// - output: `[batch, channels[1], ...]`, each side `(side - 1) stride - 2 padding + dilation (kernel - 1) + padding_out + 1`
#[must_use]
pub fn convolve_transposed(layer: &ConvTranspose2d, x: Tensor<4>) -> Tensor<4> {
    let ConvTranspose2d { stride, padding, padding_out, dilation, groups, .. } = *layer;
    let options = ConvTransposeOptions::new(stride, padding, padding_out, dilation, groups);
    conv_transpose2d(x, layer.weight.val(), layer.bias.as_ref().map(Param::val), options)
}

/// A transposed convolution that enlarges each of `channels` by bilinear interpolation until it has learned better (Long,
/// Shelhamer and Darrell 2015, "Fully Convolutional Networks", section 3.3).
///
/// The kernel has `2 factor - factor mod 2` taps along each axis,
/// `k[i] = 1 - |i - c| / factor` about `c = (taps - 1) / 2`; the layer has no bias. Away from the edges, the output is
/// that of bilinear interpolation with corners not aligned.
///
/// # Panics
///
/// If the factor or the number of channels is 0.
#[must_use]
pub fn bilinear_transposed(channels: usize, factor: usize, device: &Device) -> ConvTranspose2d {
    assert!(factor > 0 && channels > 0, "bilinear_transposed: {channels} channels, {factor} times");
    let taps = 2 * factor - factor % 2;
    let center = (taps as f32 - 1.0) / 2.0;
    let tent = |i: usize| 1.0 - (i as f32 - center).abs() / factor as f32;
    let kernel: Vec<f32> = (0..taps * taps).map(|i| tent(i / taps) * tent(i % taps)).collect();
    // One filter a channel, each for itself: the weight of every pair of two channels would be 0.
    let weight = Tensor::<4>::from_data(TensorData::new(kernel, [1, 1, taps, taps]), device);
    let config = ConvTranspose2dConfig::new([channels; 2], [taps; 2])
        .with_stride([factor; 2])
        .with_padding([(factor - factor % 2) / 2; 2])
        .with_groups(channels)
        .with_bias(false);
    let mut layer = config.init(device);
    layer.weight = Param::from_tensor(weight.repeat_dim(0, channels));
    layer
}

/// A convolution for pixel shuffle that begins as nearest neighbours, and so without a checkerboard: the `factor²` filters
/// that make one block of pixels are the same (Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution",
/// ICNR).
///
/// # Shapes
///
/// - the layer: `[batch, channels[0], height, width]` to `[batch, factor² channels[1], height, width]`
///
/// # Panics
///
/// If the kernel is even, or anything is 0.
#[must_use]
pub fn icnr_convolution(channels: [usize; 2], kernel: usize, factor: usize, device: &Device) -> Conv2d {
    assert!(kernel % 2 == 1 && factor > 0, "icnr_convolution: a kernel of {kernel}, {factor} times");
    let edge = kernel / 2;
    let config = |out| {
        Conv2dConfig::new([channels[0], out], [kernel; 2])
            .with_padding(PaddingConfig2d::Explicit(edge, edge, edge, edge))
            .init(device)
    };
    let one = config(channels[1]);
    let mut layer = config(channels[1] * factor * factor);
    layer.weight = Param::from_tensor(icnr(one.weight.val(), factor));
    layer.bias = one.bias.map(|bias| {
        let [out] = bias.dims();
        let repeated = bias.val().reshape([out, 1]).repeat_dim(1, factor * factor);
        Param::from_tensor(repeated.reshape([out * factor * factor]))
    });
    layer
}

/// Each filter `factor²` times, one after another: `[out, in, height, width]` to `[out factor², in, height, width]`.
#[must_use]
pub fn icnr(weight: Tensor<4>, factor: usize) -> Tensor<4> {
    let [out, inner, height, width] = weight.dims();
    let repeated = weight.reshape([out, 1, inner, height, width]).repeat_dim(1, factor * factor);
    repeated.reshape([out * factor * factor, inner, height, width])
}
