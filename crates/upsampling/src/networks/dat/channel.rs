//! Attention to channels (El-Nouby et al. 2021, "XCiT", arXiv 2106.09681): scores are between the channels of a head, each
//! a vector over all pixels, brought to length 1.
//!
//! ```text
//! A = softmax(q̂ k̂ᵗ · temperature)      [dim, dim] for each head       y = A v
//! ```

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{AttentionOptions, scaled_dot_product_attention};

use super::super::sequential::{self, Layer};
use super::{interaction, to_planes, to_rows};

#[derive(Module, Debug)]
pub(super) struct ChannelAttention {
    temperature: Param<Tensor<3>>,
    qkv: Linear,
    proj: Linear,
    dwconv: Vec<Layer>,
    channel_interaction: Vec<Layer>,
    spatial_interaction: Vec<Layer>,
}

impl ChannelAttention {
    pub(super) fn new(features: usize, heads: usize, device: &Device) -> Self {
        Self {
            temperature: Param::from_tensor(Tensor::ones([heads, 1, 1], device)),
            qkv: LinearConfig::new(features, 3 * features).init(device),
            proj: LinearConfig::new(features, features).init(device),
            dwconv: interaction::beside(features, device),
            channel_interaction: interaction::channel_map(features, device),
            spatial_interaction: interaction::spatial_map(features, device),
        }
    }

    /// `[batch, height width, features]` to the same.
    pub(super) fn forward(&self, x: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
        let [batch, pixels, features] = x.dims();
        let [heads, _, _] = self.temperature.dims();
        let qkv = to_planes(self.qkv.forward(x), size);
        let part = |index| qkv.clone().narrow(1, index * features, features);
        let by_head = |x: Tensor<4>| x.reshape([batch, heads, features / heads, pixels]);
        let value = part(2);
        let query = unit(by_head(part(0))) * self.temperature.val().unsqueeze::<4>();
        let options = AttentionOptions { scale: Some(1.0), ..AttentionOptions::default() };
        let attended =
            scaled_dot_product_attention(query, unit(by_head(part(1))), by_head(value.clone()), options);
        let attended = attended.reshape([batch, features, size[0], size[1]]);

        let convolved = sequential::forward(&self.dwconv, value);
        let of_channels = interaction::weights(&self.channel_interaction, attended.clone());
        let of_pixels = interaction::weights(&self.spatial_interaction, convolved.clone());
        self.proj.forward(to_rows(attended * of_pixels + convolved * of_channels))
    }
}

/// Vectors along the last axis brought to length 1, where they are longer than 1e-12.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let length = x.clone().powi_scalar(2).sum_dim(3).sqrt().clamp_min(1e-12);
    x / length
}
