//! Self-attention over the pixels of a picture (diffusers: `Attention` in `AttnDownBlock2D` and its kin).
//!
//! ```text
//! y = (x + W_o concat_h softmax(q_h k_h^T / sqrt(d)) v_h) / rescale      q, k, v = W norm(x)
//! ```
//!
//! Vaswani et al. 2017, "Attention Is All You Need"; in a U-Net since Ho et al. 2020.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, AttentionOptions, scaled_dot_product_attention};
use kiln_backend::watch;

use crate::normalization::{Normalization, NormalizationConfig};

/// Configuration of a [`SpatialAttention`].
#[derive(Config, Debug)]
pub struct SpatialAttentionConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Channels of a head; as many whole heads as fit are used.
    pub head_dim: usize,
    /// Groups of the norm before it; `None` for no norm.
    pub groups: Option<usize>,
    /// Added to the variance in the norm.
    #[config(default = 1e-5)]
    pub eps: f64,
    /// Divides the sum of shortcut and attention.
    #[config(default = 1.0)]
    pub rescale_output_factor: f64,
}

/// Self-attention over pixels, with a shortcut; see the [module](self).
#[derive(Module, Debug)]
pub struct SpatialAttention {
    group_norm: Option<Normalization>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    // A list of one, since diffusers keeps a dropout beside it: its name is `to_out.0`.
    to_out: Vec<Linear>,
    heads: usize,
    rescale_output_factor: f64,
}

impl SpatialAttentionConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If `head_dim` is 0 or above `channels`, or `groups` does not divide `channels`.
    #[must_use]
    pub fn init(&self, device: &Device) -> SpatialAttention {
        assert!(
            (1..=self.channels).contains(&self.head_dim),
            "a head of {} channels does not fit into {} channels",
            self.head_dim,
            self.channels
        );
        let heads = self.channels / self.head_dim;
        let inner = heads * self.head_dim;
        let input = || LinearConfig::new(self.channels, inner).init(device);
        SpatialAttention {
            group_norm: self.groups.map(|groups| {
                NormalizationConfig::new(self.channels, groups).with_eps(self.eps).init(device)
            }),
            to_q: input(),
            to_k: input(),
            to_v: input(),
            to_out: vec![LinearConfig::new(inner, self.channels).init(device)],
            heads,
            rescale_output_factor: self.rescale_output_factor,
        }
    }
}

impl SpatialAttention {
    /// `[batch, channels, height, width]` to the same shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let h = x.clone().reshape([batch, channels, pixels]);
        let h = match &self.group_norm {
            Some(norm) => norm.forward(h, Activation::Identity),
            None => h,
        };
        let h: Tensor<3> = h.swap_dims(1, 2);
        let split = |projected: Tensor<3>| -> Tensor<4> {
            let width = projected.dims()[2] / self.heads;
            projected.reshape([batch, pixels, self.heads, width]).swap_dims(1, 2)
        };
        let q = split(self.to_q.forward(h.clone()));
        let k = split(self.to_k.forward(h.clone()));
        let v = split(self.to_v.forward(h));
        let h: Tensor<4> = scaled_dot_product_attention(q, k, v, AttentionOptions::default());
        let [_, heads, _, head_dim] = h.dims();
        let h: Tensor<3> = h.swap_dims(1, 2).reshape([batch, pixels, heads * head_dim]);
        let h = self.to_out.iter().fold(h, |h, layer| layer.forward(h));
        let y = x + h.swap_dims(1, 2).reshape([batch, channels, height, width]);
        watch::block(&self.to_q.weight, &y);
        if self.rescale_output_factor == 1.0 { y } else { y / self.rescale_output_factor }
    }
}

/// The name of today for a parameter of an attention that files from before 2023 name otherwise: `query`, `key`, `value` and
/// `proj_attn` are `to_q`, `to_k`, `to_v` and `to_out.0` now. `None` for any other name.
#[must_use]
pub fn rename_deprecated(name: &str) -> Option<String> {
    const NAMES: [(&str, &str); 4] =
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    let (layer, parameter) = name.rsplit_once('.')?;
    let (attention, last) = layer.rsplit_once('.')?;
    let (list, _) = attention.rsplit_once('.')?;
    if list.rsplit('.').next() != Some("attentions") {
        return None;
    }
    let (_, today) = NAMES.iter().find(|(old, _)| *old == last)?;
    Some(format!("{attention}.{today}.{parameter}"))
}
