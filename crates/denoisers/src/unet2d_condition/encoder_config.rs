//! What the configs of `UNet2DConditionModel` and `ControlNetModel` have in common: the way down.

use kiln_blocks::{ContextNorm, TimeScaleShift};
use serde::{Deserialize, Deserializer, Serialize};

use crate::unet2d::{ActivationName, SampleSize};

/// One value for all stages (or layers), or one for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "neither a value of the right type nor a list of them")]
pub enum OneOrEach<T> {
    /// The same everywhere.
    One(T),
    /// One for each, outermost first.
    Each(Vec<T>),
}

impl<T: Copy> OneOrEach<T> {
    /// The value of entry `i`, where there is one.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<T> {
        match self {
            Self::One(value) => Some(*value),
            Self::Each(values) => values.get(i).copied(),
        }
    }

    /// How many entries are named, if they are named one by one.
    #[must_use]
    pub fn entries(&self) -> Option<usize> {
        match self {
            Self::One(_) => None,
            Self::Each(values) => Some(values.len()),
        }
    }
}

/// How many transformer blocks follow a residual block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "neither a number, nor a list with a number or a list of numbers for each stage"
)]
pub enum TransformerLayers {
    /// As many everywhere.
    One(usize),
    /// For each stage: one number for its layers, or one for each.
    Each(Vec<OneOrEach<usize>>),
}

/// A stage on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockType {
    /// Residual blocks.
    #[serde(alias = "UNetResDownBlock2D")]
    DownBlock2D,
    /// Residual blocks, each followed by self-attention.
    #[serde(alias = "UNetResAttnDownBlock2D")]
    AttnDownBlock2D,
    /// Residual blocks, each followed by a transformer.
    #[serde(alias = "UNetResCrossAttnDownBlock2D")]
    CrossAttnDownBlock2D,
    /// Residual blocks, each followed by attention to pixels and context at once; a residual block halves the sides.
    #[serde(alias = "UNetResSimpleCrossAttnDownBlock2D")]
    SimpleCrossAttnDownBlock2D,
    /// Residual blocks, the last of which halves the sides.
    #[serde(alias = "UNetResResnetDownsampleBlock2D")]
    ResnetDownsampleBlock2D,
}

/// The stage at the lowest resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MidBlockType {
    /// One residual block.
    UNetMidBlock2D,
    /// Residual block, transformer, residual block.
    UNetMidBlock2DCrossAttn,
    /// Residual block, attention to pixels and context at once, residual block.
    UNetMidBlock2DSimpleCrossAttn,
}

/// How a time becomes numbers, ahead of the two layers of the time embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeEmbeddingType {
    /// Sinusoidal.
    #[default]
    Positional,
}

/// How a class enters, where it is not looked up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassEmbedType {
    /// A number, embedded as a time is.
    Timestep,
    /// A vector, taken as it is.
    Identity,
    /// A vector, through the two layers of a time embedding.
    Projection,
    /// A vector, through one linear layer.
    SimpleProjection,
}

/// What else is added to the time embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdditionEmbedType {
    /// The states of the prompt, pooled by attention (DeepFloyd IF).
    Text,
    /// The pooled prompt with sizes and crops (SDXL).
    TextTime,
    /// An image embedding (Kandinsky 2.2).
    Image,
    /// The pooled prompt and an image embedding (Kandinsky 2.1).
    TextImage,
}

/// How the context is made from what the network is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderHidDimType {
    /// The prompt's states, projected (DeepFloyd IF).
    TextProj,
    /// 32 tokens from an image embedding, normed (Kandinsky 2.2).
    ImageProj,
    /// 10 tokens from an image embedding, then the prompt's states, projected (Kandinsky 2.1).
    TextImageProj,
}

/// A yes or no, where `null` is a no, as in Python: SDXL's own config says `"upcast_attention": null`.
///
/// # Errors
///
/// What the deserializer says of anything else.
pub fn null_is_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(false))
}

