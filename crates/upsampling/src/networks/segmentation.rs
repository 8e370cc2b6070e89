//! Networks that label pixels, built of this crate's layers.
//!
//! - FCN-32s, 16s, 8s (Long, Shelhamer and Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation", figure
//!   3): scores at a 32nd of the size, enlarged by transposed convolutions that begin as bilinear interpolation; 16s and 8s
//!   add the scores of finer features on the way.
//! - a U-Net (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597): pooled with indices, and each level enlarged by
//!   transposed convolution and joined with what was there before pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::pool::MaxPool2dConfig;
use burn::tensor::{Device, Tensor};

use super::sequential::{self, Layer, convolution};
use crate::convolution::convolve;
use crate::{bilinear_transposed, convolve_transposed};

/// How fine the features are that an [`Fcn`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FcnStride {
    /// The coarsest alone, enlarged 32 times.
    ThirtyTwo,
    /// With those of a 16th of the size.
    Sixteen,
    /// With those of an 8th, too.
    Eight,
}

/// Configuration of an [`Fcn`] head.
#[derive(Config, Debug)]
pub struct FcnConfig {
    /// Channels of the features at an 8th, a 16th and a 32nd of the picture's size.
    pub features: [usize; 3],
    /// Labels.
    pub classes: usize,
    /// Which of them are used.
    #[config(default = "FcnStride::Eight")]
    pub stride: FcnStride,
}

/// Scores of every pixel from the features of any backbone.
#[derive(Module, Debug)]
pub struct Fcn {
    score: Conv2d,
    /// One for each finer level, from the coarsest: its scores, and what enlarges those that come.
    finer: Vec<Finer>,
    last: ConvTranspose2d,
}

#[derive(Module, Debug)]
struct Finer {
    upsample: ConvTranspose2d,
    score: Conv2d,
}

impl FcnConfig {
    /// The head with the paper's initialisation on `device`: bilinear enlargement.
    ///
    /// # Panics
    ///
    /// If there are no classes or a level has no channels.
    #[must_use]
    pub fn init(&self, device: &Device) -> Fcn {
        let [eighth, sixteenth, thirty_second] = self.features;
        let score = |from| convolution([from, self.classes], 1, 1, device);
        let levels = match self.stride {
            FcnStride::ThirtyTwo => vec![],
            FcnStride::Sixteen => vec![sixteenth],
            FcnStride::Eight => vec![sixteenth, eighth],
        };
        let left = 32 >> levels.len();
        Fcn {
            score: score(thirty_second),
            finer: levels
                .into_iter()
                .map(|from| Finer {
                    upsample: bilinear_transposed(self.classes, 2, device),
                    score: score(from),
                })
                .collect(),
            last: bilinear_transposed(self.classes, left, device),
        }
    }
}

impl Fcn {
    /// Scores of the labels.
    ///
    /// # Shapes
    ///
    /// - `features`: `[batch, channels, height / n, width / n]` for n = 8, 16, 32
    /// - output: `[batch, classes, height, width]`
    #[must_use]
    pub fn forward(&self, [eighth, sixteenth, thirty_second]: [Tensor<4>; 3]) -> Tensor<4> {
        let scores = convolve(&self.score, thirty_second);
        let scores = self.finer.iter().zip([sixteenth, eighth]).fold(scores, |scores, (level, features)| {
            convolve_transposed(&level.upsample, scores) + convolve(&level.score, features)
        });
        convolve_transposed(&self.last, scores)
    }
}

/// Configuration of a [`SegmentationUNet`].
#[derive(Config, Debug)]
pub struct SegmentationUNetConfig {
    /// Channels of the picture.
    pub channels: usize,
    /// Labels.
    pub classes: usize,
    /// Channels of the levels, from the finest.
    #[config(default = "vec![16, 32, 64]")]
    pub levels: Vec<usize>,
}

/// A U-Net that labels pixels; see the [module](self).
#[derive(Module, Debug)]
pub struct SegmentationUNet {
    down: Vec<Vec<Layer>>,
    /// From the coarsest.
    up: Vec<Up>,
    score: Conv2d,
}

#[derive(Module, Debug)]
struct Up {
    upsample: ConvTranspose2d,
    layers: Vec<Layer>,
}

impl SegmentationUNetConfig {
    /// The network with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If there are no levels, or a number of channels is 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> SegmentationUNet {
        assert!(!self.levels.is_empty() && self.classes > 0, "SegmentationUNet: {self:?}");
        let twice = |from: usize, to: usize| {
            let step = |from| {
                [
                    Layer::conv([from, to], 3, device),
                    Layer::norm(to, device),
                    Layer::Relu(burn::nn::Relu::new()),
                ]
            };
            step(from).into_iter().chain(step(to)).collect::<Vec<_>>()
        };
        let before = std::iter::once(self.channels).chain(self.levels.iter().copied());
        let down = before.zip(&self.levels).map(|(from, &to)| twice(from, to)).collect();
        let up = self
            .levels
            .windows(2)
            .rev()
            .map(|pair| Up {
                upsample: ConvTranspose2dConfig::new([pair[1], pair[0]], [2, 2])
                    .with_stride([2, 2])
                    .init(device),
                layers: twice(2 * pair[0], pair[0]),
            })
            .collect();
        SegmentationUNet { down, up, score: convolution([self.levels[0], self.classes], 1, 1, device) }
    }
}

impl SegmentationUNet {
    /// Scores of the labels.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels, height, width]`, both sides multiples of 2^(levels - 1)
    /// - output: `[batch, classes, height, width]`
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let mut passed = Vec::new();
        let mut x = x;
        for (index, layers) in self.down.iter().enumerate() {
            if index > 0 {
                x = pool.forward(x);
            }
            x = sequential::forward(layers, x);
            passed.push(x.clone());
        }
        passed.pop();
        for (up, passed) in self.up.iter().zip(passed.into_iter().rev()) {
            x = sequential::forward(
                &up.layers,
                Tensor::cat(vec![passed, convolve_transposed(&up.upsample, x)], 1),
            );
        }
        convolve(&self.score, x)
    }
}
