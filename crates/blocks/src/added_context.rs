//! One attention for pixels and prompt at once (diffusers: `Attention` with `AttnAddedKVProcessor`, in `SimpleCrossAttn` stages).
//!
//! ```text
//! y = x + W_o concat_h softmax(q_h [k_c; k]_h^T / sqrt(d)) [v_c; v]_h
//! q, k, v = W norm(x),    k_c, v_c = W' context
//! ```
//!
//! Nichol et al. 2022, "GLIDE", section 4; used by unCLIP (Karlo), DeepFloyd IF and Kandinsky 2.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_attention::{AttentionOptions, multi_head};
use kiln_backend::ops::Activation;
use serde::{Deserialize, Serialize};

use crate::normalization::{Normalization, NormalizationConfig};
use crate::transformer::{Context, FirstAttention, pixels, tokens};

/// What is done to the context before it is projected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextNorm {
    /// Nothing.
    #[default]
    None,
    /// Group norm over [`GROUPS`](Self::GROUPS) groups of channels and all tokens.
    GroupNorm,
}

impl ContextNorm {
    /// Groups of the norm, whatever the number of groups elsewhere.
    pub const GROUPS: usize = 32;
}

/// Configuration of an [`AddedContextAttention`].
#[derive(Config, Debug)]
pub struct AddedContextAttentionConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Channels of a head; must divide `channels`.
    pub head_dim: usize,
    /// Channels of the context.
    pub context_dim: usize,
    /// Groups of the norm over pixels.
    #[config(default = 32)]
    pub groups: usize,
    /// Norm of the context.
    #[config(default = "ContextNorm::None")]
    pub context_norm: ContextNorm,
    /// Whether the pixels attend to one another beside the context.
    #[config(default = "FirstAttention::Pixels")]
    pub first: FirstAttention,
}

/// Attention over pixels and context together, with a shortcut; see the [module](self).
#[derive(Module, Debug)]
pub struct AddedContextAttention {
    group_norm: Normalization,
    norm_cross: Option<Normalization>,
    to_q: Linear,
    to_k: Option<Linear>,
    to_v: Option<Linear>,
    add_k_proj: Linear,
    add_v_proj: Linear,
    // A list of one, since diffusers keeps a dropout beside it: its name is `to_out.0`.
    to_out: Vec<Linear>,
    heads: usize,
}

impl AddedContextAttentionConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If `head_dim` or `groups` does not divide `channels`, or the context is normed and 32 does not divide `context_dim`.
    #[must_use]
    pub fn init(&self, device: &Device) -> AddedContextAttention {
        assert!(
            self.head_dim > 0 && self.channels.is_multiple_of(self.head_dim),
            "heads of {} channels do not divide {} channels",
            self.head_dim,
            self.channels
        );
        let own = || LinearConfig::new(self.channels, self.channels).init(device);
        let added = || LinearConfig::new(self.context_dim, self.channels).init(device);
        let own_keys = || (self.first == FirstAttention::Pixels).then(own);
        AddedContextAttention {
            group_norm: NormalizationConfig::new(self.channels, self.groups).init(device),
            norm_cross: match self.context_norm {
                ContextNorm::None => None,
                ContextNorm::GroupNorm => {
                    Some(NormalizationConfig::new(self.context_dim, ContextNorm::GROUPS).init(device))
                }
            },
            to_q: own(),
            to_k: own_keys(),
            to_v: own_keys(),
            add_k_proj: added(),
            add_v_proj: added(),
            to_out: vec![own()],
            heads: self.channels / self.head_dim,
        }
    }
}

impl AddedContextAttention {
    /// `x` is `[batch, channels, height, width]`, `context` `[batch, tokens, context_dim]`; the result has `x`'s shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, context: &Context) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let states = context.states();
        let states = match &self.norm_cross {
            Some(norm) => norm.forward(states.swap_dims(1, 2), Activation::Identity).swap_dims(1, 2),
            None => states,
        };
        let h = tokens(self.group_norm.forward(x.clone(), Activation::Identity));
        let with_own = |added: Tensor<3>, own: &Option<Linear>| match own {
            Some(own) => Tensor::cat(vec![added, own.forward(h.clone())], 1),
            None => added,
        };
        let keys = with_own(self.add_k_proj.forward(states.clone()), &self.to_k);
        let values = with_own(self.add_v_proj.forward(states), &self.to_v);
        let mask = context.mask().map(|mask| {
            // The pixels come after the tokens, and all of them are seen.
            let [batch, _, _, masked] = mask.dims();
            let seen = keys.dims()[1] - masked;
            let zeros = Tensor::zeros([batch, 1, 1, seen], (&mask.device(), mask.dtype()));
            if seen == 0 { mask } else { Tensor::cat(vec![mask, zeros], 3) }
        });
        let options = AttentionOptions { mask, ..AttentionOptions::default() };
        let y = multi_head(self.to_q.forward(h.clone()), keys, values, self.heads, options);
        let y = self.to_out.iter().fold(y, |y, layer| layer.forward(y));
        x + pixels(y, [height, width])
    }
}
