//! The stages of NCSN++ (Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations",
//! appendix H): a small picture goes along beside the features, downwards as further input, upwards as the sum of what each
//! stage adds to the result.
//!
//! ```text
//! down   h = layers(h);  p = fir_downsample(p);  h = resnet_down(h) + skip_conv(p)
//! up     h = layers(h);  p = fir_upsample(p) + skip_conv(silu(skip_norm(h)));  h = resnet_up(h)
//! ```
//!
//! | here | diffusers |
//! |---|---|
//! | [`SkipDownStage`] | `SkipDownBlock2D`, `AttnSkipDownBlock2D` |
//! | [`SkipUpStage`] | `SkipUpBlock2D`, `AttnSkipUpBlock2D` |
//!
//! Groups of the norms follow from the channels, see [`skip_groups`]; attention's norm has 32.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::Activation;
use kiln_upsampling::{BINOMIAL, fir_downsample, fir_upsample_to};

use crate::attention::{SpatialAttention, SpatialAttentionConfig};
use crate::convolve;
use crate::normalization::{Normalization, NormalizationConfig};
use crate::resnet::{Resampling, ResnetBlock, ResnetBlockConfig, Shortcut, TimeScaleShift};

/// Channels of the picture that goes along.
pub const PICTURE_CHANNELS: usize = 3;

/// Groups of the norm of an attention in these stages.
pub const ATTENTION_GROUPS: usize = 32;

/// Groups of a norm over `channels`: four channels a group, at most 32 groups.
#[must_use]
pub fn skip_groups(channels: usize) -> usize {
    (channels / 4).min(32)
}

/// Groups of the first norm of a layer on the way up, which meets `channels` and a skip connection of `skip`.
///
/// With attention diffusers divides only the latter by four; checkpoints were trained with either.
#[must_use]
pub fn skip_groups_joined(channels: usize, skip: usize, attends: bool) -> usize {
    if attends { (channels + skip / 4).min(32) } else { skip_groups(channels + skip) }
}

/// Whether a stage of NCSN++ resamples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SkipResampler {
    /// It does not: the lowest resolution of the way down, the highest of the way up.
    None,
    /// With a filter, in a residual block.
    #[default]
    Fir,
}

/// Configuration of a [`SkipDownStage`] or [`SkipUpStage`].
#[derive(Config, Debug)]
pub struct SkipStageConfig {
    /// Channels of the stage's input.
    pub in_channels: usize,
    /// Channels of each of its layers.
    pub out_channels: usize,
    /// Width of the time embedding.
    pub time_channels: usize,
    /// Channels of a head of the attention after each layer (down) or after the last (up); `None` for no attention.
    pub attention_head_dim: Option<usize>,
    /// What ends the stage.
    #[config(default = "SkipResampler::Fir")]
    pub resampler: SkipResampler,
    /// Added to the variance in every norm.
    #[config(default = 1e-6)]
    pub eps: f64,
    /// Activation of the residual blocks.
    #[config(default = "Activation::Silu")]
    pub activation: Activation,
    /// How the time embedding enters.
    #[config(default = "TimeScaleShift::Default")]
    pub time_scale_shift: TimeScaleShift,
    /// Dropout in the residual blocks.
    #[config(default = 0.0)]
    pub dropout: f64,
}

impl SkipStageConfig {
    /// Groups of the two norms come with the channels.
    fn resnet(&self, in_channels: usize, groups: usize) -> ResnetBlockConfig {
        ResnetBlockConfig::new(in_channels, self.out_channels)
            .with_time_channels(Some(self.time_channels))
            .with_groups(groups)
            .with_groups_out(Some(skip_groups(self.out_channels)))
            .with_eps(self.eps)
            .with_activation(self.activation)
            .with_time_scale_shift(self.time_scale_shift)
            .with_dropout(self.dropout)
            .with_output_scale_factor(std::f64::consts::SQRT_2)
    }

    fn attention(&self, head_dim: usize, device: &Device) -> SpatialAttention {
        SpatialAttentionConfig::new(self.out_channels, head_dim)
            .with_groups(Some(ATTENTION_GROUPS))
            .with_eps(self.eps)
            .with_rescale_output_factor(std::f64::consts::SQRT_2)
            .init(device)
    }

    fn resampling(&self, resampling: Resampling, device: &Device) -> Option<ResnetBlock> {
        let block = || {
            self.resnet(self.out_channels, skip_groups(self.out_channels))
                .with_resampling(resampling)
                .with_shortcut(Shortcut::Convolved)
                .init(device)
        };
        (self.resampler == SkipResampler::Fir).then(block)
    }

