//! From the lists of a config to stages: what each field means for stage `i`.

use burn::tensor::Device;
use kiln_attention::ScorePrecision;
use kiln_blocks::resnet::TimeActivation;
use kiln_blocks::stage::Resampler;
use kiln_blocks::{
    DownStage, FirstAttention, MidStage, MidStageConfig, PixelProjection, StageAttention, StageConfig,
};

use super::encoder_config::{DownBlockType, EncoderConfig, MidBlockType, OneOrEach, TransformerLayers};

/// What a stage consists of, whichever way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StageKind {
    Plain,
    Spatial,
    Transformer,
    AddedContext,
    Resnet,
}

impl From<DownBlockType> for StageKind {
    fn from(kind: DownBlockType) -> Self {
        match kind {
            DownBlockType::DownBlock2D => Self::Plain,
            DownBlockType::AttnDownBlock2D => Self::Spatial,
            DownBlockType::CrossAttnDownBlock2D => Self::Transformer,
            DownBlockType::SimpleCrossAttnDownBlock2D => Self::AddedContext,
            DownBlockType::ResnetDownsampleBlock2D => Self::Resnet,
        }
    }
}

impl From<MidBlockType> for StageKind {
    fn from(kind: MidBlockType) -> Self {
        match kind {
            MidBlockType::UNetMidBlock2D => Self::Plain,
            MidBlockType::UNetMidBlock2DCrossAttn => Self::Transformer,
            MidBlockType::UNetMidBlock2DSimpleCrossAttn => Self::AddedContext,
        }
    }
}

/// The entry of one stage in a list; lists of the wrong length have been refused before.
pub(super) fn entry<T: Copy + Default>(list: &OneOrEach<T>, stage: usize) -> T {
    list.get(stage).unwrap_or_default()
}

impl EncoderConfig {
    /// Number of stages.
    #[must_use]
    pub fn stages(&self) -> usize {
        self.block_out_channels.len()
    }

    /// Width of the time embedding.
    #[must_use]
    pub fn time_channels(&self) -> usize {
        self.time_embedding_dim.unwrap_or_else(|| 4 * self.block_out_channels.first().copied().unwrap_or(0))
    }

    /// Width of what the residual blocks are told: the time embedding, with the class beside it or not.
    #[must_use]
    pub fn block_time_channels(&self) -> usize {
        if self.class_embeddings_concat { 2 * self.time_channels() } else { self.time_channels() }
    }

    /// Residual blocks of stage `stage` on the way down.
    #[must_use]
    pub fn layers(&self, stage: usize) -> usize {
        entry(&self.layers_per_block, stage)
    }

    /// Channels of the skip connections, in the order that the way down makes them.
    #[must_use]
    pub fn skip_channels(&self) -> Vec<usize> {
        let first = self.block_out_channels.first().copied();
        let stages = self.block_out_channels.iter().enumerate();
        // A stage's downsampler makes one too.
        let made =
            stages.flat_map(|(i, &out)| vec![out; self.layers(i) + usize::from(i + 1 < self.stages())]);
        first.into_iter().chain(made).collect()
    }

    /// Heads of the transformers of stage `stage`.
    pub(super) fn heads(&self, stage: usize) -> usize {
        entry(self.num_attention_heads.as_ref().unwrap_or(&self.attention_head_dim), stage)
    }

    pub(super) fn context_dim(&self, stage: usize) -> usize {
        entry(&self.cross_attention_dim, stage)
    }

    /// Transformer blocks after each of the `layers` residual blocks of stage `stage` on the way down.
    pub(super) fn depths(&self, stage: usize, layers: usize) -> Vec<usize> {
        match &self.transformer_layers_per_block {
            TransformerLayers::One(depth) => vec![*depth; layers],
            TransformerLayers::Each(stages) => match stages.get(stage) {
                Some(stage) => depths(stage, layers),
                None => Vec::new(),
            },
        }
    }

    /// What follows the residual blocks of a stage; `stage` counts from the outermost, `head_dim` is of all but transformers.
    pub(super) fn attention(
        &self,
        kind: StageKind,
        stage: usize,
        head_dim: usize,
        depths: Vec<usize>,
        first: FirstAttention,
    ) -> StageAttention {
        match kind {
            StageKind::Plain | StageKind::Resnet => StageAttention::None,
            StageKind::Spatial => StageAttention::Spatial { head_dim },
            StageKind::Transformer => StageAttention::Transformer {
                heads: self.heads(stage),
                context_dim: self.context_dim(stage),
                depths,
                projection: if self.use_linear_projection {
                    PixelProjection::Linear
                } else {
                    PixelProjection::Conv
                },
                first,
                precision: if self.upcast_attention { ScorePrecision::F32 } else { ScorePrecision::Same },
            },
            StageKind::AddedContext => StageAttention::AddedContext {
                head_dim,
                context_dim: self.context_dim(stage),
                context_norm: self.cross_attention_norm.unwrap_or_default(),
                first,
            },
        }
    }

