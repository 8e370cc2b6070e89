//! DySample (Liu et al. 2023, "Learning to Upsample by Learning to Sample", arXiv 2308.15085): bilinear interpolation at
//! places that a 1 x 1 convolution moves.
//!
//! ```text
//! place[factor p + d] = p + (d + 1/2) / factor - 1/2 + offset[factor p + d]         offset = shuffle(conv(x)) / 4
//! ```
//!
//! in each of `groups` groups of channels (the "linear + pixel shuffle" design, static scope). Beyond the picture its edge
//! goes on.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::convolution::convolve;

/// Configuration of a [`DySample`].
#[derive(Config, Debug)]
pub struct DySampleConfig {
    /// Channels in and out.
    pub channels: usize,
    /// How many times larger the picture becomes.
    #[config(default = 2)]
    pub factor: usize,
    /// Groups of channels, each with its own offsets.
    #[config(default = 4)]
    pub groups: usize,
}

/// Upsampling by dynamic sampling; see the [module](self). Its parameters are those of one 1 x 1 convolution; an
/// output costs four products a channel, and the places. It begins as bilinear interpolation, and shows no checkerboard.
#[derive(Module, Debug)]
pub struct DySample {
    offset: Conv2d,
    factor: usize,
    groups: usize,
}

impl DySampleConfig {
    /// The layer as the paper starts it: offsets near 0, so that it begins as bilinear interpolation.
    ///
    /// # Panics
    ///
    /// If the groups do not divide the channels, or anything is 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> DySample {
        let Self { channels, factor, groups } = *self;
        assert!(
            factor > 0 && groups > 0 && channels > 0 && channels.is_multiple_of(groups),
            "DySample: {self:?}"
        );
        let out = 2 * groups * factor * factor;
        let mut offset = Conv2dConfig::new([channels, out], [1, 1])
            .with_initializer(Initializer::Normal { mean: 0.0, std: 0.001 })
            .init(device);
        offset.bias = Some(Param::from_tensor(Tensor::zeros([out], device)));
        DySample { offset, factor, groups }
    }
}

impl DySample {
    /// `[batch, channels, height, width]` to `[batch, channels, factor height, factor width]`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "tensors go by value, as everywhere")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let (factor, groups) = (self.factor, self.groups);
        let (rows, columns) = (factor * height, factor * width);
        // The published order of the convolution's outputs: across before down, then group, then place in the block.
        let offset = convolve(&self.offset, x.clone()) * 0.25;
        let offset = offset.reshape([batch * 2 * groups, factor, factor, height, width]);
        let offset = offset.permute([0, 3, 1, 4, 2]).reshape([batch, 2, groups, rows, columns]);
        let place = |axis: usize, side: usize| {
            let offset = offset.clone().narrow(1, axis, 1).reshape([batch, groups, rows, columns]);
            let start = |out: usize| (out as f32 + 0.5) / factor as f32 - 0.5;
            let (values, shape) = match axis {
                0 => ((0..columns).map(start).collect::<Vec<_>>(), [1, 1, 1, columns]),
                _ => ((0..rows).map(start).collect::<Vec<_>>(), [1, 1, rows, 1]),
            };
            let start = Tensor::<4>::from_data(TensorData::new(values, shape), &x.device()).cast(x.dtype());
            (offset + start).clamp(0.0, side as f64 - 1.0)
        };
        sample(x.clone(), place(0, width), place(1, height), groups).reshape([batch, channels, rows, columns])
    }
}

/// Bilinear interpolation at places `[batch, groups, rows, columns]`, counted in pixels and within the picture.
fn sample(x: Tensor<4>, across: Tensor<4>, down: Tensor<4>, groups: usize) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let [_, _, rows, columns] = across.dims();
    let each = channels / groups;
    let pixels = x.reshape([batch * groups, each, height * width]);
    // Places are constants for the pixels that are picked; gradients flow through the weights.
    let left = across.clone().detach().floor();
    let top = down.clone().detach().floor();
    let (right_share, below_share) = (across - left.clone(), down - top.clone());
    let (left, top) = (left.int(), top.int());
    let corner = |beside: i64, below: i64| {
        let column = (left.clone() + beside).clamp_max(width as i64 - 1);
        let row = (top.clone() + below).clamp_max(height as i64 - 1);
        let index: Tensor<3, Int> =
            (row * width as i64 + column).reshape([batch * groups, 1, rows * columns]);
        pixels.clone().gather(2, index.repeat_dim(1, each))
    };
    let share = |share: Tensor<4>| share.reshape([batch * groups, 1, rows * columns]);
    let (right_share, below_share) = (share(right_share), share(below_share));
    let upper: Tensor<3> = corner(0, 0) * (1.0 - right_share.clone()) + corner(1, 0) * right_share.clone();
    let lower: Tensor<3> = corner(0, 1) * (1.0 - right_share.clone()) + corner(1, 1) * right_share;
    let mixed: Tensor<3> = upper * (1.0 - below_share.clone()) + lower * below_share;
    mixed.reshape([batch, channels, rows, columns])
}
