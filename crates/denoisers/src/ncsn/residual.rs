//! The residual blocks that a stage has two of.
//!
//! ```text
//! y = shortcut(x) + conv2(act(norm2(conv1(act(norm1(x))))))
//! ```
//!
//! A block that changes the width halves the picture too, by the mean of two by two pixels after its convolutions; where the
//! stage is dilated, the picture stays as it is and the convolutions look farther.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Int, Tensor};
use kiln_blocks::convolve;

use super::config::Nonlinearity;
use super::norm::{Norm, NormKind};

/// A convolution, then the mean of two by two pixels.
#[derive(Module, Debug)]
pub(super) struct ConvMeanPool {
    conv: Conv2d,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen in a network")]
enum Convolution {
    Plain(Conv2d),
    Halving(ConvMeanPool),
}

impl Convolution {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Plain(conv) => convolve(conv, x),
            Self::Halving(halving) => avg_pool2d(convolve(&halving.conv, x), AvgPoolOptions::new([2, 2])),
        }
    }
}

#[derive(Module, Debug)]
pub(super) struct Residual {
    normalize1: Norm,
    conv1: Conv2d,
    normalize2: Norm,
    conv2: Convolution,
    shortcut: Option<Convolution>,
}

/// What a block does beside its norms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// The width stays.
    None,
    /// To so many channels, on a picture half as high and wide unless the stage is dilated.
    To(usize),
}

/// Two blocks in turn.
pub(super) type Stage = (Residual, Residual);

/// Where dilated, by so many pixels.
pub(super) fn conv3(channels: [usize; 2], dilation: Option<usize>, device: &Device) -> Conv2d {
    let reach = dilation.unwrap_or(1);
    Conv2dConfig::new(channels, [3, 3])
        .with_dilation([reach, reach])
        .with_padding(PaddingConfig2d::Explicit(reach, reach, reach, reach))
        .init(device)
}

impl Residual {
    pub(super) fn init(
        channels: usize,
        change: Change,
        dilation: Option<usize>,
        norm: NormKind,
        device: &Device,
    ) -> Self {
        let out = match change {
            Change::None => channels,
            Change::To(out) => out,
        };
        let (conv2, shortcut) = match (change, dilation) {
            (Change::To(_), None) => {
                let narrow = Conv2dConfig::new([channels, out], [1, 1]).init(device);
                let halving = |conv| Convolution::Halving(ConvMeanPool { conv });
                (halving(conv3([channels, out], None, device)), Some(halving(narrow)))
            }
            (Change::To(_), Some(_)) => {
                let conv = || Convolution::Plain(conv3([channels, out], dilation, device));
                (conv(), Some(conv()))
            }
            (Change::None, _) => (Convolution::Plain(conv3([channels; 2], dilation, device)), None),
        };
        Self {
            normalize1: norm.init(channels, device),
            conv1: conv3([channels; 2], dilation, device),
            normalize2: norm.init(channels, device),
            conv2,
            shortcut,
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>, levels: &Tensor<1, Int>, act: Nonlinearity) -> Tensor<4> {
        let h = convolve(&self.conv1, act.apply(self.normalize1.forward(x.clone(), levels)));
        let h = self.conv2.forward(act.apply(self.normalize2.forward(h, levels)));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
        }
    }
}
