//! The parts that U-Nets are made of, with the parameter names of diffusers' own modules.
//!
//! | file | diffusers' module | what it computes |
//! |---|---|---|
//! | [`normalization`] | `GroupNorm` | group norm, with its activation in the same pass |
//! | [`resnet`] | `ResnetBlock2D` | two convolutions around a time embedding, plus a shortcut |
//! | [`attention`] | `Attention` in attention blocks | self-attention over the pixels |
//! | [`sampling`] | `Downsample2D`, `Upsample2D` | halve or double the picture's sides |
//! | [`embedding`] | `Timesteps`, `GaussianFourierProjection`, `TimestepEmbedding` | time and class as a vector |
//! | [`feed_forward`] | `FeedForward` | two linear layers around GELU or a gate |
//! | [`transformer`] | `Transformer2DModel`, `BasicTransformerBlock` | pixels attend to themselves and to a prompt |
//! | [`added_context`] | `Attention` in `SimpleCrossAttn` blocks | pixels attend to themselves and a prompt at once |
//! | [`stage`] | `DownBlock2D`, `CrossAttnUpBlock2D`, `UNetMidBlock2D`, ... | one resolution of a U-Net |
//! | [`skip_stage`] | `SkipDownBlock2D`, `AttnSkipUpBlock2D`, ... | one resolution of NCSN++, a picture beside it |
//! | [`config`] | - | fields that several configs have |
//!
//! None of them is called `Linear` or `GroupNorm`: readers of checkpoints tell a layer's layout by its struct's name.

pub mod added_context;
pub mod attention;
pub mod config;
mod convolution;
pub mod embedding;
pub mod feed_forward;
pub mod normalization;
pub mod resnet;
pub mod sampling;
pub mod skip_stage;
pub mod stage;
mod stage_attention;
pub mod transformer;

pub use convolution::convolve;
pub use resnet::conv3x3;

pub use added_context::{AddedContextAttention, AddedContextAttentionConfig, ContextNorm};
pub use attention::{SpatialAttention, SpatialAttentionConfig};
pub use embedding::{
    FourierProjection, FourierProjectionConfig, Sinusoidal, SinusoidalConfig, TimestepEmbedding,
    TimestepEmbeddingConfig,
};
pub use feed_forward::{FeedForward, FeedForwardActivation, FeedForwardConfig};
pub use normalization::{Normalization, NormalizationConfig};
pub use resnet::{Resampling, ResnetBlock, ResnetBlockConfig, Shortcut, TimeActivation, TimeScaleShift};
pub use sampling::{Downsample, DownsampleConfig, Upsample, UpsampleConfig};
pub use skip_stage::{SkipDownStage, SkipStageConfig, SkipUpStage};
pub use stage::{DownStage, MidStage, MidStageConfig, StageConfig, UpStage};
pub use stage_attention::StageAttention;
pub use transformer::{
    Context, FirstAttention, PixelProjection, SpatialTransformer, SpatialTransformerConfig,
};
