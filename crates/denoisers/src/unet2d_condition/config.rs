//! The `config.json` of a `UNet2DConditionModel`.

use kiln_checkpoint::config;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::encoder_config::{EncoderConfig, OneOrEach, TransformerLayers, null_is_false};
use super::stages::{StageKind, depths, entry};
use super::validate::{channels_in_range, depths_fit, fail};
use crate::ConfigError;

/// A stage on the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockType {
    /// Residual blocks.
    #[serde(alias = "UNetResUpBlock2D")]
    UpBlock2D,
    /// Residual blocks, each followed by self-attention.
    #[serde(alias = "UNetResAttnUpBlock2D")]
    AttnUpBlock2D,
    /// Residual blocks, each followed by a transformer.
    #[serde(alias = "UNetResCrossAttnUpBlock2D")]
    CrossAttnUpBlock2D,
    /// Residual blocks, each followed by attention to pixels and context at once; a residual block doubles the sides.
    #[serde(alias = "UNetResSimpleCrossAttnUpBlock2D")]
    SimpleCrossAttnUpBlock2D,
    /// Residual blocks, the last of which doubles the sides.
    #[serde(alias = "UNetResResnetUpsampleBlock2D")]
    ResnetUpsampleBlock2D,
}

impl From<UpBlockType> for StageKind {
    fn from(kind: UpBlockType) -> Self {
        match kind {
            UpBlockType::UpBlock2D => Self::Plain,
            UpBlockType::AttnUpBlock2D => Self::Spatial,
            UpBlockType::CrossAttnUpBlock2D => Self::Transformer,
            UpBlockType::SimpleCrossAttnUpBlock2D => Self::AddedContext,
            UpBlockType::ResnetUpsampleBlock2D => Self::Resnet,
        }
    }
}

/// Configuration of a [`UNet2DCondition`](super::UNet2DCondition), field by field that of diffusers' `UNet2DConditionModel`,
/// whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet2DConditionConfig {
    /// The way down and the middle; in the JSON its fields stand among the others.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Whether samples come in 0..1 and are brought to -1..1 first.
    #[serde(deserialize_with = "null_is_false")]
    pub center_input_sample: bool,
    /// Stages on the way up, innermost first.
    pub up_block_types: Vec<UpBlockType>,
    /// Transformer blocks after each residual block of the way up, innermost stage first; the way down's, turned round, if
    /// not given.
    pub reverse_transformer_layers_per_block: Option<Vec<OneOrEach<usize>>>,
    /// Side of the last convolution's window.
    pub conv_out_kernel: usize,
}

impl Default for UNet2DConditionConfig {
    fn default() -> Self {
        use UpBlockType::{CrossAttnUpBlock2D, UpBlock2D};
        Self {
            encoder: EncoderConfig::default(),
            out_channels: 4,
            center_input_sample: false,
            up_block_types: vec![UpBlock2D, CrossAttnUpBlock2D, CrossAttnUpBlock2D, CrossAttnUpBlock2D],
            reverse_transformer_layers_per_block: None,
            conv_out_kernel: 3,
        }
    }
}

/// `_class_name` of these configs.
pub(super) const CLASS: &str = "UNet2DConditionModel";

impl UNet2DConditionConfig {
    /// Read a `config.json`. Fields that are absent take diffusers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = config::read(text, &[CLASS])?;
        config::refuse_others(
            text,
            &[("dual_cross_attention", false.into()), ("attention_type", "default".into())],
        )?;
        config.validate()?;
        Ok(config)
    }

    /// The config as diffusers writes it, so that Python reads it back.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            // A struct of numbers, texts and lists has no other form.
            _ => Map::new(),
        };
        object.insert("_class_name".to_owned(), CLASS.into());
        format!("{:#}", Value::Object(object))
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.encoder.validate()?;
        channels_in_range([
            ("out_channels", Some(self.out_channels)),
            ("conv_out_kernel", Some(self.conv_out_kernel)),
        ])?;
        let stages = self.encoder.stages();
        let reverse = self.reverse_transformer_layers_per_block.as_ref().map(Vec::len);
        for (field, entries) in [
            ("up_block_types", Some(self.up_block_types.len())),
            ("reverse_transformer_layers_per_block", reverse),
        ] {
            if let Some(entries) = entries
                && entries != stages
            {
                return fail(field, format!("has {entries} entries, `block_out_channels` has {stages}"));
            }
        }
        let mut skips = self.encoder.skip_channels();
        let mut incoming = self.encoder.block_out_channels[stages - 1];
        let mut normed = Vec::new();
        for (i, &kind) in self.up_block_types.iter().enumerate() {
            let stage = stages - 1 - i;
            let (out, layers) = (self.encoder.block_out_channels[stage], self.encoder.layers(stage) + 1);
            self.encoder.validate_attention(kind.into(), stage, self.up_head_dim(i), out)?;
            if StageKind::from(kind) == StageKind::Transformer {
                self.validate_up_depths(i, layers)?;
            }
            for _ in 0..layers {
                normed.push(incoming + skips.pop().unwrap_or(0));
                incoming = out;
            }
        }
        self.encoder.validate_groups(normed)
    }

    fn validate_up_depths(&self, i: usize, layers: usize) -> Result<(), ConfigError> {
        let field = "reverse_transformer_layers_per_block";
        if let Some(reverse) = &self.reverse_transformer_layers_per_block {
            return depths_fit(field, i, &reverse[i], layers);
        }
        match &self.encoder.transformer_layers_per_block {
            // The way up has one layer more than a list for the way down says.
            TransformerLayers::Each(stages) if stages.iter().any(|stage| stage.entries().is_some()) => {
                fail(field, "must be given where `transformer_layers_per_block` has lists within")
            }
            TransformerLayers::One(_) | TransformerLayers::Each(_) => Ok(()),
        }
    }

    /// Transformer blocks after each of the `layers` residual blocks of stage `i` of the way up, innermost first.
    pub(super) fn up_depths(&self, i: usize, layers: usize) -> Vec<usize> {
        match &self.reverse_transformer_layers_per_block {
            Some(reverse) => depths(&reverse[i], layers),
            None => self.encoder.depths(self.encoder.stages() - 1 - i, layers),
        }
    }

    /// Channels of a head in stage `i` of the way up, innermost first. diffusers does not turn this list round as it does
    /// the others, and networks have been trained so.
    pub(super) fn up_head_dim(&self, i: usize) -> usize {
        entry(&self.encoder.attention_head_dim, i)
    }
}
