//! Halving and doubling a picture's sides (diffusers: `Downsample2D`, `Upsample2D`).
//!
//! Down is a 3 x 3 convolution of stride 2; up repeats pixels, then a 3 x 3 convolution smooths them (Odena et al. 2016,
//! "Deconvolution and Checkerboard Artifacts").

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use kiln_upsampling::nearest;

use crate::convolve;
use crate::resnet::conv3x3;

/// Configuration of a [`Downsample`].
#[derive(Config, Debug)]
pub struct DownsampleConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Zeros around the picture; 0 stands for one row below and one column to the right, as in TensorFlow's `SAME`.
    #[config(default = 1)]
    pub padding: usize,
}

/// A convolution that halves both sides, rounding up when `padding` is 1.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
}

impl DownsampleConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> Downsample {
        let padding = match self.padding {
            0 => PaddingConfig2d::Explicit(0, 0, 1, 1),
            all => PaddingConfig2d::Explicit(all, all, all, all),
        };
        let conv = Conv2dConfig::new([self.channels, self.channels], [3, 3])
            .with_stride([2, 2])
            .with_padding(padding)
            .init(device);
        Downsample { conv }
    }
}

impl Downsample {
    /// `[batch, channels, height, width]` to half the sides.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        convolve(&self.conv, x)
    }
}

/// Configuration of an [`Upsample`].
#[derive(Config, Debug)]
pub struct UpsampleConfig {
    /// Channels in and out.
    pub channels: usize,
}

/// Nearest-neighbour enlargement, then a convolution.
#[derive(Module, Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl UpsampleConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> Upsample {
        Upsample { conv: conv3x3([self.channels, self.channels], device) }
    }
}

impl Upsample {
    /// `[batch, channels, height, width]` to `[batch, channels, size[0], size[1]]`.
    ///
    /// The size is that of the skip connection met next: twice the sides, or one less where halving had rounded up.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        convolve(&self.conv, nearest(x, size))
    }
}
