//! Interpolation, then a convolution (Odena, Dumoulin and Olah 2016, "Deconvolution and Checkerboard Artifacts"): what a
//! transposed convolution is often replaced by, since every output meets the same number of taps.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use crate::convolution::convolve;
use crate::{Mode, Target, Upsample};

/// `conv(upsample(x))`. Its parameters are the convolution's, which runs at the larger size: channels² kernel² products an
/// output, factor² as dear as before it. Every output meets the same taps, so that it shows no checkerboard.
#[derive(Module, Debug)]
pub struct ResizeConvolution {
    upsample: Upsample,
    conv: Conv2d,
}

impl ResizeConvolution {
    /// From `channels[0]` to `channels[1]` channels, `factor` times larger, with a kernel of odd sides.
    ///
    /// # Panics
    ///
    /// If the kernel is even or the factor 0, or the mode is none of two axes.
    #[must_use]
    pub fn new(channels: [usize; 2], kernel: usize, factor: usize, mode: Mode, device: &Device) -> Self {
        assert!(kernel % 2 == 1 && factor > 0, "ResizeConvolution: a kernel of {kernel}, {factor} times");
        let edge = kernel / 2;
        let conv = Conv2dConfig::new(channels, [kernel; 2])
            .with_padding(PaddingConfig2d::Explicit(edge, edge, edge, edge))
            .init(device);
        Self { upsample: Upsample::new(Target::Factor([factor as f64; 2]), mode), conv }
    }

    /// `[batch, channels[0], height, width]` to `[batch, channels[1], factor height, factor width]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        convolve(&self.conv, self.upsample.forward(x))
    }
}
