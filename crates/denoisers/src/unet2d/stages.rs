//! The stages of a [`UNet2D`](super::UNet2D), from its config.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_blocks::resnet::TimeScaleShift;
use kiln_blocks::skip_stage::SkipResampler;
use kiln_blocks::stage::Resampler;
use kiln_blocks::{
    DownStage, MidStage, MidStageConfig, SkipDownStage, SkipStageConfig, SkipUpStage, StageConfig, UpStage,
};

use super::config::{DownBlockType, ResampleType, UNet2DConfig, UpBlockType};

/// A stage of the way down.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
pub(super) enum Down {
    Plain(DownStage),
    Skip(SkipDownStage),
}

/// A stage of the way up.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
pub(super) enum Up {
    Plain(UpStage),
    Skip(SkipUpStage),
}

impl Down {
    /// The features and the picture after the stage.
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        picture: Tensor<4>,
        time: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
    ) -> (Tensor<4>, Tensor<4>) {
        match self {
            Self::Plain(stage) => (stage.forward(x, Some(time), skips), picture),
            Self::Skip(stage) => stage.forward(x, picture, time, skips),
        }
    }
}

impl Up {
    /// The features and the picture after the stage, if there is one by then.
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        picture: Option<Tensor<4>>,
        time: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        match self {
            Self::Plain(stage) => (stage.forward(x, Some(time), skips), picture),
            Self::Skip(stage) => stage.forward(x, picture, time, skips),
        }
    }
}

impl UNet2DConfig {
    /// What all plain stages share.
    fn plain(&self, in_channels: usize, out_channels: usize) -> StageConfig {
        StageConfig::new(in_channels, out_channels)
            .with_time_channels(Some(self.time_channels()))
            .with_downsample_padding(self.downsample_padding)
            .with_groups(self.groups_or_fours(out_channels))
            .with_eps(self.norm_eps)
            .with_activation(self.act_fn.into())
            .with_time_scale_shift(self.resnet_time_scale_shift)
            .with_dropout(self.dropout)
    }

    /// What all stages of NCSN++ share.
    fn skip(&self, in_channels: usize, out_channels: usize) -> SkipStageConfig {
        SkipStageConfig::new(in_channels, out_channels, self.time_channels())
            .with_eps(self.norm_eps)
            .with_activation(self.act_fn.into())
            .with_time_scale_shift(self.resnet_time_scale_shift)
            .with_dropout(self.dropout)
    }

    /// Channels of a head of a stage of `channels`.
    fn head_dim(&self, channels: usize) -> usize {
        self.attention_head_dim.unwrap_or(channels)
    }

    pub(super) fn init_down(&self, device: &Device) -> Vec<Down> {
        let mut channels = self.block_out_channels[0];
        let last = self.block_out_channels.len() - 1;
        let mut stages = Vec::new();
        for (i, (&kind, &out)) in self.down_block_types.iter().zip(&self.block_out_channels).enumerate() {
            let attention = kind.attends().then(|| self.head_dim(out));
            stages.push(if kind.skips() {
                let stage = self.skip(channels, out).with_attention_head_dim(attention);
                let resampler = if i == last { SkipResampler::None } else { SkipResampler::Fir };
                Down::Skip(stage.with_resampler(resampler).init_down(self.layers_per_block, device))
            } else {
                let stage = self.plain(channels, out).with_attention_head_dim(attention);
                let resampler = match kind {
                    _ if i == last => Resampler::None,
                    DownBlockType::ResnetDownsampleBlock2D => Resampler::Resnet,
                    DownBlockType::AttnDownBlock2D => resampler(self.downsample_type),
                    _ => Resampler::Conv,
                };
                Down::Plain(stage.with_resampler(resampler).init_down(self.layers_per_block, device))
            });
            channels = out;
        }
        stages
    }

    pub(super) fn init_mid(&self, channels: usize, device: &Device) -> MidStage {
        let groups = self.groups_or_fours(channels);
        let attention_groups = match self.resnet_time_scale_shift {
            TimeScaleShift::Default => Some(groups),
            TimeScaleShift::ScaleShift => None,
        };
        MidStageConfig::new(channels)
            .with_time_channels(Some(self.time_channels()))
            .with_attention_head_dim(self.add_attention.then(|| self.head_dim(channels)))
            .with_attention_groups(self.attn_norm_num_groups.or(attention_groups))
            .with_groups(groups)
            .with_eps(self.norm_eps)
            .with_activation(self.act_fn.into())
            .with_time_scale_shift(self.resnet_time_scale_shift)
            .with_dropout(self.dropout)
            .with_output_scale_factor(self.mid_block_scale_factor)
            .init(device)
    }

    pub(super) fn init_up(&self, innermost: usize, device: &Device) -> Vec<Up> {
        let mut skips = self.skip_channels();
        let mut channels = innermost;
        let last = self.block_out_channels.len() - 1;
        let mut stages = Vec::new();
        for (i, (&kind, &out)) in
            self.up_block_types.iter().zip(self.block_out_channels.iter().rev()).enumerate()
        {
            let attention = kind.attends().then(|| self.head_dim(out));
            let taken: Vec<usize> = (0..=self.layers_per_block).filter_map(|_| skips.pop()).collect();
            stages.push(if kind.skips() {
                let stage = self.skip(channels, out).with_attention_head_dim(attention);
                let resampler = if i == last { SkipResampler::None } else { SkipResampler::Fir };
                Up::Skip(stage.with_resampler(resampler).init_up(&taken, device))
            } else {
                let stage = self.plain(channels, out).with_attention_head_dim(attention);
                let resampler = match kind {
                    _ if i == last => Resampler::None,
                    UpBlockType::ResnetUpsampleBlock2D => Resampler::Resnet,
                    UpBlockType::AttnUpBlock2D => resampler(self.upsample_type),
                    _ => Resampler::Conv,
                };
                Up::Plain(stage.with_resampler(resampler).init_up(&taken, device))
            });
            channels = out;
        }
        stages
    }
}

fn resampler(kind: Option<ResampleType>) -> Resampler {
    match kind.unwrap_or_default() {
        ResampleType::Conv => Resampler::Conv,
        ResampleType::Resnet => Resampler::Resnet,
    }
}
