//! Attention, and what tells it where things are.
//!
//! Softmax attention, exact:
//! - [`multi_head`]: in several heads, from projected queries, keys and values;
//! - [`grouped_query`]: fewer heads of keys than of queries, capped scores, dropout of probabilities;
//! - [`MultiHeadAttention`]: with its projections, self- or cross-attention, and with a [`KeyValueCache`] for decoding;
//! - [`JointAttention`]: two sequences, each with projections of its own, that attend to both as one (MM-DiT);
//! - [`Mask`]: which keys a query may see, whatever the polarity of who says so.
//!
//! Other attention:
//! - [`linear`]: in linear time, by features of queries and keys;
//! - [`sparse`] and [`low_rank`]: softmax over a pattern of keys, or over a few that stand for all;
//! - [`GatedAttention`] and [`Flash`]: attention and a gated linear unit in one layer;
//! - [`LanguageModel`]: any of these in a small model, of as many parameters whichever it is.
//!
//! [`positions`]: sines and cosines, learned, rotary, in buckets, linear biases.
//!
//! Parameters carry the names that diffusers gives them (`to_q`, `to_out.0`, ...).

pub mod cache;
pub mod flash;
pub mod gau;
pub mod glu;
pub mod grouped;
pub mod joint;
pub mod language_model;
pub mod linear;
pub mod low_rank;
pub mod mask;
pub mod positions;
pub mod recommend;
pub mod softmax;
pub mod sparse;

pub use cache::{KeyValueCache, KeyValueRecord};
pub use flash::{Flash, FlashConfig, FlashState, FlashStateRecord};
pub use gau::{GatedAttention, GatedAttentionConfig, ScoreFunction};
pub use glu::{Gate, Glu, GluConfig};
pub use grouped::{Scores, grouped_query};
pub use joint::{ContextOutput, JointAttention, JointAttentionConfig};
pub use kiln_backend::ops::{AttentionOptions, Causality};
pub use language_model::{
    AttentionKind, Choice, LanguageModel, LanguageModelConfig, LanguageModelRecord, LanguageModelState,
};
pub use linear::{LinearAttention, LinearAttentionConfig};
pub use mask::Mask;
pub use recommend::{Recommendation, recommend};
pub use softmax::{
    MultiHeadAttention, MultiHeadAttentionConfig, ProjectionBias, QkNorm, ScorePrecision, multi_head,
};
