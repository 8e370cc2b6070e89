//! The residual block of diffusion U-Nets and of their autoencoders (diffusers: `ResnetBlock2D`).
//!
//! ```text
//! h = conv1(resample(act(norm1(x))))
//! h = conv2(dropout(act(norm2(h + W act(t)))))                      time embedding as a shift
//! h = conv2(dropout(act(norm2(h) (1 + scale) + shift)))             (scale, shift) = W act(t)
//! y = (shortcut(resample(x)) + h) / output_scale_factor
//! ```
//!
//! The first form is DDPM's (Ho et al. 2020), the second that of Dhariwal and Nichol 2021 (adaptive group norm).

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, activation};
use kiln_backend::watch;
use kiln_upsampling::{BINOMIAL, fir_downsample, fir_upsample_to, nearest};
use serde::{Deserialize, Serialize};

use crate::convolve;
use crate::normalization::{Normalization, NormalizationConfig};

/// How a time embedding enters a [`ResnetBlock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// Added before the second norm.
    #[default]
    Default,
    /// Scale and shift after the second norm.
    ScaleShift,
}

/// Whether a [`ResnetBlock`] applies its activation to the time embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeActivation {
    /// It does.
    #[default]
    Applied,
    /// It does not: the embedding comes with its activation applied (diffusers: `skip_time_act`).
    Skipped,
}

/// A change of resolution inside a [`ResnetBlock`], with no parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resampling {
    /// The resolution stays.
    #[default]
    None,
    /// Sides halved by 2 x 2 averages.
    Down,
    /// Sides doubled by repeating pixels.
    Up,
    /// Sides halved behind a [`BINOMIAL`] filter.
    FirDown,
    /// Sides doubled with a [`BINOMIAL`] filter.
    FirUp,
}

impl Resampling {
    /// `x`, `[batch, channels, height, width]`, at the resolution after the change; one that enlarges gives the sides `size`.
    #[must_use]
    pub fn apply(self, x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        match self {
            Self::None => x,
            Self::Down => avg_pool2d(x, AvgPoolOptions::new([2, 2])),
            Self::Up => nearest(x, size),
            Self::FirDown => fir_downsample(x, &BINOMIAL, 2),
            Self::FirUp => fir_upsample_to(x, &BINOMIAL, 2, size),
        }
    }
}

/// When the shortcut of a [`ResnetBlock`] is a 1 x 1 convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shortcut {
    /// Where the channels change.
    #[default]
    Needed,
    /// Always.
    Convolved,
}

/// Configuration of a [`ResnetBlock`].
#[derive(Config, Debug)]
pub struct ResnetBlockConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Width of the time embedding; `None` for a block that knows no time, as in autoencoders.
    pub time_channels: Option<usize>,
    /// Groups of both norms.
    #[config(default = 32)]
    pub groups: usize,
    /// Groups of the second norm, where they differ.
    pub groups_out: Option<usize>,
    /// Added to the variance in both norms.
    #[config(default = 1e-6)]
    pub eps: f64,
    /// Activation after the norms and on the time embedding.
    #[config(default = "Activation::Silu")]
    pub activation: Activation,
    /// How the time embedding enters.
    #[config(default = "TimeScaleShift::Default")]
    pub time_scale_shift: TimeScaleShift,
    /// Whether the activation is applied to the time embedding.
    #[config(default = "TimeActivation::Applied")]
    pub time_activation: TimeActivation,
    /// Probability that dropout before the second convolution zeroes an element, in `0..1`; only in training.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Divides the sum of shortcut and branch.
    #[config(default = 1.0)]
    pub output_scale_factor: f64,
    /// Change of resolution before the first convolution.
    #[config(default = "Resampling::None")]
    pub resampling: Resampling,
    /// When the shortcut is convolved.
    #[config(default = "Shortcut::Needed")]
    pub shortcut: Shortcut,
}

/// Residual block; see the [module](self).
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm1: Normalization,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: Normalization,
    dropout: Dropout,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    time_scale_shift: TimeScaleShift,
    #[module(skip)]
    time_activation: TimeActivation,
    #[module(skip)]
    resampling: Resampling,
    output_scale_factor: f64,
}

