//! The `config.json` of an `AutoencoderKL`.

use kiln_blocks::config::{ActivationName, SampleSize};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ConfigError, Tiling};

/// A stage of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockType {
    /// Residual blocks.
    DownEncoderBlock2D,
    /// Residual blocks, each followed by attention.
    AttnDownEncoderBlock2D,
}

/// A stage of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockType {
    /// Residual blocks.
    UpDecoderBlock2D,
    /// Residual blocks, each followed by attention.
    AttnUpDecoderBlock2D,
}

/// Configuration of an [`AutoencoderKL`](crate::AutoencoderKL), field by field diffusers', whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoencoderKLConfig {
    /// Channels of the pictures that are encoded.
    pub in_channels: usize,
    /// Channels of the pictures that are decoded.
    pub out_channels: usize,
    /// Stages of the encoder, outermost first.
    pub down_block_types: Vec<DownBlockType>,
    /// Stages of the decoder, innermost first.
    pub up_block_types: Vec<UpBlockType>,
    /// Channels of each stage, outermost first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a stage of the encoder; one more in the decoder.
    pub layers_per_block: usize,
    /// Activation of the residual blocks.
    pub act_fn: ActivationName,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of the norms.
    pub norm_num_groups: usize,
    /// Sides of the pictures that the network was trained on; a tile is as large.
    pub sample_size: SampleSize,
    /// A latent times this has variance 1: what a denoiser sees.
    pub scaling_factor: f64,
    /// Taken from a latent before it is scaled.
    pub shift_factor: Option<f64>,
    /// Mean of each channel of a latent, in place of `shift_factor`.
    pub latents_mean: Option<Vec<f64>>,
    /// Standard deviation of each channel of a latent.
    pub latents_std: Option<Vec<f64>>,
    /// Whether the network's values leave f16's range, so that it should be computed in f32 beside a denoiser in f16. It is
    /// for the device that the network is made on to say which; this is passed on as it is.
    pub force_upcast: bool,
    /// Whether a 1 x 1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1 x 1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the lowest resolution has attention.
    pub mid_block_add_attention: bool,
}

impl Default for AutoencoderKLConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DownBlockType::DownEncoderBlock2D],
            up_block_types: vec![UpBlockType::UpDecoderBlock2D],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: ActivationName::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: SampleSize::Square(32),
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

/// `_class_name` of these configs.
pub(crate) const CLASS: &str = "AutoencoderKL";

impl AutoencoderKLConfig {
    /// Read a `config.json`. Fields that are absent take diffusers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = kiln_checkpoint::config::read(text, &[CLASS])?;
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

    /// How many times smaller a latent's sides are than its picture's.
    #[must_use]
    pub fn reduction(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    /// Tiles as diffusers cuts them: as large as the pictures that the network was trained on, a quarter of it overlapping.
    #[must_use]
    pub fn tiling(&self) -> Tiling {
        let tile = (self.sample_size.sides()[0] / self.reduction()).max(1);
        Tiling::with_quarter(tile)
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let stages = self.block_out_channels.len();
        if !(1..=MOST_STAGES).contains(&stages) {
            return fail("block_out_channels", format!("has {stages} entries; expected 1 to {MOST_STAGES}"));
        }
        for (field, count) in
            [("down_block_types", self.down_block_types.len()), ("up_block_types", self.up_block_types.len())]
        {
            if count != stages {
                return fail(field, format!("has {count} entries, `block_out_channels` has {stages}"));
            }
        }
        for (field, value) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("layers_per_block", self.layers_per_block),
            ("latent_channels", self.latent_channels),
            ("norm_num_groups", self.norm_num_groups),
        ] {
            if value == 0 {
                return fail(field, "is 0".to_owned());
            }
        }
        let groups = self.norm_num_groups;
        if let Some(channels) = self
            .block_out_channels
            .iter()
            .find(|&&channels| channels == 0 || !channels.is_multiple_of(groups))
        {
            return fail("norm_num_groups", format!("{groups} groups do not divide {channels} channels"));
        }
        if self.scaling_factor == 0.0 || !self.scaling_factor.is_finite() {
            return fail("scaling_factor", format!("is {}", self.scaling_factor));
        }
        for (field, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            match values {
                Some(values) if values.len() != self.latent_channels => {
                    let reason =
                        format!("has {} entries for {} channels", values.len(), self.latent_channels);
                    return fail(field, reason);
                }
                _ => {}
            }
        }
        if self.latents_std.iter().flatten().any(|&deviation| deviation <= 0.0) {
            return fail("latents_std", "has a deviation that is not above 0".to_owned());
        }
        Ok(())
    }
}

/// A latent pixel would stand for a square of 32,768 pixels a side.
const MOST_STAGES: usize = 16;

fn fail(field: &'static str, reason: String) -> Result<(), ConfigError> {
    Err(ConfigError::Inconsistent { field, reason })
}
