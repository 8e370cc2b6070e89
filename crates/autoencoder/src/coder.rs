//! The two halves of an autoencoder.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::Activation;
use kiln_blocks::{MidStage, MidStageConfig, Normalization, NormalizationConfig, conv3x3, convolve};

use crate::AutoencoderKLConfig;
use crate::config::{DownBlockType, UpBlockType};
use crate::stage::{EPS, Resampler, Stage, StageConfig};

/// `x --conv_in--> down_blocks --> mid_block --norm, SiLU, conv_out--> moments`
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<Stage>,
    mid_block: MidStage,
    conv_norm_out: Normalization,
    conv_out: Conv2d,
}

/// `z --conv_in--> mid_block --> up_blocks --norm, SiLU, conv_out--> x`
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    conv_in: Conv2d,
    up_blocks: Vec<Stage>,
    mid_block: MidStage,
    conv_norm_out: Normalization,
    conv_out: Conv2d,
}

impl AutoencoderKLConfig {
    fn mid(&self, channels: usize, device: &Device) -> MidStage {
        MidStageConfig::new(channels)
            .with_attention_head_dim(self.mid_block_add_attention.then_some(channels))
            .with_attention_groups(Some(self.norm_num_groups))
            .with_groups(self.norm_num_groups)
            .with_eps(EPS)
            .with_activation(self.act_fn.into())
            .init(device)
    }

    fn norm(&self, channels: usize, device: &Device) -> Normalization {
        NormalizationConfig::new(channels, self.norm_num_groups).with_eps(EPS).init(device)
    }

    fn stage(&self, [in_channels, out_channels]: [usize; 2]) -> StageConfig {
        StageConfig {
            in_channels,
            out_channels,
            layers: self.layers_per_block,
            groups: self.norm_num_groups,
            activation: self.act_fn.into(),
            attention: false,
            resampler: Resampler::None,
        }
    }

    pub(crate) fn init_encoder(&self, device: &Device) -> Encoder {
        let widths = &self.block_out_channels;
        let last = widths.len() - 1;
        let stage = |i: usize| {
            StageConfig {
                attention: self.down_block_types[i] == DownBlockType::AttnDownEncoderBlock2D,
                resampler: if i == last { Resampler::None } else { Resampler::Halving },
                ..self.stage([widths[i.saturating_sub(1)], widths[i]])
            }
            .init(device)
        };
        Encoder {
            conv_in: conv3x3([self.in_channels, widths[0]], device),
            down_blocks: (0..=last).map(stage).collect(),
            mid_block: self.mid(widths[last], device),
            conv_norm_out: self.norm(widths[last], device),
            conv_out: conv3x3([widths[last], 2 * self.latent_channels], device),
        }
    }

    pub(crate) fn init_decoder(&self, device: &Device) -> Decoder {
        let widths: Vec<usize> = self.block_out_channels.iter().rev().copied().collect();
        let last = widths.len() - 1;
        let stage = |i: usize| {
            StageConfig {
                layers: self.layers_per_block + 1,
                attention: self.up_block_types[i] == UpBlockType::AttnUpDecoderBlock2D,
                resampler: if i == last { Resampler::None } else { Resampler::Doubling },
                ..self.stage([widths[i.saturating_sub(1)], widths[i]])
            }
            .init(device)
        };
        Decoder {
            conv_in: conv3x3([self.latent_channels, widths[0]], device),
            up_blocks: (0..=last).map(stage).collect(),
            mid_block: self.mid(widths[0], device),
            conv_norm_out: self.norm(widths[last], device),
            conv_out: conv3x3([widths[last], self.out_channels], device),
        }
    }
}

impl Encoder {
    /// `[batch, in_channels, height, width]` to `[batch, 2 * latent_channels, ...]`.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = convolve(&self.conv_in, x);
        let x = self.down_blocks.iter().fold(x, |x, stage| stage.forward(x));
        let x = self.mid_block.forward(x, None);
        convolve(&self.conv_out, self.conv_norm_out.forward(x, Activation::Silu))
    }
}

impl Decoder {
    /// `[batch, latent_channels, height, width]` to `[batch, out_channels, ...]`.
    pub(crate) fn forward(&self, z: Tensor<4>) -> Tensor<4> {
        let x = self.mid_block.forward(convolve(&self.conv_in, z), None);
        let x = self.up_blocks.iter().fold(x, |x, stage| stage.forward(x));
        convolve(&self.conv_out, self.conv_norm_out.forward(x, Activation::Silu))
    }
}
