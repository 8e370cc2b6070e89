//! Attention, and what tells it where things are.
//!
//! - [`multi_head`]: softmax attention in several heads, from projected queries, keys and values.
//! - [`MultiHeadAttention`]: the same as a layer with its projections, self- or cross-attention.
//! - [`JointAttention`]: two sequences, each with projections of its own, that attend to both as one (MM-DiT).
//! - [`Mask`]: which keys a query may see, whatever the polarity of who says so.
//! - [`positions`]: sines and cosines of places in a picture; T5's buckets of relative positions.
//!
//! Parameters carry the names that diffusers gives them (`to_q`, `to_out.0`, ...).

pub mod joint;
pub mod mask;
pub mod positions;
pub mod softmax;

pub use joint::{ContextOutput, JointAttention, JointAttentionConfig};
pub use kiln_backend::ops::{AttentionOptions, Causality};
pub use mask::Mask;
pub use softmax::{
    MultiHeadAttention, MultiHeadAttentionConfig, ProjectionBias, QkNorm, ScorePrecision, multi_head,
};
