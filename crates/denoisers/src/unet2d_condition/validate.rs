//! Whether the fields of a config make a network.

use kiln_blocks::ContextNorm;

use super::encoder_config::{
    AdditionEmbedType, ClassEmbedType, EncoderConfig, EncoderHidDimType, OneOrEach, TransformerLayers,
};
use super::stages::{StageKind, depths, entry};
use crate::ConfigError;

/// More than any network has: what is above it is a broken file, and is refused before anything is made of it.
const MOST_CHANNELS: usize = 1 << 20;
const MOST_LAYERS: usize = 1 << 10;

pub(super) fn fail(field: &'static str, reason: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError::Inconsistent { field, reason: reason.into() })
}

/// Each of the values is in `1..=most`.
fn counts(
    most: usize,
    values: impl IntoIterator<Item = (&'static str, Option<usize>)>,
) -> Result<(), ConfigError> {
    for (field, value) in values {
        if let Some(value) = value
            && !(1..=most).contains(&value)
        {
            return fail(field, format!("is {value}; expected 1 to {most}"));
        }
    }
    Ok(())
}

/// All values of a list, or the one that stands for it.
fn values<T: Copy>(field: &'static str, list: &OneOrEach<T>) -> Vec<(&'static str, Option<T>)> {
    match list {
        OneOrEach::One(value) => vec![(field, Some(*value))],
        OneOrEach::Each(values) => values.iter().map(|&value| (field, Some(value))).collect(),
    }
}

/// Fields that the ways down and up are checked by.
pub(super) fn channels_in_range(
    values: impl IntoIterator<Item = (&'static str, Option<usize>)>,
) -> Result<(), ConfigError> {
    counts(MOST_CHANNELS, values)
}

/// A stage's depths, one for each of its layers.
pub(super) fn depths_fit(
    field: &'static str,
    stage: usize,
    given: &OneOrEach<usize>,
    layers: usize,
) -> Result<(), ConfigError> {
    // A stage may have no transformer blocks, its first and last layers alone.
    if values(field, given).iter().any(|(_, depth)| depth.is_some_and(|depth| depth > MOST_LAYERS)) {
        return fail(field, format!("entry {stage} is above {MOST_LAYERS}"));
    }
    let found = depths(given, layers).len();
    if found < layers {
        return fail(field, format!("entry {stage} has {found} numbers for {layers} layers"));
    }
    Ok(())
}

impl EncoderConfig {
    /// Check that the fields together make a way down.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_lengths()?;
        self.validate_numbers()?;
        self.validate_time_and_class()?;
        self.validate_additions()?;
        for (i, &kind) in self.down_block_types.iter().enumerate() {
            let head_dim = entry(&self.attention_head_dim, i);
            self.validate_attention(kind.into(), i, head_dim, self.block_out_channels[i])?;
            self.validate_depths(i, kind.into(), self.layers(i))?;
        }
        let last = self.stages() - 1;
        if let Some(mid) = self.mid_block_type {
            let head_dim = entry(&self.attention_head_dim, last);
            self.validate_attention(mid.into(), last, head_dim, self.block_out_channels[last])?;
            self.validate_depths(last, mid.into(), 1)?;
        }
        self.validate_groups(self.block_out_channels.iter().copied())
    }

    fn validate_lengths(&self) -> Result<(), ConfigError> {
        let stages = self.stages();
        if stages == 0 {
            return fail("block_out_channels", "is empty");
        }
        let transformer_layers = match &self.transformer_layers_per_block {
            TransformerLayers::One(_) => None,
            TransformerLayers::Each(each) => Some(each.len()),
        };
        for (field, entries) in [
            ("down_block_types", Some(self.down_block_types.len())),
            ("layers_per_block", self.layers_per_block.entries()),
            ("attention_head_dim", self.attention_head_dim.entries()),
            ("num_attention_heads", self.num_attention_heads.as_ref().and_then(OneOrEach::entries)),
            ("cross_attention_dim", self.cross_attention_dim.entries()),
            ("only_cross_attention", self.only_cross_attention.entries()),
            ("transformer_layers_per_block", transformer_layers),
        ] {
            if let Some(entries) = entries
                && entries != stages
            {
                return fail(field, format!("has {entries} entries, `block_out_channels` has {stages}"));
            }
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), ConfigError> {
        counts(
            MOST_CHANNELS,
            [
                ("in_channels", Some(self.in_channels)),
                ("conv_in_kernel", Some(self.conv_in_kernel)),
                ("norm_num_groups", Some(self.norm_num_groups)),
                ("time_embedding_dim", self.time_embedding_dim),
                ("time_cond_proj_dim", self.time_cond_proj_dim),
                ("num_class_embeds", self.num_class_embeds),
                ("projection_class_embeddings_input_dim", self.projection_class_embeddings_input_dim),
                ("addition_time_embed_dim", self.addition_time_embed_dim),
                ("addition_embed_type_num_heads", Some(self.addition_embed_type_num_heads)),
                ("encoder_hid_dim", self.encoder_hid_dim),
            ],
        )?;
        counts(MOST_CHANNELS, self.block_out_channels.iter().map(|&c| ("block_out_channels", Some(c))))?;
        counts(MOST_CHANNELS, values("attention_head_dim", &self.attention_head_dim))?;
        counts(MOST_CHANNELS, values("cross_attention_dim", &self.cross_attention_dim))?;
        if let Some(heads) = &self.num_attention_heads {
            counts(MOST_CHANNELS, values("num_attention_heads", heads))?;
        }
        counts(MOST_LAYERS, values("layers_per_block", &self.layers_per_block))?;
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("dropout", format!("is {}; expected 0 or more, and less than 1", self.dropout));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps.is_finite()) {
            return fail("norm_eps", format!("is {}; expected a number above 0", self.norm_eps));
        }
        for (field, scale) in [
            ("mid_block_scale_factor", self.mid_block_scale_factor),
            ("resnet_out_scale_factor", self.resnet_out_scale_factor),
        ] {
            if scale == 0.0 || !scale.is_finite() {
                return fail(field, format!("is {scale}"));
            }
        }
        if self.downsample_padding > 1 {
            return fail("downsample_padding", format!("is {}; expected 0 or 1", self.downsample_padding));
        }
        Ok(())
    }

    fn validate_time_and_class(&self) -> Result<(), ConfigError> {
        self.validate_sinusoids("freq_shift", self.block_out_channels[0])?;
        let vector = matches!(
            self.class_embed_type,
            Some(ClassEmbedType::Projection | ClassEmbedType::SimpleProjection)
        );
        if vector && self.projection_class_embeddings_input_dim.is_none() {
            return fail("projection_class_embeddings_input_dim", "must be given for a projected class");
        }
        let classless = self.class_embed_type.is_none() && self.num_class_embeds.is_none();
        if self.class_embeddings_concat && classless {
            return fail("class_embeddings_concat", "is true, and there is no class embedding");
        }
        if self.class_embeddings_concat && self.addition_embed_type.is_some() {
            return fail("class_embeddings_concat", "is true, and `addition_embed_type` adds to its sum");
        }
        Ok(())
    }

    fn validate_sinusoids(&self, field: &'static str, channels: usize) -> Result<(), ConfigError> {
        if channels < 2 || (channels / 2) as f64 <= self.freq_shift || !self.freq_shift.is_finite() {
            return fail(field, format!("`freq_shift` is {} for {channels} channels", self.freq_shift));
        }
        Ok(())
    }

    fn validate_additions(&self) -> Result<(), ConfigError> {
        let hid = self.context_projection();
        if hid.is_some() && self.encoder_hid_dim.is_none() {
            return fail("encoder_hid_dim", "must be given with `encoder_hid_dim_type`");
        }
        let one_context = self.cross_attention_dim.entries().is_none();
        if hid.is_some() && !one_context {
            return fail("cross_attention_dim", "must be one number where the context is projected");
        }
        match self.addition_embed_type {
            None => Ok(()),
            Some(AdditionEmbedType::TextTime) => {
                let Some(channels) = self.addition_time_embed_dim else {
                    return fail("addition_time_embed_dim", "must be given for `text_time`");
                };
                if self.projection_class_embeddings_input_dim.is_none() {
                    return fail("projection_class_embeddings_input_dim", "must be given for `text_time`");
                }
                self.validate_sinusoids("addition_time_embed_dim", channels)
            }
            Some(AdditionEmbedType::Image) if self.encoder_hid_dim.is_none() => {
                fail("encoder_hid_dim", "must be given for `addition_embed_type` = `image`")
            }
            Some(AdditionEmbedType::Image) => Ok(()),
            Some(AdditionEmbedType::TextImage | AdditionEmbedType::Text) if !one_context => {
                fail("cross_attention_dim", "must be one number for `addition_embed_type`")
            }
            Some(AdditionEmbedType::TextImage) => Ok(()),
            Some(AdditionEmbedType::Text) => {
                let (channels, heads) = (self.pooled_channels(), self.addition_embed_type_num_heads);
                if channels.is_multiple_of(heads) {
                    return Ok(());
                }
                fail(
                    "addition_embed_type_num_heads",
                    format!("{heads} heads do not divide {channels} channels"),
                )
            }
        }
    }

    /// How the context is made, if not given as it is.
    pub(super) fn context_projection(&self) -> Option<EncoderHidDimType> {
        self.encoder_hid_dim_type.or(self.encoder_hid_dim.map(|_| EncoderHidDimType::TextProj))
    }

    /// Channels of the states that [`AdditionEmbedType::Text`] pools.
    pub(super) fn pooled_channels(&self) -> usize {
        self.encoder_hid_dim.unwrap_or_else(|| self.context_dim(0))
    }

    /// A stage of `channels` channels, which is number `stage` from the outermost, can have its attention.
    pub(super) fn validate_attention(
        &self,
        kind: StageKind,
        stage: usize,
        head_dim: usize,
        channels: usize,
    ) -> Result<(), ConfigError> {
        match kind {
            StageKind::Plain | StageKind::Resnet => Ok(()),
            StageKind::Transformer if self.heads(stage) > channels => {
                let field = if self.num_attention_heads.is_some() {
                    "num_attention_heads"
                } else {
                    "attention_head_dim"
                };
                fail(field, format!("{} heads for the {channels} channels of a stage", self.heads(stage)))
            }
            StageKind::Transformer => Ok(()),
            StageKind::Spatial if head_dim > channels => {
                fail("attention_head_dim", format!("exceeds the {channels} channels of a stage"))
            }
            StageKind::Spatial => Ok(()),
            StageKind::AddedContext => {
                if !channels.is_multiple_of(head_dim) {
                    return fail("attention_head_dim", format!("does not divide {channels} channels"));
                }
                let normed = self.cross_attention_norm.is_some_and(|norm| norm != ContextNorm::None);
                if normed && !self.context_dim(stage).is_multiple_of(ContextNorm::GROUPS) {
                    return fail(
                        "cross_attention_norm",
                        format!("{} groups do not divide the context's channels", ContextNorm::GROUPS),
                    );
                }
                Ok(())
            }
        }
    }

    fn validate_depths(&self, stage: usize, kind: StageKind, layers: usize) -> Result<(), ConfigError> {
        if kind != StageKind::Transformer {
            return Ok(());
        }
        let field = "transformer_layers_per_block";
        match &self.transformer_layers_per_block {
            TransformerLayers::One(depth) => depths_fit(field, stage, &OneOrEach::One(*depth), layers),
            TransformerLayers::Each(stages) => depths_fit(field, stage, &stages[stage], layers),
        }
    }

    /// Every width that a norm meets has whole groups.
    pub(super) fn validate_groups(&self, widths: impl IntoIterator<Item = usize>) -> Result<(), ConfigError> {
        match widths.into_iter().find(|width| !width.is_multiple_of(self.norm_num_groups)) {
            Some(width) => fail(
                "norm_num_groups",
                format!("{} groups do not divide {width} channels", self.norm_num_groups),
            ),
            None => Ok(()),
        }
    }
}
