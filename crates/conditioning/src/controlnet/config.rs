//! The `config.json` of a `ControlNetModel`.

use kiln_checkpoint::{ConfigError, config};
use kiln_denoisers::UNet2DConditionConfig;
use kiln_denoisers::unet2d_condition::{AdditionEmbedType, ClassEmbedType, EncoderConfig, null_is_false};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The order of a picture's channels that a network was trained on; pictures come as red, green, blue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Configuration of a [`ControlNet`](super::ControlNet), field by field that of diffusers' `ControlNetModel`, whose defaults
/// it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlNetConfig {
    /// The way down and the middle, as the U-Net has it; in the JSON its fields stand among the others.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// Channels of the picture that controls.
    pub conditioning_channels: usize,
    /// Channels of the convolutions that the picture passes, each but the first of which halves its sides.
    pub conditioning_embedding_out_channels: Vec<usize>,
    /// The order of the picture's channels.
    pub controlnet_conditioning_channel_order: ChannelOrder,
    /// Whether residuals are averaged over the pixels, so that they say what there is and not where (Shuffle).
    #[serde(deserialize_with = "null_is_false")]
    pub global_pool_conditions: bool,
}

impl Default for ControlNetConfig {
    fn default() -> Self {
        Self {
            encoder: EncoderConfig::default(),
            conditioning_channels: 3,
            conditioning_embedding_out_channels: vec![16, 32, 96, 256],
            controlnet_conditioning_channel_order: ChannelOrder::Rgb,
            global_pool_conditions: false,
        }
    }
}

/// `_class_name` of these configs.
pub(super) const CLASS: &str = "ControlNetModel";

/// More channels or convolutions than any network has: a broken file.
const MOST_CHANNELS: usize = 1 << 20;
const MOST_CONVOLUTIONS: usize = 32;

fn fail(field: &'static str, reason: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError::Inconsistent { field, reason: reason.into() })
}

impl ControlNetConfig {
    /// Read a `config.json`. Fields that are absent take diffusers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = config::read(text, &[CLASS])?;
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

    /// The config of a network that controls the U-Net of `base`, with the usual way in for pictures.
    #[must_use]
    pub fn beside(base: &UNet2DConditionConfig) -> Self {
        Self { encoder: base.encoder.clone(), ..Self::default() }
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.encoder.validate()?;
        let embedding = &self.conditioning_embedding_out_channels;
        if embedding.is_empty() || embedding.len() > MOST_CONVOLUTIONS {
            let reason = format!("has {} entries; expected 1 to {MOST_CONVOLUTIONS}", embedding.len());
            return fail("conditioning_embedding_out_channels", reason);
        }
        let channels = std::iter::once(("conditioning_channels", self.conditioning_channels));
        let channels =
            channels.chain(embedding.iter().map(|&out| ("conditioning_embedding_out_channels", out)));
        for (field, count) in channels {
            if !(1..=MOST_CHANNELS).contains(&count) {
                return fail(field, format!("is {count}; expected 1 to {MOST_CHANNELS}"));
            }
        }
        self.validate_encoder()
    }

    /// What a U-Net can do, and diffusers' `ControlNetModel` can't or passes over.
    fn validate_encoder(&self) -> Result<(), ConfigError> {
        let encoder = &self.encoder;
        if encoder.mid_block_type.is_none() {
            return fail("mid_block_type", "is null; a control network needs a middle");
        }
        if encoder.class_embed_type == Some(ClassEmbedType::SimpleProjection) {
            return fail("class_embed_type", "`simple_projection` is not known to control networks");
        }
        if encoder.encoder_hid_dim.is_some() || encoder.encoder_hid_dim_type.is_some() {
            return fail("encoder_hid_dim", "control networks take the context as it is");
        }
        match encoder.addition_embed_type {
            None | Some(AdditionEmbedType::Text | AdditionEmbedType::TextTime) => Ok(()),
            Some(AdditionEmbedType::Image | AdditionEmbedType::TextImage) => {
                fail("addition_embed_type", "control networks know `text` and `text_time`")
            }
        }
    }
}