/// The way down of a network with cross-attention, field by field as in diffusers, whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncoderConfig {
    /// Sides of the samples that the network was trained on.
    pub sample_size: Option<SampleSize>,
    /// Channels of the sample.
    pub in_channels: usize,
    /// Side of the first convolution's window.
    pub conv_in_kernel: usize,
    /// How a time becomes numbers.
    pub time_embedding_type: TimeEmbeddingType,
    /// Width of the time embedding; four times the first stage's channels if not given.
    pub time_embedding_dim: Option<usize>,
    /// Activation of the time embedding, once, on its way to the residual blocks.
    pub time_embedding_act_fn: Option<ActivationName>,
    /// Activation after the second layer of the time embedding.
    pub timestep_post_act: Option<ActivationName>,
    /// Width of a condition that is added to the sinusoidal embedding: the guidance scale of a distilled network.
    pub time_cond_proj_dim: Option<usize>,
    /// Shift in the exponent of the sinusoidal frequencies.
    pub freq_shift: f64,
    /// Whether cosines come first in the sinusoidal embedding.
    #[serde(deserialize_with = "null_is_false")]
    pub flip_sin_to_cos: bool,
    /// Stages on the way down, outermost first.
    pub down_block_types: Vec<DownBlockType>,
    /// Stage at the lowest resolution, if any.
    pub mid_block_type: Option<MidBlockType>,
    /// Channels of each stage, outermost first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a stage on the way down; one more on the way up.
    pub layers_per_block: OneOrEach<usize>,
    /// Divides the results of the middle stage's layers.
    pub mid_block_scale_factor: f64,
    /// Padding of the convolutions that halve; 0 pads below and to the right only.
    pub downsample_padding: usize,
    /// Dropout in the residual blocks, in training.
    pub dropout: f64,
    /// Activation of the residual blocks and of the time embedding.
    pub act_fn: ActivationName,
    /// Groups of the norms.
    pub norm_num_groups: usize,
    /// Added to the variance in the residual blocks' norms.
    pub norm_eps: f64,
    /// How the time embedding enters the residual blocks.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Whether the residual blocks of stages that halve by one leave the time embedding as it is.
    #[serde(deserialize_with = "null_is_false")]
    pub resnet_skip_time_act: bool,
    /// Divides the results of those residual blocks.
    pub resnet_out_scale_factor: f64,
    /// Number of heads of the transformers, in spite of its name; channels of a head in the other stages.
    pub attention_head_dim: OneOrEach<usize>,
    /// Number of heads of the transformers, where it is not given by `attention_head_dim`.
    pub num_attention_heads: Option<OneOrEach<usize>>,
    /// Channels of the context, in each stage.
    pub cross_attention_dim: OneOrEach<usize>,
    /// Norm of the context in `SimpleCrossAttn` stages.
    pub cross_attention_norm: Option<ContextNorm>,
    /// Whether all attention is to the context, in each stage.
    pub only_cross_attention: OneOrEach<bool>,
    /// The same for the middle stage, where it is `SimpleCrossAttn`.
    pub mid_block_only_cross_attention: Option<bool>,
    /// Transformer blocks after each residual block.
    pub transformer_layers_per_block: TransformerLayers,
    /// Whether the transformers' first and last layers are linear ones; convolutions otherwise.
    #[serde(deserialize_with = "null_is_false")]
    pub use_linear_projection: bool,
    /// Whether the transformers' scores of attention are computed in f32 whatever the network's type.
    #[serde(deserialize_with = "null_is_false")]
    pub upcast_attention: bool,
    /// How a class enters, if not by a table.
    pub class_embed_type: Option<ClassEmbedType>,
    /// Rows of the table of classes, where there is one.
    pub num_class_embeds: Option<usize>,
    /// Whether the class is put beside the time embedding, not added to it.
    #[serde(deserialize_with = "null_is_false")]
    pub class_embeddings_concat: bool,
    /// Width of the vector that a projected class or SDXL's addition comes as.
    pub projection_class_embeddings_input_dim: Option<usize>,
    /// What else is added to the time embedding.
    pub addition_embed_type: Option<AdditionEmbedType>,
    /// Channels of the sinusoidal embedding of each of SDXL's sizes and crops.
    pub addition_time_embed_dim: Option<usize>,
    /// Heads of the pooling of [`AdditionEmbedType::Text`].
    pub addition_embed_type_num_heads: usize,
    /// Channels of the prompt's states before they are projected.
    pub encoder_hid_dim: Option<usize>,
    /// How the context is made; the prompt's states are projected if only `encoder_hid_dim` is given.
    pub encoder_hid_dim_type: Option<EncoderHidDimType>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        use DownBlockType::{CrossAttnDownBlock2D, DownBlock2D};
        Self {
            sample_size: None,
            in_channels: 4,
            conv_in_kernel: 3,
            time_embedding_type: TimeEmbeddingType::Positional,
            time_embedding_dim: None,
            time_embedding_act_fn: None,
            timestep_post_act: None,
            time_cond_proj_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: vec![
                CrossAttnDownBlock2D,
                CrossAttnDownBlock2D,
                CrossAttnDownBlock2D,
                DownBlock2D,
            ],
            mid_block_type: Some(MidBlockType::UNetMidBlock2DCrossAttn),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrEach::One(2),
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            dropout: 0.0,
            act_fn: ActivationName::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            resnet_time_scale_shift: TimeScaleShift::Default,
            resnet_skip_time_act: false,
            resnet_out_scale_factor: 1.0,
            attention_head_dim: OneOrEach::One(8),
            num_attention_heads: None,
            cross_attention_dim: OneOrEach::One(1280),
            cross_attention_norm: None,
            only_cross_attention: OneOrEach::One(false),
            mid_block_only_cross_attention: None,
            transformer_layers_per_block: TransformerLayers::One(1),
            use_linear_projection: false,
            upcast_attention: false,
            class_embed_type: None,
            num_class_embeds: None,
            class_embeddings_concat: false,
            projection_class_embeddings_input_dim: None,
            addition_embed_type: None,
            addition_time_embed_dim: None,
            addition_embed_type_num_heads: 64,
            encoder_hid_dim: None,
            encoder_hid_dim_type: None,
        }
    }
}
