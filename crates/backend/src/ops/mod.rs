//! The fused operations over ordinary tensors: what every other crate calls.
//!
//! | function | computes |
//! |---|---|
//! | [`activation`] | SiLU, GELU (exact and tanh), quick GELU in one pass |
//! | [`group_norm_act`] | group normalisation, then an activation |
//! | [`rms_norm`] | normalisation by the root mean square |
//! | [`scaled_dot_product_attention`] | softmax(Q Kᵗ scale + mask) V, with no score matrix kept |
//! | [`linear_attention`] | φ(Q) (φ(K)ᵗ V) / (φ(Q) φ(K)ᵗ 1), with no features kept |
//! | [`conv2d`], [`conv_transpose2d`] | two-dimensional convolution, and its adjoint |
//! | [`interpolate`], [`resample`] | nearest, bilinear, bicubic; any separable linear resampling |
//! | [`pixel_shuffle`], [`pixel_unshuffle`] | channels become pixels, and back |
//! | [`max_unpool`] | values back at the places that max pooling found |
//! | [`adamw_step`], [`amsgrad_step`] | one step of Adam, AdamW or AMSGrad over one tensor |
//!
//! All but the last have a backward pass on every backend. A wrong shape is a mistake in the calling program
//! and panics with the shapes in the message.

mod activation;
mod adamw;
mod attention;
mod conv;
mod conv_transpose;
mod group_norm;
mod interpolation;
mod linear_attention;
mod rms_norm;
mod shuffle;
mod unpooling;

pub use activation::*;
pub use adamw::*;
pub use attention::*;
pub use conv::*;
pub use conv_transpose::*;
pub use group_norm::*;
pub use interpolation::*;
pub use linear_attention::*;
pub use rms_norm::*;
pub use shuffle::*;
pub use unpooling::*;

#[cfg(feature = "flex")]
pub(crate) use conv_transpose::output_side;
