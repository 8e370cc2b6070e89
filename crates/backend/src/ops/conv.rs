//! Two-dimensional convolution.

use burn::backend::Dispatch;
#[cfg(feature = "flex")]
use burn::backend::DispatchDevice;
use burn::tensor::{Device, FloatDType, Tensor, ops::ConvOptions};

use crate::{Bias, FusedOps};

/// `y[o] = bias[o] + Σ_c weight[o, c] ⋆ x[c]`, cross-correlation as every framework calls convolution.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - `weight`: `[out_channels, channels / groups, kernel_height, kernel_width]`; `bias`: `[out_channels]`
/// - output: `[batch, out_channels, out_height, out_width]`, with
///   `out = (in + padding - dilation (kernel - 1) - 1) / stride + 1` along each axis
///
/// A `weight` of a narrower float type than `x` is widened, which is exact: all at once, or, where [`takes_narrow_kernels`], piece
/// by piece as it is multiplied.
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

/// Whether [`conv2d`] on `device` widens kernels of 16 bits piece by piece, so that they are never there in f32 as a whole: they
/// take half the memory then, and no more time.
#[must_use]
pub fn takes_narrow_kernels(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    let takes = matches!(device.as_dispatch(), DispatchDevice::Flex(_));
    #[cfg(not(feature = "flex"))]
    let takes = false;
    takes && device.settings().float_dtype == FloatDType::F32
}
