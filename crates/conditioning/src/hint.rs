//! What every control network of U-Nets has of its own: the way in of the picture, and convolutions that start as zeros.
//!
//! ```text
//! hint = zero_convolution(SiLU(conv(... SiLU(conv(picture)))))      every second convolution halves the sides
//! ```
//!
//! Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", section 3.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, activation};
use kiln_blocks::{conv3x3, convolve};

/// From a picture to what is added to the sample's first features.
#[derive(Module, Debug)]
pub(crate) struct ConditioningEmbedding {
    conv_in: Conv2d,
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

/// A convolution that starts as zeros, so that a network not trained yet changes nothing.
pub(crate) fn zero_convolution(channels: [usize; 2], kernel: usize, device: &Device) -> Conv2d {
    let padding = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_initializer(Initializer::Zeros)
        .init(device)
}

impl ConditioningEmbedding {
    /// From `taken` channels through `channels`, each of which but the first halves the sides, to `given`.
    pub(crate) fn new(taken: usize, channels: &[usize], given: usize, device: &Device) -> Self {
        let halving = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Self {
            conv_in: conv3x3([taken, channels[0]], device),
            blocks: channels
                .windows(2)
                .flat_map(|pair| [conv3x3([pair[0], pair[0]], device), halving(pair[0], pair[1])])
                .collect(),
            conv_out: zero_convolution([channels[channels.len() - 1], given], 3, device),
        }
    }

    pub(crate) fn forward(&self, picture: Tensor<4>) -> Tensor<4> {
        let layers = std::iter::once(&self.conv_in).chain(&self.blocks);
        let h = layers.fold(picture, |h, conv| activation(convolve(conv, h), Activation::Silu));
        convolve(&self.conv_out, h)
    }
}
