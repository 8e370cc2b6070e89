//! Softmax attention in several heads (Vaswani et al. 2017, "Attention Is All You Need").
//!
//! ```text
//! y = W_o concat_h softmax(q_h k_h^T / sqrt(d)) v_h      q = W_q x,  k = W_k c,  v = W_v c
//! ```
//!
//! With `c = x` it is self-attention, with another sequence cross-attention. `q_h` and `k_h` may be normalised, each head
//! by itself, before they meet (Henry et al. 2020, "Query-Key Normalization"), and then turned by their places. What
//! language models add stands in [`grouped`](crate::grouped).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig,
};
use burn::tensor::{DType, Device, Tensor};
use kiln_backend::ops::{AttentionOptions, Causality, rms_norm, scaled_dot_product_attention};
use serde::{Deserialize, Serialize};

use crate::Mask;
use crate::cache::KeyValueCache;
use crate::grouped::{Scores, grouped_query};
use crate::positions::{Rotary, RotaryConfig};

/// Softmax attention in `heads` heads: `query` is `[batch, queries, heads * head_dim]`, `key` and `value` are
/// `[batch, keys, heads * head_dim]`; the result is `[batch, queries, heads * head_dim]`.
///
/// # Panics
///
/// If `heads` does not divide the widths, or the shapes do not fit together.
#[must_use]
pub fn multi_head(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    heads: usize,
    options: AttentionOptions,
) -> Tensor<3> {
    join(scaled_dot_product_attention(split(query, heads), split(key, heads), split(value, heads), options))
}

/// `[batch, n, heads * head_dim]` to `[batch, heads, n, head_dim]`.
///
/// # Panics
///
/// If `heads` does not divide the width.
#[must_use]
pub fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, n, width] = x.dims();
    assert!(heads > 0 && width.is_multiple_of(heads), "{heads} heads do not divide a width of {width}");
    x.reshape([batch, n, heads, width / heads]).swap_dims(1, 2)
}

/// `[batch, heads, n, head_dim]` to `[batch, n, heads * head_dim]`.
#[must_use]
pub fn join(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, n, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch, n, heads * head_dim])
}

/// Which of the projections to queries, keys and values have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectionBias {
    /// None of them.
    #[default]
    None,
    /// All three.
    All,
}

/// What is done to queries and keys, head by head, before they meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// Nothing.
    #[default]
    None,
    /// Divided by their root mean square, and scaled.
    RmsNorm,
    /// Normalised to mean 0 and variance 1, scaled and shifted.
    LayerNorm,
}

/// The type that the scores `q k^T` are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScorePrecision {
    /// That of the layer.
    #[default]
    Same,
    /// f32: for layers in f16 whose scores would not fit, as Stable Diffusion 2.1's (diffusers: `upcast_attention`).
    F32,
}

/// A norm over the channels of a head.
#[derive(Module, Debug)]
pub enum HeadNorm {
    /// By the root mean square.
    Rms(RmsNorm),
    /// By mean and variance.
    Layer(LayerNorm),
}

impl QkNorm {
    /// The norm over `head_dim` channels, if there is one.
    #[must_use]
    pub fn init(self, head_dim: usize, eps: f64, device: &Device) -> Option<HeadNorm> {
        match self {
            Self::None => None,
            Self::RmsNorm => Some(HeadNorm::Rms(RmsNormConfig::new(head_dim).with_epsilon(eps).init(device))),
            Self::LayerNorm => {
                Some(HeadNorm::Layer(LayerNormConfig::new(head_dim).with_epsilon(eps).init(device)))
            }
        }
    }
}

impl HeadNorm {
    /// `[batch, heads, n, head_dim]` to the same shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Rms(norm) => rms_norm(x, norm.gamma.val(), norm.epsilon),
            Self::Layer(norm) => norm.forward(x),
        }
    }
}

/// Configuration of a [`MultiHeadAttention`].
#[derive(Config, Debug)]
pub struct MultiHeadAttentionConfig {
    /// Channels of the sequence that asks; the output has as many.
    pub query_dim: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Channels of the sequence that is asked; `None` where it is the same one.
    pub context_dim: Option<usize>,
    /// Which projections have a bias; the output's always has.
    #[config(default = "ProjectionBias::None")]
    pub bias: ProjectionBias,
    /// Norm of queries and keys.
    #[config(default = "QkNorm::None")]
    pub qk_norm: QkNorm,
    /// Added to the variance in that norm.
    #[config(default = 1e-6)]
    pub eps: f64,
    /// Type that scores are computed in.
    #[config(default = "ScorePrecision::Same")]
    pub precision: ScorePrecision,
    /// Number of heads of keys and values; as many as of queries if `None`.
    pub kv_heads: Option<usize>,
    /// Scores are kept between minus this and this.
    pub soft_cap: Option<f64>,
    /// Probability that dropout zeroes a probability, in `0..1`; only in training.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Queries and keys are turned by their places.
    pub rotary: Option<RotaryConfig>,
}