    pub(super) fn first_attention(&self, stage: usize) -> FirstAttention {
        first_attention(entry(&self.only_cross_attention, stage))
    }

    /// What all stages share, and how one of kind `kind` ends.
    pub(super) fn stage(&self, kind: StageKind, in_channels: usize, out_channels: usize) -> StageConfig {
        let config = StageConfig::new(in_channels, out_channels)
            .with_time_channels(Some(self.block_time_channels()))
            .with_downsample_padding(self.downsample_padding)
            .with_groups(self.norm_num_groups)
            .with_eps(self.norm_eps)
            .with_activation(self.act_fn.into())
            .with_time_scale_shift(self.resnet_time_scale_shift)
            .with_dropout(self.dropout);
        match kind {
            StageKind::Plain | StageKind::Spatial | StageKind::Transformer => config,
            StageKind::AddedContext | StageKind::Resnet => config
                .with_resampler(Resampler::Resnet)
                .with_time_activation(self.time_activation())
                .with_output_scale_factor(self.resnet_out_scale_factor),
        }
    }

    fn time_activation(&self) -> TimeActivation {
        if self.resnet_skip_time_act { TimeActivation::Skipped } else { TimeActivation::Applied }
    }

    /// The stages of the way down, outermost first. The config has been [validated](EncoderConfig::validate).
    #[must_use]
    pub fn init_down(&self, device: &Device) -> Vec<DownStage> {
        let mut channels = self.block_out_channels[0];
        let mut stages = Vec::new();
        for (i, (&kind, &out)) in self.down_block_types.iter().zip(&self.block_out_channels).enumerate() {
            let (kind, layers) = (StageKind::from(kind), self.layers(i));
            let head_dim = entry(&self.attention_head_dim, i);
            let attention =
                self.attention(kind, i, head_dim, self.depths(i, layers), self.first_attention(i));
            let mut stage = self.stage(kind, channels, out).with_attention(attention);
            if i + 1 == self.stages() {
                stage = stage.with_resampler(Resampler::None);
            }
            stages.push(stage.init_down(layers, device));
            channels = out;
        }
        stages
    }

    /// The stage at the lowest resolution, if there is one. The config has been [validated](EncoderConfig::validate).
    #[must_use]
    pub fn init_mid(&self, device: &Device) -> Option<MidStage> {
        let kind = StageKind::from(self.mid_block_type?);
        let last = self.stages() - 1;
        let layers = usize::from(kind != StageKind::Plain);
        let head_dim = entry(&self.attention_head_dim, last);
        let attention = self.attention(kind, last, head_dim, self.depths(last, layers), self.mid_first(kind));
        let mid = MidStageConfig::new(self.block_out_channels[last])
            .with_layers(layers)
            .with_attention(attention)
            .with_time_channels(Some(self.block_time_channels()))
            .with_groups(self.norm_num_groups)
            .with_eps(self.norm_eps)
            .with_activation(self.act_fn.into())
            .with_time_scale_shift(self.resnet_time_scale_shift)
            .with_dropout(self.dropout)
            .with_output_scale_factor(self.mid_block_scale_factor);
        let mid = match kind {
            StageKind::AddedContext => mid.with_time_activation(self.time_activation()),
            _ => mid,
        };
        Some(mid.init(device))
    }

    /// In the middle only [`StageKind::AddedContext`] can do without the pixels.
    fn mid_first(&self, kind: StageKind) -> FirstAttention {
        let everywhere = self.only_cross_attention == OneOrEach::One(true);
        let only = self.mid_block_only_cross_attention.unwrap_or(everywhere);
        first_attention(only && kind == StageKind::AddedContext)
    }
}

fn first_attention(only_cross_attention: bool) -> FirstAttention {
    if only_cross_attention { FirstAttention::Context } else { FirstAttention::Pixels }
}

/// One number for all layers of a stage, or one for each.
pub(super) fn depths(stage: &OneOrEach<usize>, layers: usize) -> Vec<usize> {
    match stage {
        OneOrEach::One(depth) => vec![*depth; layers],
        OneOrEach::Each(depths) => depths.clone(),
    }
}
