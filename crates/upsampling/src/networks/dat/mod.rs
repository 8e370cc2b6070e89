//! DAT (Chen et al. 2023, "Dual Aggregation Transformer for Image Super-Resolution", arXiv 2308.03364): blocks that attend
//! to pixels in windows and blocks that attend to channels, in turn.
//!
//! ```text
//! f = conv(x - mean)
//! y = shuffle(conv(f + conv(norm(group(... group(norm(f)) ...))))) + mean
//!
//! group(x) = x + conv(block(... block(x) ...))        block(x): x ← x + attention(norm(x)),  x ← x + gate(norm(x))
//! ```
//!
//! Attention and a depthwise convolution of its values run side by side, and each weighs the other before they are added
//! (the paper's adaptive interaction, section 3.2). Names and order of the weights are those of the published ones.

#![allow(non_snake_case, reason = "the published weights are named so: before_RG")]

mod block;
mod channel;
mod interaction;
mod position;
mod spatial;
mod window;

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::sequential::{self, Layer, convolution};
use crate::{PixelShuffle, PixelShuffleConfig};
use block::{Block, BlockConfig};

/// What stands before a shortcut is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResidualConvolution {
    /// A 3 x 3 convolution (`1conv`).
    #[serde(rename = "1conv")]
    One,
    /// 3 x 3, 1 x 1, 3 x 3 with a quarter of the channels within (`3conv`).
    #[serde(rename = "3conv")]
    Three,
}

/// How features become the larger picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reconstruction {
    /// To 64 features, by steps of 2 (or one of 3), then to the picture (`pixelshuffle`).
    #[serde(rename = "pixelshuffle")]
    Stepwise,
    /// A convolution and one shuffle (`pixelshuffledirect`).
    #[serde(rename = "pixelshuffledirect")]
    Direct,
}

/// Configuration of a [`Dat`] for pictures of three channels.
#[derive(Config, Debug)]
pub struct DatConfig {
    /// How many times larger the picture becomes.
    pub scale: usize,
    /// Features of a pixel.
    #[config(default = 180)]
    pub features: usize,
    /// Blocks in each group.
    #[config(default = "vec![6; 6]")]
    pub depths: Vec<usize>,
    /// Heads in each group; half of them attend in windows of one shape, half in windows turned by 90 degrees.
    #[config(default = "vec![6; 6]")]
    pub heads: Vec<usize>,
    /// Height and width of the first half's windows.
    #[config(default = "[8, 32]")]
    pub window: [usize; 2],
    /// Hidden features of the gated network, as a multiple of `features`.
    #[config(default = 4.0)]
    pub expansion: f64,
    /// What stands before a shortcut is added.
    #[config(default = "ResidualConvolution::One")]
    pub residual: ResidualConvolution,
    /// How features become the larger picture.
    #[config(default = "Reconstruction::Stepwise")]
    pub reconstruction: Reconstruction,
}

/// The dual aggregation transformer; see the [module](self).
#[derive(Module, Debug)]
pub struct Dat {
    conv_first: Conv2d,
    before_RG: Vec<Before>,
    layers: Vec<Group>,
    norm: LayerNorm,
    conv_after_body: Residual,
    conv_before_upsample: Vec<Layer>,
    upsample: Vec<Step>,
    conv_last: Option<Conv2d>,
}

/// What stands before the groups: the published layer of index 0 only moves axes.
#[derive(Module, Debug)]
enum Before {
    Axes(burn::nn::Identity),
    Norm(LayerNorm),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
enum Residual {
    One(Conv2d),
    Three(Vec<Layer>),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
enum Step {
    Convolution(Conv2d),
    Shuffle(PixelShuffle),
}

/// Blocks with a shortcut past them.
#[derive(Module, Debug)]
struct Group {
    blocks: Vec<Block>,
    conv: Residual,
}

impl Residual {
    fn new(kind: ResidualConvolution, features: usize, device: &Device) -> Self {
        let inner = features / 4;
        match kind {
            ResidualConvolution::One => Self::One(convolution([features; 2], 3, 1, device)),
            ResidualConvolution::Three => Self::Three(vec![
                Layer::conv([features, inner], 3, device),
                Layer::leaky(0.2),
                Layer::conv([inner; 2], 1, device),
                Layer::leaky(0.2),
                Layer::conv([inner, features], 3, device),
            ]),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::One(conv) => crate::convolution::convolve(conv, x),
            Self::Three(layers) => sequential::forward(layers, x),
        }
    }
}

impl DatConfig {
    /// The network of `DAT_light_x2`, `_x3` and `_x4`: 553 thousand parameters and more.
    #[must_use]
    pub fn light(scale: usize) -> Self {
        Self::new(scale)
            .with_features(60)
            .with_depths(vec![18])
            .with_heads(vec![6])
            .with_expansion(2.0)
            .with_residual(ResidualConvolution::Three)
            .with_reconstruction(Reconstruction::Direct)
    }

