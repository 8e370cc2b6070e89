//! The stages of a U-Net: all layers at one resolution.
//!
//! | here | diffusers |
//! |---|---|
//! | [`DownStage`] | `DownBlock2D`, `AttnDownBlock2D`, `CrossAttnDownBlock2D`, `SimpleCrossAttnDownBlock2D`, `ResnetDownsampleBlock2D` |
//! | [`MidStage`] | `UNetMidBlock2D`, `UNetMidBlock2DCrossAttn`, `UNetMidBlock2DSimpleCrossAttn` |
//! | [`UpStage`] | `UpBlock2D`, `AttnUpBlock2D`, `CrossAttnUpBlock2D`, `SimpleCrossAttnUpBlock2D`, `ResnetUpsampleBlock2D` |
//!
//! They differ in what follows each residual block, which [`StageAttention`] says, and in what resamples at the end.
//!
//! Skip connections (Ronneberger et al. 2015) are a stack of tensors: every layer of the way down pushes its result, every
//! layer of the way up pops one and joins it to its input along the channels.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::Activation;
use serde::{Deserialize, Serialize};

use crate::resnet::{Resampling, ResnetBlock, ResnetBlockConfig, TimeActivation, TimeScaleShift};
use crate::sampling::{Downsample, DownsampleConfig, Upsample, UpsampleConfig};
use crate::stage_attention::{AttentionPlace, StageAttention, StageAttentionLayer};
use crate::transformer::Context;

/// What changes the resolution at the end of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampler {
    /// Nothing: the outermost stage of the way up, the innermost of the way down.
    None,
    /// A convolution.
    #[default]
    Conv,
    /// A residual block that resamples within.
    Resnet,
}

/// Configuration of a [`DownStage`] or [`UpStage`].
#[derive(Config, Debug)]
pub struct StageConfig {
    /// Channels of the stage's input.
    pub in_channels: usize,
    /// Channels of each of its layers.
    pub out_channels: usize,
    /// Width of the time embedding; `None` for a network that knows no time.
    pub time_channels: Option<usize>,
    /// What follows each residual block.
    #[config(default = "StageAttention::None")]
    pub attention: StageAttention,
    /// What ends the stage.
    #[config(default = "Resampler::Conv")]
    pub resampler: Resampler,
    /// Padding of a [`Downsample`].
    #[config(default = 1)]
    pub downsample_padding: usize,
    /// Groups of every norm.
    #[config(default = 32)]
    pub groups: usize,
    /// Added to the variance in every norm.
    #[config(default = 1e-6)]
    pub eps: f64,
    /// Activation of the residual blocks.
    #[config(default = "Activation::Silu")]
    pub activation: Activation,
    /// How the time embedding enters.
    #[config(default = "TimeScaleShift::Default")]
    pub time_scale_shift: TimeScaleShift,
    /// Whether the residual blocks apply their activation to the time embedding.
    #[config(default = "TimeActivation::Applied")]
    pub time_activation: TimeActivation,
    /// Dropout in the residual blocks.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Divides the result of each residual block.
    #[config(default = 1.0)]
    pub output_scale_factor: f64,
}

impl StageConfig {
    /// Self-attention with heads of `head_dim` channels after each residual block, or none.
    #[must_use]
    pub fn with_attention_head_dim(self, head_dim: Option<usize>) -> Self {
        self.with_attention(StageAttention::spatial(head_dim))
    }

    fn resnet(&self, in_channels: usize) -> ResnetBlockConfig {
        ResnetBlockConfig::new(in_channels, self.out_channels)
            .with_time_channels(self.time_channels)
            .with_groups(self.groups)
            .with_eps(self.eps)
            .with_activation(self.activation)
            .with_time_scale_shift(self.time_scale_shift)
            .with_time_activation(self.time_activation)
            .with_dropout(self.dropout)
            .with_output_scale_factor(self.output_scale_factor)
    }

    fn attentions(&self, layers: usize, device: &Device) -> Vec<StageAttentionLayer> {
        let place = AttentionPlace {
            channels: self.out_channels,
            groups: self.groups,
            spatial_groups: Some(self.groups),
            eps: self.eps,
            rescale_output_factor: 1.0,
        };
        (0..layers).filter_map(|layer| self.attention.init(&place, layer, device)).collect()
    }

