//! PixelCNN++ (Salimans et al. 2017): a pixel at a time, by a mixture of logistics, over two streams at three resolutions.
//!
//! Instead of masks, pictures are shifted: the stream u sees all rows above, the stream ul those and the pixels on the left.
//!
//! ```text
//! u_0  = down(conv 2 x 3 (x)),      ul_0 = down(conv 1 x 3 (x)) + right(conv 2 x 1 (x))
//! u    <- R(u),  ul <- R(ul; u)     n times at each resolution, and a convolution of stride 2 to the next
//! u    <- R(u; u'),  ul <- R(ul; [u, ul'])     back, by transposed convolutions of stride 2; ' is what the way there gave
//! R(x; a) = x + c_1 sigmoid(c_2),   [c_1, c_2] = conv(dropout(ce(conv(ce(x)) + conv1x1(ce(a))))) + V y,   ce(x) = elu([x, -x])
//! ```
//!
//! Convolutions of u are 2 x 3 and reach the row above and the columns beside, those of ul 2 x 2 to the left and above. x has a channel of
//! ones besides, by which a picture's border can be told. Weights are plain where the paper has them by direction and length.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{self, Activation};
use kiln_blocks::convolve;

use super::Canvas;
use crate::error::config;
use crate::given::Given;
use crate::{AutoregressiveError, AutoregressiveModel, Family, Order};

/// Configuration of a [`PixelCnnPlusPlus`].
#[derive(Config, Debug)]
pub struct PixelCnnPlusPlusConfig {
    /// What is drawn, mostly with a [`Family::LogisticMixture`]; a pixel is a site.
    pub canvas: Canvas,
    /// Features of a pixel; the paper has 160.
    #[config(default = 64)]
    pub features: usize,
    /// Blocks at each resolution; the paper has 5.
    #[config(default = 2)]
    pub blocks: usize,
    /// How often the resolution is halved.
    #[config(default = 2)]
    pub halvings: usize,
    /// Dropout's probability.
    #[config(default = 0.5)]
    pub dropout: f64,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// Two streams, down to a coarser resolution and back; see the [module](self).
#[derive(Module, Debug)]
pub struct PixelCnnPlusPlus {
    u_start: Shifted,
    ul_start_above: Shifted,
    ul_start_left: Shifted,
    there: Vec<Stage>,
    halve: Vec<[Shifted; 2]>,
    back: Vec<Stage>,
    double: Vec<[Unshifted; 2]>,
    output: Conv2d,
    #[module(skip)]
    canvas: Canvas,
    #[module(skip)]
    order: Order,
}

/// A convolution that reaches up, and to both sides or to the left.
#[derive(Module, Debug)]
struct Shifted {
    conv: Conv2d,
    /// Left and right.
    #[module(skip)]
    sides: [usize; 2],
}

/// A transposed one, that reaches down and to the right.
#[derive(Module, Debug)]
struct Unshifted {
    conv: ConvTranspose2d,
}

#[derive(Module, Debug)]
struct Stage {
    u: Vec<GatedResidual>,
    ul: Vec<GatedResidual>,
}

#[derive(Module, Debug)]
struct GatedResidual {
    first: Shifted,
    skip: Option<Conv2d>,
    second: Shifted,
    dropout: Dropout,
    given: Given,
}

/// The kernels of u and of ul, and the columns that they reach to the left and the right.
const STREAMS: [([usize; 2], [usize; 2]); 2] = [([2, 3], [1, 1]), ([2, 2], [1, 0])];

impl PixelCnnPlusPlusConfig {
    /// The model on `device`, as PyTorch starts convolutions.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<PixelCnnPlusPlus, AutoregressiveError> {
        let Self { canvas, features, blocks, halvings, .. } = *self;
        canvas.check()?;
        if canvas.parts() != 1 {
            let reason = "draws one channel after the other; here a pixel is drawn at once: expected a mixture of logistics";
            return config("family", reason);
        }
        if features == 0 || blocks == 0 {
            return config(if features == 0 { "features" } else { "blocks" }, "is 0");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return config("dropout", format!("is {}; expected 0 or more and less than 1", self.dropout));
        }
        let start = |kernel, sides| Shifted::new([canvas.channels + 1, features], kernel, sides, 1, device);
        let both = |stride| {
            STREAMS.map(|(kernel, sides)| Shifted::new([features; 2], kernel, sides, stride, device))
        };
        let stage = |blocks: usize, skips: [usize; 2]| {
            let stream =
                |index: usize| (0..blocks).map(|_| self.residual(index, skips[index], device)).collect();
            Stage { u: stream(0), ul: stream(1) }
        };
        let double = || {
            STREAMS.map(|(kernel, _)| {
                let conv = ConvTranspose2dConfig::new([features; 2], kernel).with_stride([2, 2]);
                Unshifted { conv: conv.init(device) }
            })
        };
        Ok(PixelCnnPlusPlus {
            u_start: start([2, 3], [1, 1]),
            ul_start_above: start([1, 3], [1, 1]),
            ul_start_left: start([2, 1], [0, 0]),
            there: (0..=halvings).map(|_| stage(blocks, [0, 1])).collect(),
            halve: (0..halvings).map(|_| both(2)).collect(),
            // One more for the convolution that halved, and the first of all.
            back: (0..=halvings).map(|i| stage(blocks + usize::from(i > 0), [1, 2])).collect(),
            double: (0..halvings).map(|_| double()).collect(),
            output: Conv2dConfig::new([features, canvas.family.width()], [1, 1]).init(device),
            canvas,
            order: canvas.order(),
        })
    }

