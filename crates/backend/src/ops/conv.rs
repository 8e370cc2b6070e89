//! Two-dimensional convolution.

use burn::backend::Dispatch;
use burn::tensor::{Tensor, ops::ConvOptions};

use crate::{Bias, FusedOps};

/// `y[o] = bias[o] + Σ_c weight[o, c] ⋆ x[c]`, cross-correlation as every framework calls convolution.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - `weight`: `[out_channels, channels / groups, kernel_height, kernel_width]`; `bias`: `[out_channels]`
/// - output: `[batch, out_channels, out_height, out_width]`, with
///   `out = (in + padding - dilation (kernel - 1) - 1) / stride + 1` along each axis
///
/// # Panics
/// If the channels do not fit together, or the kernel is larger than the padded picture.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let ([_, channels, height, width], [out, inner, kh, kw]) = (x.dims(), weight.dims());
    assert!(
        channels == inner * options.groups && out.is_multiple_of(options.groups),
        "conv2d: {channels} channels, a weight of {:?} and {} groups do not fit together",
        weight.dims(),
        options.groups
    );
    let fits = |size: usize, kernel: usize, axis: usize| {
        let (before, after) = options.padding[axis];
        kernel > 0 && size + before + after > options.dilation[axis] * (kernel - 1)
    };
    assert!(
        fits(height, kh, 0) && fits(width, kw, 1),
        "conv2d: a kernel of {kh} x {kw} is larger than the padded picture of {height} x {width} ({options:?})"
    );
    let bias = match bias {
        None => Bias::None,
        Some(bias) => {
            assert!(bias.dims() == [out], "conv2d: a bias of {:?} for {out} channels", bias.dims());
            Bias::PerChannel(bias.into_dispatch())
        }
    };
    Tensor::from_dispatch(<Dispatch as FusedOps>::convolve(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias,
        options,
    ))
}
