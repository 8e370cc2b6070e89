//! What the encoder is made of, by transformers' names.

// Some of transformers' names are classes'.
#![allow(non_snake_case)]

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::module::linear;
use burn::tensor::{DType, Device, Tensor, f16};
use kiln_attention::positions::{RelativeBias, RelativeBiasConfig};
use kiln_attention::{AttentionOptions, Causality, Mask, multi_head};
use kiln_backend::ops::rms_norm;
use kiln_backend::watch;

use super::config::{FeedForward, T5Config};
use crate::{ConfigError, HiddenAct};

/// w x / sqrt(mean(x^2) + eps), computed in f32; the result is of the type of the weights.
pub(super) fn normed(norm: &RmsNorm, x: Tensor<3>) -> Tensor<3> {
    rms_norm(x, norm.gamma.val(), norm.epsilon)
}

pub(super) fn norm(config: &T5Config, device: &Device) -> RmsNorm {
    RmsNormConfig::new(config.d_model).with_epsilon(config.layer_norm_epsilon).init(device)
}

fn projection(from: usize, to: usize, device: &Device) -> Linear {
    LinearConfig::new(from, to).with_bias(false).init(device)
}

/// As transformers does: the largest number of f16 in place of what exceeds it.
fn finite(x: Tensor<3>) -> Tensor<3> {
    let largest = f16::MAX.to_f32();
    if x.dtype() == DType::F16 { x.clamp(-largest, largest) } else { x }
}

/// Whether relative positions are told in an attention, or were before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// It has the table of biases.
    Own,
    /// An attention before it has.
    Shared,
}

/// softmax(q k^T + bias) v, projected.
#[derive(Module, Debug)]
pub struct T5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    relative_attention_bias: Option<RelativeBias>,
    heads: usize,
}

impl T5Attention {
    fn new(config: &T5Config, positions: Positions, device: &Device) -> Self {
        let inner = config.num_heads * config.d_kv;
        let bias = (positions == Positions::Own).then(|| {
            RelativeBiasConfig::new(config.relative_attention_num_buckets, config.num_heads)
                .with_max_distance(config.relative_attention_max_distance)
                .init(device)
        });
        Self {
            q: projection(config.d_model, inner, device),
            k: projection(config.d_model, inner, device),
            v: projection(config.d_model, inner, device),
            o: projection(inner, config.d_model, device),
            relative_attention_bias: bias,
            heads: config.num_heads,
        }
    }

    /// In f32 within, since scores that are not scaled do not fit into 16 bits.
    fn forward(&self, x: &Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let dtype = x.dtype();
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|layer| layer.forward(x.clone()).cast(DType::F32));
        let options = AttentionOptions { mask: Some(bias), causality: Causality::None, scale: Some(1.0) };
        finite(self.o.forward(multi_head(q, k, v, self.heads, options).cast(dtype)))
    }
}

/// x + attention(norm(x)).
#[derive(Module, Debug)]
pub struct T5SelfAttention {
    SelfAttention: T5Attention,
    layer_norm: RmsNorm,
}

/// A feed-forward layer, plain (`wi`) or gated (`wi_0`, `wi_1`).
#[derive(Module, Debug)]
pub struct T5Dense {
    wi: Option<Linear>,
    wi_0: Option<Linear>,
    wi_1: Option<Linear>,
    wo: Linear,
    #[module(skip)]
    act: HiddenAct,
}

impl T5Dense {
    fn new(config: &T5Config, device: &Device) -> Result<Self, ConfigError> {
        let inward = || Some(projection(config.d_model, config.d_ff, device));
        let wo = projection(config.d_ff, config.d_model, device);
        Ok(match config.feed_forward()? {
            FeedForward::Plain(act) => Self { wi: inward(), wi_0: None, wi_1: None, wo, act },
            FeedForward::Gated(act) => Self { wi: None, wi_0: inward(), wi_1: inward(), wo, act },
        })
    }

    fn forward(&self, x: &Tensor<3>) -> Tensor<3> {
        let wo = self.wo.weight.val();
        // The products within do not fit into f16: as transformers does, what follows on them is in f32.
        let inner = if wo.dtype() == DType::F16 { DType::F32 } else { wo.dtype() };
        let widened =
            |layer: &Option<Linear>| layer.as_ref().map(|layer| layer.forward(x.clone()).cast(inner));
        let acted = |x| self.act.forward(x);
        let y = match (widened(&self.wi), widened(&self.wi_0), widened(&self.wi_1)) {
            (_, Some(gate), Some(value)) => acted(gate) * value,
            (Some(value), ..) => acted(value),
            _ => unreachable!("a feed-forward layer is plain or gated"),
        };
        linear(y, wo.cast(inner), None)
    }
}

/// x + dense(norm(x)).
#[derive(Module, Debug)]
pub struct T5FeedForward {
    DenseReluDense: T5Dense,
    layer_norm: RmsNorm,
}

/// Attention, then the feed-forward layer.
#[derive(Module, Debug)]
pub struct T5Block {
    layer: (T5SelfAttention, T5FeedForward),
}

impl T5Block {
    pub(super) fn new(config: &T5Config, positions: Positions, device: &Device) -> Result<Self, ConfigError> {
        let attention = T5SelfAttention {
            SelfAttention: T5Attention::new(config, positions, device),
            layer_norm: norm(config, device),
        };
        let feed_forward =
            T5FeedForward { DenseReluDense: T5Dense::new(config, device)?, layer_norm: norm(config, device) };
        Ok(Self { layer: (attention, feed_forward) })
    }

    /// The bias of this block's positions and of `mask`, over `[batch, heads, n, n]`, if it has one.
    pub(super) fn bias(&self, batch: usize, n: usize, mask: Option<Mask>) -> Option<Tensor<4>> {
        let attention = &self.layer.0.SelfAttention;
        let bias = attention.relative_attention_bias.as_ref()?.forward(n, n);
        let bias = Mask::bias(bias.cast(DType::F32));
        let bias = match mask {
            Some(mask) => bias.and(mask),
            None => bias,
        };
        Some(bias.additive([batch, attention.heads, n, n], DType::F32))
    }

    /// `[batch, n, channels]` in f32 to the same.
    pub(super) fn forward(&self, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let (attention, feed_forward) = &self.layer;
        let y = attention.SelfAttention.forward(&normed(&attention.layer_norm, x.clone()), bias);
        let x = x + y.cast(DType::F32);
        watch::block(&attention.layer_norm.gamma, &x);
        let y = feed_forward.DenseReluDense.forward(&normed(&feed_forward.layer_norm, x.clone()));
        let y = x + y.cast(DType::F32);
        watch::block(&feed_forward.layer_norm.gamma, &y);
        y
    }
}