/// A 3 x 3 convolution that keeps the resolution.
pub fn conv3x3(channels: [usize; 2], device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
}

impl ResnetBlockConfig {
    /// The block with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If the groups do not divide the channels of their norms, or `dropout` is outside `0..1`.
    #[must_use]
    pub fn init(&self, device: &Device) -> ResnetBlock {
        let norm =
            |channels, groups| NormalizationConfig::new(channels, groups).with_eps(self.eps).init(device);
        let projected = match self.time_scale_shift {
            TimeScaleShift::Default => self.out_channels,
            TimeScaleShift::ScaleShift => 2 * self.out_channels,
        };
        ResnetBlock {
            norm1: norm(self.in_channels, self.groups),
            conv1: conv3x3([self.in_channels, self.out_channels], device),
            time_emb_proj: self.time_channels.map(|width| LinearConfig::new(width, projected).init(device)),
            norm2: norm(self.out_channels, self.groups_out.unwrap_or(self.groups)),
            dropout: DropoutConfig::new(self.dropout).init(),
            conv2: conv3x3([self.out_channels, self.out_channels], device),
            conv_shortcut: (self.in_channels != self.out_channels || self.shortcut == Shortcut::Convolved)
                .then(|| Conv2dConfig::new([self.in_channels, self.out_channels], [1, 1]).init(device)),
            activation: self.activation,
            time_scale_shift: self.time_scale_shift,
            time_activation: self.time_activation,
            resampling: self.resampling,
            output_scale_factor: self.output_scale_factor,
        }
    }
}

impl ResnetBlock {
    /// `x` is `[batch, in_channels, height, width]`, `time` `[batch, time_channels]`; the result has `out_channels`, and
    /// the sides that the block's [`Resampling`] gives.
    ///
    /// # Panics
    ///
    /// If the block was made for a time embedding and gets none, or the other way round.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, time: Option<Tensor<2>>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        self.forward_to(x, time, [2 * height, 2 * width])
    }

    /// As [`forward`](Self::forward), but a block that enlarges gives the sides `size`.
    ///
    /// # Panics
    ///
    /// As `forward` does.
    #[must_use]
    pub fn forward_to(&self, x: Tensor<4>, time: Option<Tensor<2>>, size: [usize; 2]) -> Tensor<4> {
        let h = self.norm1.forward(x.clone(), self.activation);
        let (x, h) = (self.resampling.apply(x, size), self.resampling.apply(h, size));
        let h = convolve(&self.conv1, h);
        let h = self.normalise_with_time(h, time);
        let h = convolve(&self.conv2, self.dropout.forward(h));
        let x = match &self.conv_shortcut {
            Some(conv) => convolve(conv, x),
            None => x,
        };
        let y = x + h;
        watch::block(&self.conv1.weight, &y);
        // Dividing by 1 would be one more pass over the picture.
        if self.output_scale_factor == 1.0 { y } else { y / self.output_scale_factor }
    }

    fn normalise_with_time(&self, h: Tensor<4>, time: Option<Tensor<2>>) -> Tensor<4> {
        let time: Option<Tensor<4>> = match (&self.time_emb_proj, time) {
            (Some(proj), Some(time)) => {
                let time = match self.time_activation {
                    TimeActivation::Applied => activation(time, self.activation),
                    TimeActivation::Skipped => time,
                };
                Some(proj.forward(time).unsqueeze_dims(&[2, 3]))
            }
            (None, None) => None,
            (Some(_), None) => panic!("this residual block needs a time embedding"),
            (None, Some(_)) => panic!("this residual block takes no time embedding"),
        };
        match (self.time_scale_shift, time) {
            (_, None) => self.norm2.forward(h, self.activation),
            (TimeScaleShift::Default, Some(time)) => self.norm2.forward(h + time, self.activation),
            (TimeScaleShift::ScaleShift, Some(time)) => {
                let channels = h.dims()[1];
                let scale = time.clone().narrow(1, 0, channels);
                let shift = time.narrow(1, channels, channels);
                let h = self.norm2.forward(h, Activation::Identity);
                activation(h * (scale + 1.0) + shift, self.activation)
            }
        }
    }
}
