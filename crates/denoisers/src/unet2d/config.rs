//! The `config.json` of a `UNet2DModel`.

use kiln_blocks::TimeScaleShift;
pub use kiln_blocks::config::{ActivationName, SampleSize};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ConfigError;

/// How a time becomes numbers, ahead of the two layers of the time embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeEmbeddingType {
    /// Sinusoidal, for timesteps.
    #[default]
    Positional,
    /// Random Fourier features of the logarithm, for noise levels; the output is divided by the level.
    Fourier,
    /// A table with a row for each of `num_train_timesteps`.
    Learned,
}

/// A stage on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockType {
    /// Residual blocks.
    #[serde(alias = "UNetResDownBlock2D")]
    DownBlock2D,
    /// Residual blocks, each followed by attention.
    #[serde(alias = "UNetResAttnDownBlock2D")]
    AttnDownBlock2D,
    /// Residual blocks, the last of which halves the sides.
    #[serde(alias = "UNetResResnetDownsampleBlock2D")]
    ResnetDownsampleBlock2D,
    /// Residual blocks of NCSN++, a smaller and smaller picture as further input.
    #[serde(alias = "UNetResSkipDownBlock2D")]
    SkipDownBlock2D,
    /// The same, each residual block followed by attention.
    #[serde(alias = "UNetResAttnSkipDownBlock2D")]
    AttnSkipDownBlock2D,
}

/// The stage at the lowest resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MidBlockType {
    /// Residual block, attention, residual block.
    UNetMidBlock2D,
}

/// A stage on the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockType {
    /// Residual blocks.
    #[serde(alias = "UNetResUpBlock2D")]
    UpBlock2D,
    /// Residual blocks, each followed by attention.
    #[serde(alias = "UNetResAttnUpBlock2D")]
    AttnUpBlock2D,
    /// Residual blocks, the last of which doubles the sides.
    #[serde(alias = "UNetResResnetUpsampleBlock2D")]
    ResnetUpsampleBlock2D,
    /// Residual blocks of NCSN++, which add to a larger and larger picture.
    #[serde(alias = "UNetResSkipUpBlock2D")]
    SkipUpBlock2D,
    /// The same, the last residual block followed by attention.
    #[serde(alias = "UNetResAttnSkipUpBlock2D")]
    AttnSkipUpBlock2D,
}

impl DownBlockType {
    /// Whether it is a stage of NCSN++, beside which a picture goes along.
    pub(super) const fn skips(self) -> bool {
        matches!(self, Self::SkipDownBlock2D | Self::AttnSkipDownBlock2D)
    }

    pub(super) const fn attends(self) -> bool {
        matches!(self, Self::AttnDownBlock2D | Self::AttnSkipDownBlock2D)
    }
}

impl UpBlockType {
    /// Whether it is a stage of NCSN++, beside which a picture goes along.
    pub(super) const fn skips(self) -> bool {
        matches!(self, Self::SkipUpBlock2D | Self::AttnSkipUpBlock2D)
    }

    pub(super) const fn attends(self) -> bool {
        matches!(self, Self::AttnUpBlock2D | Self::AttnSkipUpBlock2D)
    }
}

/// What changes the resolution after a stage with attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResampleType {
    /// A convolution.
    #[default]
    Conv,
    /// A residual block.
    Resnet,
}

/// How a class enters, where it is not looked up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassEmbedType {
    /// A number, embedded as a time is.
    Timestep,
    /// A vector, added as it is.
    Identity,
}

/// Configuration of a [`UNet2D`](super::UNet2D), field by field that of diffusers' `UNet2DModel`, whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet2DConfig {
    /// Sides of the pictures that the network was trained on.
    pub sample_size: Option<SampleSize>,
    /// Channels of the sample.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Whether samples come in 0..1 and are brought to -1..1 first.
    pub center_input_sample: bool,
    /// How a time becomes numbers.
    pub time_embedding_type: TimeEmbeddingType,
    /// Width of the time embedding; four times the first stage's channels if not given.
    pub time_embedding_dim: Option<usize>,
    /// Shift in the exponent of the sinusoidal frequencies.
    pub freq_shift: f64,
    /// Whether cosines come first in the sinusoidal embedding.
    pub flip_sin_to_cos: bool,
    /// Stages on the way down, outermost first.
    pub down_block_types: Vec<DownBlockType>,
    /// Stage at the lowest resolution, if any.
    pub mid_block_type: Option<MidBlockType>,
    /// Stages on the way up, innermost first.
    pub up_block_types: Vec<UpBlockType>,
    /// Channels of each stage, outermost first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a stage on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// Divides the results of the middle stage's layers.
    pub mid_block_scale_factor: f64,
    /// Padding of the convolutions that halve; 0 pads below and to the right only.
    pub downsample_padding: usize,
    /// What halves the sides after a stage with attention; a convolution if `null`.
    pub downsample_type: Option<ResampleType>,
    /// What doubles the sides after a stage with attention; a convolution if `null`.
    pub upsample_type: Option<ResampleType>,
    /// Dropout in the residual blocks, in training.
    pub dropout: f64,
    /// Activation of the residual blocks.
    pub act_fn: ActivationName,
    /// Channels of an attention head; `null` for a single head.
    pub attention_head_dim: Option<usize>,
    /// Groups of the norms. `null` in a network of NCSN++'s stages alone, whose norms have groups of four channels, at most 32.
    pub norm_num_groups: Option<usize>,
    /// Groups of the norm in the middle stage's attention.
    pub attn_norm_num_groups: Option<usize>,
    /// Added to the variance in the norms.
    pub norm_eps: f64,
    /// How the time embedding enters the residual blocks.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Whether the middle stage has attention.
    pub add_attention: bool,
    /// How a class enters, if not by a table.
    pub class_embed_type: Option<ClassEmbedType>,
    /// Rows of the table of classes, where there is one.
    pub num_class_embeds: Option<usize>,
    /// Rows of the table of times, where there is one.
    pub num_train_timesteps: Option<usize>,
}

impl Default for UNet2DConfig {
    fn default() -> Self {
        use DownBlockType::{AttnDownBlock2D, DownBlock2D};
        use UpBlockType::{AttnUpBlock2D, UpBlock2D};
        Self {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: TimeEmbeddingType::Positional,
            time_embedding_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: vec![DownBlock2D, AttnDownBlock2D, AttnDownBlock2D, AttnDownBlock2D],
            mid_block_type: Some(MidBlockType::UNetMidBlock2D),
            up_block_types: vec![AttnUpBlock2D, AttnUpBlock2D, AttnUpBlock2D, UpBlock2D],
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: Some(ResampleType::Conv),
            upsample_type: Some(ResampleType::Conv),
            dropout: 0.0,
            act_fn: ActivationName::Silu,
            attention_head_dim: Some(8),
            norm_num_groups: Some(32),
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: TimeScaleShift::Default,
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
            num_train_timesteps: None,
        }
    }
}

/// `_class_name` of these configs.
const CLASS: &str = "UNet2DModel";

impl UNet2DConfig {
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

    /// Width of the time embedding.
    #[must_use]
    pub fn time_channels(&self) -> usize {
        self.time_embedding_dim.unwrap_or_else(|| 4 * self.block_out_channels.first().copied().unwrap_or(0))
    }
}
