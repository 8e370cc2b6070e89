//! Attention and convolution, each weighed by a map of the other (the paper's adaptive interaction module).
//!
//! ```text
//! channel map  C(z) = conv(gelu(norm(conv(mean over pixels of z))))      [batch, channels, 1, 1]
//! spatial map  S(z) = conv(gelu(norm(conv(z))))                          [batch, 1, height, width]
//! ```

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::super::sequential::{self, Layer};

/// Layers of a channel map.
pub(super) fn channel_map(features: usize, device: &Device) -> Vec<Layer> {
    let inner = features / 8;
    vec![
        Layer::mean(),
        Layer::conv([features, inner], 1, device),
        Layer::norm(inner, device),
        Layer::gelu(),
        Layer::conv([inner, features], 1, device),
    ]
}

/// Layers of a spatial map.
pub(super) fn spatial_map(features: usize, device: &Device) -> Vec<Layer> {
    let inner = features / 16;
    vec![
        Layer::conv([features, inner], 1, device),
        Layer::norm(inner, device),
        Layer::gelu(),
        Layer::conv([inner, 1], 1, device),
    ]
}

/// Layers beside attention: a depthwise convolution of its values.
pub(super) fn beside(features: usize, device: &Device) -> Vec<Layer> {
    vec![Layer::depthwise(features, 3, device), Layer::norm(features, device), Layer::gelu()]
}

/// From 0 to 1, what `layers` make of `z`.
pub(super) fn weights(layers: &[Layer], z: Tensor<4>) -> Tensor<4> {
    sigmoid(sequential::forward(layers, z))
}