    /// A stage of the way down with `layers` layers.
    ///
    /// # Panics
    ///
    /// As [`ResnetBlockConfig::init`] and [`SpatialAttentionConfig::init`] do.
    #[must_use]
    pub fn init_down(&self, layers: usize, device: &Device) -> SkipDownStage {
        let resnet = |layer| {
            let channels = if layer == 0 { self.in_channels } else { self.out_channels };
            self.resnet(channels, skip_groups(channels)).init(device)
        };
        let resamples = self.resampler == SkipResampler::Fir;
        SkipDownStage {
            attentions: (0..layers)
                .filter_map(|_| Some(self.attention(self.attention_head_dim?, device)))
                .collect(),
            resnets: (0..layers).map(resnet).collect(),
            resnet_down: self.resampling(Resampling::FirDown, device),
            skip_conv: resamples
                .then(|| Conv2dConfig::new([PICTURE_CHANNELS, self.out_channels], [1, 1]).init(device)),
        }
    }

    /// A stage of the way up with a layer for each of `skips`, which are the channels of the skip connections in the order
    /// that the layers meet them.
    ///
    /// # Panics
    ///
    /// As [`ResnetBlockConfig::init`] and [`SpatialAttentionConfig::init`] do.
    #[must_use]
    pub fn init_up(&self, skips: &[usize], device: &Device) -> SkipUpStage {
        let resnet = |(layer, &skip): (usize, &usize)| {
            let channels = if layer == 0 { self.in_channels } else { self.out_channels };
            let groups = skip_groups_joined(channels, skip, self.attention_head_dim.is_some());
            self.resnet(channels + skip, groups).init(device)
        };
        let out = self.out_channels;
        let resamples = self.resampler == SkipResampler::Fir;
        SkipUpStage {
            attentions: self
                .attention_head_dim
                .map(|width| self.attention(width, device))
                .into_iter()
                .collect(),
            resnets: skips.iter().enumerate().map(resnet).collect(),
            resnet_up: self.resampling(Resampling::FirUp, device),
            skip_conv: resamples.then(|| {
                Conv2dConfig::new([out, PICTURE_CHANNELS], [3, 3])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .init(device)
            }),
            skip_norm: resamples
                .then(|| NormalizationConfig::new(out, skip_groups(out)).with_eps(self.eps).init(device)),
        }
    }
}

/// One resolution of NCSN++ on the way down.
#[derive(Module, Debug)]
pub struct SkipDownStage {
    attentions: Vec<SpatialAttention>,
    resnets: Vec<ResnetBlock>,
    resnet_down: Option<ResnetBlock>,
    skip_conv: Option<Conv2d>,
}

impl SkipDownStage {
    /// `x` is `[batch, in_channels, height, width]`, `time` `[batch, time_channels]`, `picture` `[batch, 3, height, width]`.
    /// The result of every layer and of the resampler is pushed onto `skips`; the last of them is returned, with the picture
    /// at its resolution. Sides are rounded down.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<4>,
        picture: Tensor<4>,
        time: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
    ) -> (Tensor<4>, Tensor<4>) {
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, Some(time.clone()));
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
            skips.push(x.clone());
        }
        let (Some(resnet), Some(conv)) = (&self.resnet_down, &self.skip_conv) else {
            return (x, picture);
        };
        let picture = fir_downsample(picture, &BINOMIAL, 2);
        let x = convolve(conv, picture.clone()) + resnet.forward(x, Some(time.clone()));
        skips.push(x.clone());
        (x, picture)
    }
}

/// One resolution of NCSN++ on the way up.
#[derive(Module, Debug)]
pub struct SkipUpStage {
    attentions: Vec<SpatialAttention>,
    resnets: Vec<ResnetBlock>,
    resnet_up: Option<ResnetBlock>,
    skip_conv: Option<Conv2d>,
    skip_norm: Option<Normalization>,
}

impl SkipUpStage {
    /// `x` is `[batch, in_channels, height, width]`, `time` `[batch, time_channels]`; `picture` comes from the stage below, at
    /// its resolution, and there is none for the first. Every layer pops one of `skips`. The stage gives the sides of the skip
    /// connection that is met next, or twice its own if none is left; the picture has the sides of `x`.
    ///
    /// # Panics
    ///
    /// If `skips` holds fewer tensors than the stage has layers.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<4>,
        picture: Option<Tensor<4>>,
        time: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        let [_, _, height, width] = x.dims();
        let mut x = x;
        for resnet in &self.resnets {
            let skip = skips.pop().expect("a skip connection for every layer on the way up");
            x = resnet.forward(Tensor::cat(vec![x, skip], 1), Some(time.clone()));
        }
        let x = self.attentions.iter().fold(x, |x, attention| attention.forward(x));
        let picture = picture.map(|picture| fir_upsample_to(picture, &BINOMIAL, 2, [height, width]));
        let (Some(resnet), Some(conv), Some(norm)) = (&self.resnet_up, &self.skip_conv, &self.skip_norm)
        else {
            return (x, picture);
        };
        let added = convolve(conv, norm.forward(x.clone(), Activation::Silu));
        let picture = match picture {
            Some(picture) => picture + added,
            None => added,
        };
        let [_, _, height, width] = match skips.last() {
            Some(skip) => skip.dims(),
            None => x.dims().map(|side| 2 * side),
        };
        (resnet.forward_to(x, Some(time.clone()), [height, width]), Some(picture))
    }
}