    /// A stage of the way down with `layers` layers.
    ///
    /// # Panics
    ///
    /// As [`ResnetBlockConfig::init`] and the stage's [`StageAttention`] do.
    #[must_use]
    pub fn init_down(&self, layers: usize, device: &Device) -> DownStage {
        let resnets = (0..layers)
            .map(|i| self.resnet(if i == 0 { self.in_channels } else { self.out_channels }).init(device))
            .collect();
        let downsampler = match self.resampler {
            Resampler::None => None,
            Resampler::Conv => Some(Downsampler::Conv(
                DownsampleConfig::new(self.out_channels).with_padding(self.downsample_padding).init(device),
            )),
            Resampler::Resnet => Some(Downsampler::Resnet(
                self.resnet(self.out_channels).with_resampling(Resampling::Down).init(device),
            )),
        };
        DownStage {
            attentions: self.attentions(layers, device),
            resnets,
            downsamplers: downsampler.into_iter().collect(),
        }
    }

    /// A stage of the way up with a layer for each of `skips`, which are the channels of the skip connections in the order
    /// that the layers meet them.
    ///
    /// # Panics
    ///
    /// As [`ResnetBlockConfig::init`] and the stage's [`StageAttention`] do.
    #[must_use]
    pub fn init_up(&self, skips: &[usize], device: &Device) -> UpStage {
        let resnets = skips
            .iter()
            .enumerate()
            .map(|(i, skip)| {
                self.resnet(skip + if i == 0 { self.in_channels } else { self.out_channels }).init(device)
            })
            .collect();
        let upsampler = match self.resampler {
            Resampler::None => None,
            Resampler::Conv => Some(Upsampler::Conv(UpsampleConfig::new(self.out_channels).init(device))),
            Resampler::Resnet => Some(Upsampler::Resnet(
                self.resnet(self.out_channels).with_resampling(Resampling::Up).init(device),
            )),
        };
        UpStage {
            attentions: self.attentions(skips.len(), device),
            resnets,
            upsamplers: upsampler.into_iter().collect(),
        }
    }
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
enum Downsampler {
    Conv(Downsample),
    Resnet(ResnetBlock),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
enum Upsampler {
    Conv(Upsample),
    Resnet(ResnetBlock),
}

/// One resolution on the way down.
#[derive(Module, Debug)]
pub struct DownStage {
    attentions: Vec<StageAttentionLayer>,
    resnets: Vec<ResnetBlock>,
    downsamplers: Vec<Downsampler>,
}

impl DownStage {
    /// `x` is `[batch, in_channels, height, width]`, `time` `[batch, time_channels]`. The result of every layer and of the
    /// downsampler is pushed onto `skips`; the last of them is returned.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        self.forward_with(x, time, None, skips)
    }

    /// As [`forward`](Self::forward), for a stage that attends to `context`.
    ///
    /// # Panics
    ///
    /// If the stage attends to a context, and there is none.
    #[must_use]
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Option<&Tensor<2>>,
        context: Option<&Context>,
        skips: &mut Vec<Tensor<4>>,
    ) -> Tensor<4> {
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, time.cloned());
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, context);
            }
            skips.push(x.clone());
        }
        for downsampler in &self.downsamplers {
            x = match downsampler {
                Downsampler::Conv(layer) => layer.forward(x),
                Downsampler::Resnet(block) => block.forward(x, time.cloned()),
            };
            skips.push(x.clone());
        }
        x
    }
}

/// One resolution on the way up.
#[derive(Module, Debug)]
pub struct UpStage {
    attentions: Vec<StageAttentionLayer>,
    resnets: Vec<ResnetBlock>,
    upsamplers: Vec<Upsampler>,
}

