//! RefineNet's blocks (Lin et al. 2017, figure 2): each joins what is refined so far with a shallower stage.
//!
//! ```text
//! h_i = adapt_i(x_i)                                 two residual units each
//! h = sum_i resize(conv_i(h_i))                      to the sides of the shallower one, corners aligned
//! h = act(h);  p_0 = h;  p_j = conv_j(pool(p_(j-1)));  h + p_1 + p_2      chained pooling, 5 x 5
//! y = output(h)                                      a residual unit, three at the end
//! ```
//!
//! NCSN has a norm before each convolution here and pools by the mean; NCSNv2 has none and pools by the maximum.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Device, Int, Tensor};
use kiln_backend::ops::{AlignCorners, Interpolation, InterpolationMode, interpolate};
use kiln_blocks::convolve;

use super::config::Nonlinearity;
use super::norm::{Norm, NormKind};
use super::residual::conv3;

/// A norm, where there is one, and a convolution without bias.
#[derive(Module, Debug)]
pub(super) struct Unit {
    norm: Option<Norm>,
    conv: Conv2d,
}

/// Residual units: `x + conv(act(conv(act(x))))`, in turn.
#[derive(Module, Debug)]
pub(super) struct Units {
    units: Vec<(Unit, Unit)>,
}

/// What brings two stages to one width and one size.
#[derive(Module, Debug)]
pub(super) struct Fusion {
    norms: Vec<Norm>,
    convs: Vec<Conv2d>,
}

/// Chained pooling.
#[derive(Module, Debug)]
pub(super) struct Chain {
    norms: Vec<Norm>,
    convs: Vec<Conv2d>,
}

#[derive(Module, Debug)]
pub(super) struct Refine {
    adapt_convs: Vec<Units>,
    msf: Option<Fusion>,
    crp: Chain,
    output_convs: Units,
}

/// What the blocks of a network share: norms in them, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefineKind {
    pub norm: Option<NormKind>,
}

fn unbiased(channels: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([channels; 2], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(false)
        .init(device)
}

impl RefineKind {
    fn units(self, channels: usize, count: usize, device: &Device) -> Units {
        let unit = || Unit {
            norm: self.norm.map(|norm| norm.init(channels, device)),
            conv: unbiased(channels, device),
        };
        Units { units: (0..count).map(|_| (unit(), unit())).collect() }
    }

    fn norms(self, channels: &[usize], device: &Device) -> Vec<Norm> {
        self.norm.map_or_else(Vec::new, |norm| channels.iter().map(|&c| norm.init(c, device)).collect())
    }

    /// A block of stages of `inputs` channels, with `outputs` residual units behind.
    pub(super) fn init(self, inputs: &[usize], channels: usize, outputs: usize, device: &Device) -> Refine {
        Refine {
            adapt_convs: inputs.iter().map(|&c| self.units(c, 2, device)).collect(),
            msf: (inputs.len() > 1).then(|| Fusion {
                norms: self.norms(inputs, device),
                convs: inputs.iter().map(|&c| conv3([c, channels], None, device)).collect(),
            }),
            crp: Chain {
                norms: self.norms(&[channels; 2], device),
                convs: [(); 2].map(|()| unbiased(channels, device)).into(),
            },
            output_convs: self.units(channels, outputs, device),
        }
    }
}

impl Units {
    fn forward(&self, x: Tensor<4>, levels: &Tensor<1, Int>, act: Nonlinearity) -> Tensor<4> {
        let apply = |unit: &Unit, x: Tensor<4>| {
            let x = match &unit.norm {
                Some(norm) => norm.forward(x, levels),
                None => x,
            };
            convolve(&unit.conv, act.apply(x))
        };
        self.units.iter().fold(x, |x, (first, second)| x.clone() + apply(second, apply(first, x)))
    }
}

impl Fusion {
    fn forward(&self, inputs: Vec<Tensor<4>>, size: [usize; 2], levels: &Tensor<1, Int>) -> Tensor<4> {
        let resized = inputs.into_iter().zip(&self.convs).enumerate().map(|(i, (x, conv))| {
            let x = match self.norms.get(i) {
                Some(norm) => norm.forward(x, levels),
                None => x,
            };
            let x = convolve(conv, x);
            let [_, _, height, width] = x.dims();
            if [height, width] == size {
                return x;
            }
            let corners =
                Interpolation { mode: InterpolationMode::Bilinear, align_corners: AlignCorners::Yes };
            interpolate(x, size, corners)
        });
        resized.reduce(|sum, x| sum + x).expect("a fusion has inputs")
    }
}

impl Chain {
    fn forward(&self, x: Tensor<4>, levels: &Tensor<1, Int>, act: Nonlinearity) -> Tensor<4> {
        let mut sum = act.apply(x);
        let mut path = sum.clone();
        for (i, conv) in self.convs.iter().enumerate() {
            path = match self.norms.get(i) {
                Some(norm) => avg_pool2d(norm.forward(path, levels), MEAN_POOL),
                None => max_pool2d(max_pool2d(path, MAX_POOL_OF_ROWS), MAX_POOL_OF_COLUMNS),
            };
            path = convolve(conv, path);
            sum = sum + path.clone();
        }
        sum
    }
}

/// Of pixels outside, which are 0, too: as PyTorch has it unless it is told otherwise.
const MEAN_POOL: AvgPoolOptions<2> = AvgPoolOptions {
    kernel_size: [5, 5],
    stride: [1, 1],
    padding: [(2, 2), (2, 2)],
    count_include_pad: true,
    ceil_mode: false,
};

/// The largest of 5 x 5 pixels is the largest in a column of the largest in rows: ten comparisons in place of twenty-five.
const MAX_POOL_OF_ROWS: MaxPoolOptions<2> = MaxPoolOptions {
    kernel_size: [1, 5],
    stride: [1, 1],
    padding: [(0, 0), (2, 2)],
    dilation: [1, 1],
    ceil_mode: false,
};

const MAX_POOL_OF_COLUMNS: MaxPoolOptions<2> =
    MaxPoolOptions { kernel_size: [5, 1], padding: [(2, 2), (0, 0)], ..MAX_POOL_OF_ROWS };

impl Refine {
    /// The first of `inputs` is the shallower stage, whose sides the result has.
    pub(super) fn forward(
        &self,
        inputs: Vec<Tensor<4>>,
        levels: &Tensor<1, Int>,
        act: Nonlinearity,
    ) -> Tensor<4> {
        let [_, _, height, width] = inputs[0].dims();
        let adapted = inputs.into_iter().zip(&self.adapt_convs);
        let mut adapted: Vec<_> = adapted.map(|(x, units)| units.forward(x, levels, act)).collect();
        let x = match &self.msf {
            Some(fusion) => fusion.forward(adapted, [height, width], levels),
            None => adapted.remove(0),
        };
        self.output_convs.forward(self.crp.forward(x, levels, act), levels, act)
    }
}
