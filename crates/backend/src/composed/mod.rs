//! The definitions of the fused operations, composed of Burn's own: what every kernel is held to, and what GPU
//! backends run, fused by Burn.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod conv;
pub mod conv_transpose;
pub mod group_norm;
pub mod linear_attention;
pub mod resample;
pub mod rms_norm;
pub mod shuffle;
pub mod unpooling;