impl UpStage {
    /// `x` is `[batch, in_channels, height, width]`, `time` `[batch, time_channels]`. Every layer pops one of `skips`. The
    /// upsampler then gives the sides of the skip connection that is met next, or twice its own if none is left: so
    /// pictures whose sides do not halve evenly pass too.
    ///
    /// # Panics
    ///
    /// If `skips` holds fewer tensors than the stage has layers.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        self.forward_with(x, time, None, skips)
    }

    /// As [`forward`](Self::forward), for a stage that attends to `context`.
    ///
    /// # Panics
    ///
    /// As `forward` does, and if the stage attends to a context, and there is none.
    #[must_use]
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Option<&Tensor<2>>,
        context: Option<&Context>,
        skips: &mut Vec<Tensor<4>>,
    ) -> Tensor<4> {
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().expect("a skip connection for every layer on the way up");
            x = resnet.forward(Tensor::cat(vec![x, skip], 1), time.cloned());
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, context);
            }
        }
        for upsampler in &self.upsamplers {
            let [_, _, height, width] = match skips.last() {
                Some(skip) => skip.dims(),
                None => x.dims().map(|side| 2 * side),
            };
            x = match upsampler {
                Upsampler::Conv(layer) => layer.forward(x, [height, width]),
                Upsampler::Resnet(block) => block.forward_to(x, time.cloned(), [height, width]),
            };
        }
        x
    }
}

/// Configuration of a [`MidStage`].
#[derive(Config, Debug)]
pub struct MidStageConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Width of the time embedding; `None` for a network that knows no time.
    pub time_channels: Option<usize>,
    /// Residual blocks after the first.
    #[config(default = 1)]
    pub layers: usize,
    /// What comes before each of them.
    #[config(default = "StageAttention::None")]
    pub attention: StageAttention,
    /// Groups of the norm of [`StageAttention::Spatial`]; `None` for no norm there.
    pub attention_groups: Option<usize>,
    /// Groups of the residual blocks' norms.
    #[config(default = 32)]
    pub groups: usize,
    /// Added to the variance in every norm.
    #[config(default = 1e-6)]
    pub eps: f64,
    /// Activation of the residual blocks.
    #[config(default = "Activation::Silu")]
    pub activation: Activation,
    /// How the time embedding enters.
    #[config(default = "TimeScaleShift::Default")]
    pub time_scale_shift: TimeScaleShift,
    /// Whether the residual blocks apply their activation to the time embedding.
    #[config(default = "TimeActivation::Applied")]
    pub time_activation: TimeActivation,
    /// Dropout in the residual blocks.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Divides the result of each layer.
    #[config(default = 1.0)]
    pub output_scale_factor: f64,
}

/// The lowest resolution: a residual block, then attention and residual block by turns.
#[derive(Module, Debug)]
pub struct MidStage {
    attentions: Vec<StageAttentionLayer>,
    resnets: Vec<ResnetBlock>,
}

impl MidStageConfig {
    /// Self-attention with heads of `head_dim` channels between the residual blocks, or none.
    #[must_use]
    pub fn with_attention_head_dim(self, head_dim: Option<usize>) -> Self {
        self.with_attention(StageAttention::spatial(head_dim))
    }

    /// The stage with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// As [`ResnetBlockConfig::init`] and the stage's [`StageAttention`] do.
    #[must_use]
    pub fn init(&self, device: &Device) -> MidStage {
        let resnet = || {
            ResnetBlockConfig::new(self.channels, self.channels)
                .with_time_channels(self.time_channels)
                .with_groups(self.groups)
                .with_eps(self.eps)
                .with_activation(self.activation)
                .with_time_scale_shift(self.time_scale_shift)
                .with_time_activation(self.time_activation)
                .with_dropout(self.dropout)
                .with_output_scale_factor(self.output_scale_factor)
                .init(device)
        };
        let place = AttentionPlace {
            channels: self.channels,
            groups: self.groups,
            spatial_groups: self.attention_groups,
            eps: self.eps,
            rescale_output_factor: self.output_scale_factor,
        };
        let attention = |layer| self.attention.init(&place, layer, device);
        MidStage {
            attentions: (0..self.layers).filter_map(attention).collect(),
            resnets: (0..=self.layers).map(|_| resnet()).collect(),
        }
    }
}

impl MidStage {
    /// `x` is `[batch, channels, height, width]`, `time` `[batch, time_channels]`; the shape stays.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        self.forward_with(x, time, None)
    }

    /// As [`forward`](Self::forward), for a stage that attends to `context`.
    ///
    /// # Panics
    ///
    /// If the stage attends to a context, and there is none.
    #[must_use]
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Option<&Tensor<2>>,
        context: Option<&Context>,
    ) -> Tensor<4> {
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            if i > 0
                && let Some(attention) = self.attentions.get(i - 1)
            {
                x = attention.forward(x, context);
            }
            x = resnet.forward(x, time.cloned());
        }
        x
    }
}
