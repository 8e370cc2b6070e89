//! Two-dimensional transposed convolution: the adjoint of a convolution.

use burn::backend::Dispatch;
use burn::tensor::{Tensor, ops::ConvTransposeOptions};

use crate::{Bias, FusedOps};

/// `y[o, s p + d k - padding] += weight[c, o, k] x[c, p]` over all channels c, pixels p and taps k, and `bias[o]`, with stride s
/// and dilation d: PyTorch's `conv_transpose2d`.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - `weight`: `[channels, out_channels / groups, kernel_height, kernel_width]`; `bias`: `[out_channels]`
/// - output: `[batch, out_channels, out_height, out_width]`, with
///   `out = (in - 1) stride - 2 padding + dilation (kernel - 1) + padding_out + 1` along each axis
///
/// # Panics
/// If the channels do not fit together, a stride, dilation or side is 0, or nothing is left within the padding.
pub fn conv_transpose2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvTransposeOptions<2>,
) -> Tensor<4> {
    let ([_, channels, height, width], [inner, out, kh, kw]) = (x.dims(), weight.dims());
    let groups = options.groups;
    assert!(
        channels == inner && groups > 0 && channels.is_multiple_of(groups),
        "conv_transpose2d: {channels} channels, a weight of {:?} and {groups} groups do not fit together",
        weight.dims()
    );
    let fits = |side: usize, kernel: usize, axis: usize| {
        let steps = options.stride[axis] > 0 && options.dilation[axis] > 0;
        steps
            && side > 0
            && kernel > 0
            && output_side(side, kernel, &options, axis).is_some_and(|side| side > 0)
    };
    assert!(
        fits(height, kh, 0) && fits(width, kw, 1),
        "conv_transpose2d: nothing comes of {height} x {width} pixels and a kernel of {kh} x {kw} ({options:?})"
    );
    let bias = match bias {
        None => Bias::None,
        Some(bias) => {
            let out = out * groups;
            assert!(bias.dims() == [out], "conv_transpose2d: a bias of {:?} for {out} channels", bias.dims());
            Bias::PerChannel(bias.into_dispatch())
        }
    };
    Tensor::from_dispatch(<Dispatch as FusedOps>::convolve_transposed(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias,
        options,
    ))
}

/// The output's side, if the padding leaves one.
pub(crate) fn output_side(
    side: usize,
    kernel: usize,
    options: &ConvTransposeOptions<2>,
    axis: usize,
) -> Option<usize> {
    let all = (side - 1) * options.stride[axis] + options.dilation[axis] * (kernel - 1) + 1;
    (all + options.padding_out[axis]).checked_sub(2 * options.padding[axis])
}
