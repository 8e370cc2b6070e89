//! What a [`GuidedUNet`](super::GuidedUNet) is made of.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::ConfigError;

/// Groups of every norm of these networks: it stands in no config.
pub(super) const GROUPS: usize = 32;

/// Configuration of a [`GuidedUNet`](super::GuidedUNet). OpenAI's files come with no `config.json`; the fields are the
/// arguments of their `UNetModel`, with its defaults, and most can be read off the keys of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuidedUNetConfig {
    /// Channels of the sample.
    pub in_channels: usize,
    /// Channels of the prediction; twice the sample's where a variance is learned too.
    pub out_channels: usize,
    /// Width that `channel_mult` multiplies; the time embedding is four times as wide.
    pub model_channels: usize,
    /// Residual blocks of a level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// Channels of each level, outermost first, as multiples of `model_channels` (512 px ImageNet begins with 0.5).
    pub channel_mult: Vec<f64>,
    /// Levels with attention, by how much smaller than the picture they are: 1, 2, 4, ... The middle always has it.
    pub attention_resolutions: Vec<usize>,
    /// Heads of the attention, where `num_head_channels` is not given.
    pub num_heads: usize,
    /// Heads on the way up, where they differ.
    #[serde(deserialize_with = "none_if_negative")]
    pub num_heads_upsample: Option<usize>,
    /// Channels of a head.
    #[serde(deserialize_with = "none_if_negative")]
    pub num_head_channels: Option<usize>,
    /// Whether the channels of `qkv` are query, key and value, each split into heads (consistency models); otherwise
    /// heads, each split into query, key and value (improved and guided diffusion).
    pub use_new_attention_order: bool,
    /// Whether the time embedding scales and shifts after the second norm of a residual block; otherwise it is added.
    pub use_scale_shift_norm: bool,
    /// Whether residual blocks change the resolution; otherwise convolutions do.
    pub resblock_updown: bool,
    /// Whether, where `resblock_updown` is not set, the resolution changes with a convolution or without.
    pub conv_resample: bool,
    /// Rows of the table of classes, where there is one.
    pub num_classes: Option<usize>,
    /// Width of a label that goes through `Linear, SiLU, Linear`, where there is one; 1 for a number.
    pub label_channels: Option<usize>,
    /// Dropout in the residual blocks, in training.
    pub dropout: f64,
}

impl Default for GuidedUNetConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            model_channels: 128,
            num_res_blocks: 2,
            channel_mult: vec![1.0, 2.0, 4.0, 8.0],
            attention_resolutions: Vec::new(),
            num_heads: 1,
            num_heads_upsample: None,
            num_head_channels: None,
            use_new_attention_order: false,
            use_scale_shift_norm: false,
            resblock_updown: false,
            conv_resample: true,
            num_classes: None,
            label_channels: None,
            dropout: 0.0,
        }
    }
}

/// OpenAI's own arguments say -1 for "not given".
fn none_if_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let number = Option::<i64>::deserialize(deserializer)?;
    Ok(number.and_then(|number| usize::try_from(number).ok()))
}

/// `_class_name` of these configs.
const CLASS: &str = "GuidedUNet";

impl GuidedUNetConfig {
    /// Read a JSON object of these fields.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = kiln_checkpoint::config::read(text, &[CLASS])?;
        config.validate()?;
        Ok(config)
    }

    /// The config as [`from_json`](Self::from_json) reads it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            // A struct of numbers and lists has no other form.
            _ => Map::new(),
        };
        object.insert("_class_name".to_owned(), CLASS.into());
        format!("{:#}", Value::Object(object))
    }

    /// Width of the time embedding.
    #[must_use]
    pub fn time_channels(&self) -> usize {
        4 * self.model_channels
    }

    /// Channels of level `level`, the outermost being 0: the product is rounded down.
    pub(super) fn channels(&self, level: usize) -> usize {
        (self.channel_mult[level] * self.model_channels as f64) as usize
    }

    /// Whether level `level` has attention.
    pub(super) fn attends(&self, level: usize) -> bool {
        self.attention_resolutions.contains(&(1 << level))
    }

    /// Heads of an attention over `channels`, given how many there are if their width is not.
    pub(super) fn heads(&self, channels: usize, otherwise: usize) -> usize {
        self.num_head_channels.map_or(otherwise, |width| channels / width)
    }

    /// Heads on the way up, if their width is not given.
    pub(super) fn heads_upsample(&self) -> usize {
        self.num_heads_upsample.unwrap_or(self.num_heads)
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("model_channels", self.model_channels),
            ("num_res_blocks", self.num_res_blocks),
            ("channel_mult", self.channel_mult.len()),
            ("num_heads", self.num_heads),
            ("num_heads_upsample", self.num_heads_upsample.unwrap_or(1)),
            ("num_head_channels", self.num_head_channels.unwrap_or(1)),
            ("num_classes", self.num_classes.unwrap_or(1)),
            ("label_channels", self.label_channels.unwrap_or(1)),
        ] {
            if value == 0 {
                return fail(field, "is 0, or holds nothing".to_owned());
            }
        }
        if self.model_channels < 2 {
            return fail("model_channels", "is 1; a time embedding needs a sine and a cosine".to_owned());
        }
        if self.channel_mult.len() > MOST_LEVELS {
            return fail(
                "channel_mult",
                format!("has {} levels, above {MOST_LEVELS}", self.channel_mult.len()),
            );
        }
        if self.num_classes.is_some() && self.label_channels.is_some() {
            return fail(
                "label_channels",
                "is given beside `num_classes`; a network has one label".to_owned(),
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("dropout", format!("is {}; expected 0 or more, and less than 1", self.dropout));
        }
        let levels = self.channel_mult.len();
        if let Some(rate) =
            self.attention_resolutions.iter().find(|rate| !(0..levels).any(|level| **rate == 1 << level))
        {
            return fail(
                "attention_resolutions",
                format!("{rate} is no level of {levels}: those are 1, 2, 4, ..."),
            );
        }
        (0..levels).try_for_each(|level| self.validate_level(level))
    }

    fn validate_level(&self, level: usize) -> Result<(), ConfigError> {
        let channels = self.channels(level);
        // Joined with a skip connection's, a width of whole groups stays one.
        if channels == 0 || !channels.is_multiple_of(GROUPS) || channels > MOST_CHANNELS {
            let reason =
                format!("gives {channels} channels at level {level}; expected a multiple of {GROUPS}");
            return fail("channel_mult", reason);
        }
        let middle = level + 1 == self.channel_mult.len();
        if !(middle || self.attends(level)) {
            return Ok(());
        }
        match self.num_head_channels {
            Some(width) if !channels.is_multiple_of(width) => {
                fail("num_head_channels", format!("{width} does not divide {channels} channels"))
            }
            Some(_) => Ok(()),
            None => [("num_heads", self.num_heads), ("num_heads_upsample", self.heads_upsample())]
                .into_iter()
                .find(|(_, heads)| !channels.is_multiple_of(*heads))
                .map_or(Ok(()), |(field, heads)| {
                    fail(field, format!("{heads} heads do not divide {channels} channels"))
                }),
        }
    }
}

/// A picture halved as often would be of 65,536 pixels a side.
const MOST_LEVELS: usize = 16;

/// Far above any network that was trained: a slip of the pen should not end in an allocation.
const MOST_CHANNELS: usize = 1 << 20;

fn fail(field: &'static str, reason: String) -> Result<(), ConfigError> {
    Err(ConfigError::Inconsistent { field, reason })
}