    /// A block of stream u (0) or ul (1), that is shown so many others.
    fn residual(&self, stream: usize, skips: usize, device: &Device) -> GatedResidual {
        let (features, (kernel, sides)) = (self.features, STREAMS[stream]);
        let skip = || Conv2dConfig::new([2 * skips * features, features], [1, 1]).init(device);
        GatedResidual {
            first: Shifted::new([2 * features, features], kernel, sides, 1, device),
            skip: (skips > 0).then(skip),
            second: Shifted::new([2 * features, 2 * features], kernel, sides, 1, device),
            dropout: DropoutConfig::new(self.dropout).init(),
            given: Given::new(self.given, 2 * features, device),
        }
    }
}

impl Shifted {
    fn new(
        channels: [usize; 2],
        kernel: [usize; 2],
        sides: [usize; 2],
        stride: usize,
        device: &Device,
    ) -> Self {
        let conv = Conv2dConfig::new(channels, kernel).with_stride([stride; 2]);
        Self { conv: conv.init(device), sides }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [left, right] = self.sides;
        convolve(&self.conv, x.pad((left, right, self.conv.kernel_size[0] - 1, 0), 0.0))
    }
}

impl Unshifted {
    /// Twice as large, or one less in a direction.
    fn forward(&self, x: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
        let left = (self.conv.kernel_size[1] - 1) / 2;
        let y = self.conv.forward(x);
        y.narrow(2, 0, height).narrow(3, left, width)
    }
}

/// elu([x, -x]).
fn concat_elu(x: Tensor<4>) -> Tensor<4> {
    ops::activation(Tensor::cat(vec![x.clone(), x.neg()], 1), Activation::Elu)
}

impl GatedResidual {
    fn forward(&self, x: Tensor<4>, other: Option<Tensor<4>>, given: Option<&Tensor<2>>) -> Tensor<4> {
        let mut c = self.first.forward(concat_elu(x.clone()));
        if let (Some(skip), Some(other)) = (&self.skip, other) {
            c = c + convolve(skip, concat_elu(other));
        }
        let mut c = self.second.forward(self.dropout.forward(concat_elu(c)));
        if let Some(given) = self.given.of(given) {
            c = c + given.unsqueeze_dim::<3>(2).unsqueeze_dim::<4>(3);
        }
        let half = x.dims()[1];
        x + c.clone().narrow(1, 0, half) * sigmoid(c.narrow(1, half, half))
    }
}

/// A row lower: the first is empty.
fn down(x: Tensor<4>) -> Tensor<4> {
    let height = x.dims()[2];
    x.pad((0, 0, 1, 0), 0.0).narrow(2, 0, height)
}

/// A column to the right: the first is empty.
fn right(x: Tensor<4>) -> Tensor<4> {
    let width = x.dims()[3];
    x.pad((1, 0, 0, 0), 0.0).narrow(3, 0, width)
}

impl PixelCnnPlusPlus {
    fn forward(&self, x: Tensor<4>, given: Option<&Tensor<2>>) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        let ones = Tensor::ones([batch, 1, height, width], (&x.device(), x.dtype()));
        let x = Tensor::cat(vec![x, ones], 1);
        let mut u = down(self.u_start.forward(x.clone()));
        let mut ul = down(self.ul_start_above.forward(x.clone())) + right(self.ul_start_left.forward(x));
        // What the way there gives, for the way back.
        let mut given_there = vec![[u.clone(), ul.clone()]];
        for (index, stage) in self.there.iter().enumerate() {
            for (u_block, ul_block) in stage.u.iter().zip(&stage.ul) {
                u = u_block.forward(u, None, given);
                ul = ul_block.forward(ul, Some(u.clone()), given);
                given_there.push([u.clone(), ul.clone()]);
            }
            if let Some([u_half, ul_half]) = self.halve.get(index) {
                (u, ul) = (u_half.forward(u), ul_half.forward(ul));
                given_there.push([u.clone(), ul.clone()]);
            }
        }
        // The last is what u and ul are.
        given_there.pop();
        for (index, stage) in self.back.iter().enumerate() {
            for (u_block, ul_block) in stage.u.iter().zip(&stage.ul) {
                let Some([u_there, ul_there]) = given_there.pop() else { break };
                u = u_block.forward(u, Some(u_there), given);
                ul = ul_block.forward(ul, Some(Tensor::cat(vec![u.clone(), ul_there], 1)), given);
            }
            if let Some([u_double, ul_double]) = self.double.get(index) {
                let size = given_there.last().map_or([height, width], |[u, _]| [u.dims()[2], u.dims()[3]]);
                (u, ul) = (u_double.forward(u, size), ul_double.forward(ul, size));
            }
        }
        convolve(&self.output, ops::activation(ul, Activation::Elu))
    }
}

impl AutoregressiveModel for PixelCnnPlusPlus {
    fn family(&self) -> Family {
        self.canvas.family
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.there[0].u[0].given.width()
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        self.canvas.parameters(self.forward(self.canvas.picture(x), given.as_ref()))
    }
}