    /// The network of `DAT_S_x2`, `_x3` and `_x4`: 11 million parameters, windows of 8 x 16. (Those of `DAT_x2` to `_x4`, 15
    /// million, are of the defaults.)
    #[must_use]
    pub fn small(scale: usize) -> Self {
        Self::new(scale).with_window([8, 16]).with_expansion(2.0)
    }

    /// The network of `DAT_2_x2`, `_x3` and `_x4`: 11 million parameters, windows of 8 x 32.
    #[must_use]
    pub fn second(scale: usize) -> Self {
        Self::new(scale).with_expansion(2.0)
    }

    /// The network with default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If the heads are not even in number or do not divide the features, there is not one number of heads for each group,
    /// a window's side is below 2, the features are fewer than 32, or stepwise reconstruction meets a scale that is neither
    /// 3 nor a power of 2.
    #[must_use]
    pub fn init(&self, device: &Device) -> Dat {
        let features = self.features;
        assert!(
            self.heads.len() == self.depths.len(),
            "DAT: {} groups, {:?} heads",
            self.depths.len(),
            self.heads
        );
        assert!(
            features >= 32 && self.scale > 0 && self.window.iter().all(|&side| side > 1),
            "DAT: {self:?}"
        );
        let group = |(index, (&depth, &heads)): (usize, (&usize, &usize))| Group {
            blocks: (0..depth)
                .map(|block| {
                    let hidden = (features as f64 * self.expansion) as usize;
                    BlockConfig { features, heads, window: self.window, hidden, place: [index, block] }
                        .init(device)
                })
                .collect(),
            conv: Residual::new(self.residual, features, device),
        };
        let conv = |from, to| convolution([from, to], 3, 1, device);
        let shuffle = |factor| Step::Shuffle(PixelShuffleConfig::new(factor).init());
        let wide = 64;
        let (conv_before_upsample, upsample, conv_last) = match self.reconstruction {
            Reconstruction::Direct => {
                let last = conv(features, 3 * self.scale * self.scale);
                (Vec::new(), vec![Step::Convolution(last), shuffle(self.scale)], None)
            }
            Reconstruction::Stepwise => {
                assert!(self.scale == 3 || self.scale.is_power_of_two(), "DAT: a scale of {}", self.scale);
                let (factor, steps) =
                    if self.scale == 3 { (3, 1) } else { (2, self.scale.trailing_zeros() as usize) };
                let step = |_| [Step::Convolution(conv(wide, wide * factor * factor)), shuffle(factor)];
                let before = vec![Layer::conv([features, wide], 3, device), Layer::leaky(0.01)];
                (before, (0..steps).flat_map(step).collect(), Some(conv(wide, 3)))
            }
        };
        Dat {
            conv_first: conv(3, features),
            before_RG: vec![
                Before::Axes(burn::nn::Identity::new()),
                Before::Norm(LayerNormConfig::new(features).init(device)),
            ],
            layers: self.depths.iter().zip(&self.heads).enumerate().map(group).collect(),
            norm: LayerNormConfig::new(features).init(device),
            conv_after_body: Residual::new(self.residual, features, device),
            conv_before_upsample,
            upsample,
            conv_last,
        }
    }
}

/// Brightness of DIV2K's pictures, which the published weights were trained about.
const MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040];

impl Dat {
    /// The larger picture; brightness from 0 to 1 in and, up to an overshoot, out.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`, of any height and width
    /// - output: `[batch, 3, scale height, scale width]`
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mean = Tensor::<1>::from_floats(MEAN, &x.device()).cast(x.dtype()).reshape([1, 3, 1, 1]);
        let shallow = crate::convolution::convolve(&self.conv_first, x - mean.clone());
        let size = {
            let [_, _, height, width] = shallow.dims();
            [height, width]
        };
        let rows = self.before_RG.iter().fold(to_rows(shallow.clone()), |x, layer| match layer {
            Before::Axes(_) => x,
            Before::Norm(norm) => norm.forward(x),
        });
        let rows = self.layers.iter().fold(rows, |x, group| group.forward(x, size));
        let deep = self.conv_after_body.forward(to_planes(self.norm.forward(rows), size)) + shallow;
        let features = sequential::forward(&self.conv_before_upsample, deep);
        let larger = self.upsample.iter().fold(features, |x, step| match step {
            Step::Convolution(conv) => crate::convolution::convolve(conv, x),
            Step::Shuffle(shuffle) => shuffle.forward(x),
        });
        let picture = match &self.conv_last {
            Some(conv) => crate::convolution::convolve(conv, larger),
            None => larger,
        };
        picture + mean
    }
}

impl Group {
    fn forward(&self, x: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
        let y = self.blocks.iter().fold(x.clone(), |x, block| block.forward(x, size));
        x + to_rows(self.conv.forward(to_planes(y, size)))
    }
}

/// `[batch, channels, height, width]` to `[batch, height width, channels]`.
fn to_rows(x: Tensor<4>) -> Tensor<3> {
    x.flatten::<3>(2, 3).swap_dims(1, 2)
}

/// `[batch, height width, channels]` to `[batch, channels, height, width]`.
fn to_planes(x: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
    x.swap_dims(1, 2).reshape([batch, channels, height, width])
}