/// Softmax attention with its projections; see the [module](self).
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    norm_q: Option<HeadNorm>,
    norm_k: Option<HeadNorm>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    // A list of one, since diffusers keeps a dropout beside it: its name is `to_out.0`.
    to_out: Vec<Linear>,
    dropout: Dropout,
    heads: usize,
    kv_heads: usize,
    #[module(skip)]
    precision: ScorePrecision,
    #[module(skip)]
    soft_cap: Option<f64>,
    #[module(skip)]
    rotary: Option<RotaryConfig>,
}

impl MultiHeadAttentionConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If the heads of keys do not divide those of queries, or the dropout is not in `0..1`.
    #[must_use]
    pub fn init(&self, device: &Device) -> MultiHeadAttention {
        let kv_heads = self.kv_heads.unwrap_or(self.heads);
        assert!(
            kv_heads > 0 && self.heads.is_multiple_of(kv_heads),
            "{kv_heads} heads of keys do not divide {} heads of queries",
            self.heads
        );
        let projection = |width, heads| {
            let bias = self.bias == ProjectionBias::All;
            LinearConfig::new(width, heads * self.head_dim).with_bias(bias).init(device)
        };
        let context = self.context_dim.unwrap_or(self.query_dim);
        MultiHeadAttention {
            norm_q: self.qk_norm.init(self.head_dim, self.eps, device),
            norm_k: self.qk_norm.init(self.head_dim, self.eps, device),
            to_q: projection(self.query_dim, self.heads),
            to_k: projection(context, kv_heads),
            to_v: projection(context, kv_heads),
            to_out: vec![LinearConfig::new(self.heads * self.head_dim, self.query_dim).init(device)],
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            kv_heads,
            precision: self.precision,
            soft_cap: self.soft_cap,
            rotary: self.rotary.clone(),
        }
    }
}

impl MultiHeadAttention {
    /// `x` is `[batch, n, query_dim]`, `context` `[batch, m, context_dim]`, or `None` for self-attention; the result has
    /// `x`'s shape. With rotary positions, both sequences start at place 0.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, context: Option<Tensor<3>>, options: AttentionOptions) -> Tensor<3> {
        let context = context.unwrap_or_else(|| x.clone());
        let [q, k, v] = self.project(x, context, 0);
        self.attend(q, k, v, options)
    }

    /// Causal self-attention of the next n tokens, `[batch, n, query_dim]`, over those in `cache` and themselves, which are
    /// added to it. Token by token, or many at a time: the results are those of one causal [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// If the cache is another layer's.
    #[must_use]
    pub fn decode(&self, x: Tensor<3>, cache: &mut KeyValueCache) -> Tensor<3> {
        let [q, k, v] = self.project(x.clone(), x, cache.seen());
        let n = q.dims()[2];
        let [k, v] = cache.append(k, v);
        let keys = k.dims()[2];
        // A single token sees all that is kept.
        let mask = (n > 1).then(|| {
            let reach = cache.window().unwrap_or(keys) as i64;
            let mask = Mask::by_offset(n, keys, |offset| offset <= 0 && offset > -reach, &q.device());
            mask.additive([1, 1, n, keys], q.dtype())
        });
        self.attend(q, k, v, AttentionOptions { mask, causality: Causality::None, scale: None })
    }

    /// Queries, keys and values in heads; the first tokens stand at place `first`.
    fn project(&self, x: Tensor<3>, context: Tensor<3>, first: usize) -> [Tensor<4>; 3] {
        let q = split(self.to_q.forward(x), self.heads);
        let k = split(self.to_k.forward(context.clone()), self.kv_heads);
        let v = split(self.to_v.forward(context), self.kv_heads);
        let norm = |norm: &Option<HeadNorm>, x| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let (q, k) = (norm(&self.norm_q, q), norm(&self.norm_k, k));
        let Some(rotary) = &self.rotary else { return [q, k, v] };
        let turns = |x: &Tensor<4>| -> Rotary { rotary.from(first, x.dims()[2], x.dims()[3], &x.device()) };
        [turns(&q).forward(q), turns(&k).forward(k), v]
    }

    fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, options: AttentionOptions) -> Tensor<3> {
        let dtype = q.dtype();
        let wide = |x: Tensor<4>| match self.precision {
            ScorePrecision::Same => x,
            ScorePrecision::F32 => x.cast(DType::F32),
        };
        let options = AttentionOptions { mask: options.mask.map(wide), ..options };
        let scores = Scores { cap: self.soft_cap, dropout: Some(&self.dropout) };
        let y = grouped_query(wide(q), wide(k), wide(v), options, scores).cast(dtype);
        self.to_out.iter().fold(join(y), |y, layer| layer.forward(y))
    }
}
