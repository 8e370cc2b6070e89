//! `SRVGGNetCompact` of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833; the anime-video models of 2022): plain 3 x 3
//! convolutions on the small picture, and a shortcut past them all.
//!
//! ```text
//! y = shuffle(conv(act(conv(... act(conv(x)) ...)))) + nearest(x)
//! ```
//!
//! A pixel depends on the `convolutions + 2` pixels around it, and on nothing farther away.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::sequential::{self, Layer, PRelu};
use crate::nearest;
use crate::{PixelShuffle, PixelShuffleConfig};

/// What stands after each convolution but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SrVggActivation {
    /// A slope below 0 to learn for each channel.
    Prelu,
    /// Cut off below 0.
    Relu,
    /// A slope of 0.1 below 0.
    LeakyRelu,
}

/// Configuration of an [`SrVgg`]; the defaults are those of `SRVGGNetCompact`.
#[derive(Config, Debug)]
pub struct SrVggConfig {
    /// Channels in and out.
    #[config(default = 3)]
    pub channels: usize,
    /// Channels in between.
    #[config(default = 64)]
    pub features: usize,
    /// Convolutions between the first and the last.
    #[config(default = 16)]
    pub convolutions: usize,
    /// How many times larger the picture becomes.
    #[config(default = 4)]
    pub scale: usize,
    /// What stands between convolutions.
    #[config(default = "SrVggActivation::Prelu")]
    pub activation: SrVggActivation,
}

/// Real-ESRGAN's compact network; see the [module](self). Its names are those of the published weights, `body.N.weight`.
#[derive(Module, Debug)]
pub struct SrVgg {
    body: Vec<Layer>,
    upsampler: PixelShuffle,
    scale: usize,
}

impl SrVggConfig {
    /// The network of `realesr-animevideov3`.
    #[must_use]
    pub fn anime_video_v3() -> Self {
        Self::new()
    }

    /// How far around a pixel of the small picture the network looks.
    #[must_use]
    pub fn reach(&self) -> usize {
        self.convolutions + 2
    }

    /// The network with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If the scale, or a number of channels, is 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> SrVgg {
        assert!(self.scale > 0 && self.channels > 0 && self.features > 0, "SrVgg: {self:?}");
        let act = || match self.activation {
            SrVggActivation::Prelu => Layer::PRelu(PRelu::new(self.features, device)),
            SrVggActivation::Relu => Layer::Relu(burn::nn::Relu::new()),
            SrVggActivation::LeakyRelu => Layer::leaky(0.1),
        };
        let mut body = vec![Layer::conv([self.channels, self.features], 3, device), act()];
        for _ in 0..self.convolutions {
            body.extend([Layer::conv([self.features; 2], 3, device), act()]);
        }
        body.push(Layer::conv([self.features, self.channels * self.scale * self.scale], 3, device));
        SrVgg { body, upsampler: PixelShuffleConfig::new(self.scale).init(), scale: self.scale }
    }
}

impl SrVgg {
    /// The larger picture; brightness from 0 to 1 in and, up to an overshoot, out.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels, height, width]`
    /// - output: `[batch, channels, scale height, scale width]`
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let skip = nearest(x.clone(), [self.scale * height, self.scale * width]);
        self.upsampler.forward(sequential::forward(&self.body, x)) + skip
    }
}
