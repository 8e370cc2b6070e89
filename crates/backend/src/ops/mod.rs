//! The fused operations over ordinary tensors: what every other crate calls.
//!
//! | function | computes |
//! |---|---|
//! | [`activation`] | SiLU, GELU (exact and tanh), quick GELU in one pass |
//! | [`group_norm_act`] | group normalisation, then an activation |
//! | [`scaled_dot_product_attention`] | softmax(Q Kᵗ scale + mask) V, with no score matrix kept |
//! | [`linear_attention`] | φ(Q) (φ(K)ᵗ V) / (φ(Q) φ(K)ᵗ 1), with no features kept |
//! | [`conv2d`] | two-dimensional convolution |
//! | [`interpolate`], [`resample`] | nearest, bilinear, bicubic; any separable linear resampling |
//! | [`adamw_step`], [`amsgrad_step`] | one step of Adam, AdamW or AMSGrad over one tensor |
//!
//! All but the last have a backward pass on every backend. A wrong shape is a mistake in the calling program
//! and panics with the shapes in the message.

mod activation;
mod adamw;
mod attention;
mod conv;
mod group_norm;
mod interpolation;
mod linear_attention;

pub use activation::*;
pub use adamw::*;
pub use attention::*;
pub use conv::*;
pub use group_norm::*;
pub use interpolation::*;
pub use linear_attention::*;
