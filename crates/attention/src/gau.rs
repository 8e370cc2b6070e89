//! The gated attention unit: attention and a gated linear unit in one layer, with one head (Hua et al. 2022, "Transformer
//! Quality in Linear Time", section 2).
//!
//! ```text
//! x'   = norm(x)
//! u, v = silu(W_u x'), silu(W_v x')        e = expansion * width channels each
//! z    = silu(W_z x')                      s channels, shared by queries and keys
//! q, k = z . gamma_q + beta_q,  z . gamma_k + beta_k            then turned by their places
//! y    = x + W_o (u . A v)
//!
//! A_ij = max(q_i k_j^T / n_i + b_(j-i), 0)^2                    squared ReLU: FLASH-Quad
//!      = laplace(q_i k_j^T / n_i + b_(j-i))                     Ma et al. 2023, "Mega", section 3.3
//!      = softmax_j(q_i k_j^T / sqrt(s) + b_(j-i))
//! laplace(x) = (1 + erf((x - sqrt(1/2)) / sqrt(2 / (4 pi)))) / 2        the smooth form of max(x, 0)^2
//! ```
//!
//! n_i is the number of keys that query i sees: so padding changes nothing, and neither does the length of what comes after.
//! b is a bias for each bucket of distances, as T5's.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor, activation};
use kiln_backend::ops::Causality;
use serde::{Deserialize, Serialize};

use crate::cache::KeyValueCache;
use crate::glu::Gate;
use crate::grouped::softmax;
use crate::mask::hidden_by_offset;
use crate::positions::{RelativeBias, RelativeBiasConfig, RotaryConfig};

/// Standard deviation of scales and of biases at the start: the paper's for all weights. The square of a bias of 1 would
/// outweigh every score.
pub(crate) const SMALL: f64 = 0.02;

/// What turns products of queries and keys into weights of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScoreFunction {
    /// The square of what is positive.
    #[default]
    SquaredRelu,
    /// The distribution function of a normal, between 0 and 1: smooth, and bounded.
    Laplace,
    /// Softmax over keys.
    Softmax,
}

impl ScoreFunction {
    /// A from products `q k^T`, `[.., queries, keys]`, and a bias of that shape. Scores are divided by `keys_seen` but for
    /// softmax's, which are by `sqrt(s)`; `hidden` keys weigh nothing.
    #[must_use]
    pub fn weights(
        self,
        products: Tensor<4>,
        bias: Tensor<4>,
        hidden: Tensor<4, Bool>,
        keys_seen: Tensor<4>,
        shared_dim: usize,
    ) -> Tensor<4> {
        match self {
            Self::Softmax => {
                let scores = products.div_scalar((shared_dim as f64).sqrt()) + bias;
                softmax(scores.mask_fill(hidden, f32::NEG_INFINITY))
            }
            Self::SquaredRelu => {
                activation::relu(products / keys_seen + bias).square().mask_fill(hidden, 0.0)
            }
            Self::Laplace => laplace(products / keys_seen + bias).mask_fill(hidden, 0.0),
        }
    }
}

/// The distribution function of the normal with mean sqrt(1/2) and variance 1 / (4 pi).
#[must_use]
pub fn laplace<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let deviation = (1.0 / (4.0 * PI)).sqrt();
    x.sub_scalar(FRAC_1_SQRT_2).div_scalar(deviation * 2.0_f64.sqrt()).erf().add_scalar(1.0).mul_scalar(0.5)
}

/// Queries and keys, as many as needed, from shared channels: each a scale and an offset of them.
#[derive(Module, Debug)]
pub struct SharedHeads {
    /// gamma, `[heads, s]`.
    pub scale: Param<Tensor<2>>,
    /// beta, `[heads, s]`.
    pub offset: Param<Tensor<2>>,
}

impl SharedHeads {
    /// Scales of standard deviation 0.02 and no offsets, as the paper starts.
    #[must_use]
    pub fn new(heads: usize, shared_dim: usize, device: &Device) -> Self {
        Self {
            scale: Initializer::Normal { mean: 0.0, std: SMALL }.init([heads, shared_dim], device),
            offset: Initializer::Zeros.init([heads, shared_dim], device),
        }
    }

    /// `[batch, n, s]` to `[batch, heads, n, s]`.
    #[must_use]
    pub fn forward(&self, z: Tensor<3>) -> Tensor<4> {
        let each = |x: &Param<Tensor<2>>| x.val().unsqueeze_dim::<3>(1).unsqueeze_dim::<4>(0);
        z.unsqueeze_dim::<4>(1) * each(&self.scale) + each(&self.offset)
    }
}

/// Configuration of a [`GatedAttention`].
#[derive(Config, Debug)]
pub struct GatedAttentionConfig {
    /// Channels of a token.
    pub width: usize,
    /// e / width.
    #[config(default = 2)]
    pub expansion: usize,
    /// s: channels that queries and keys share.
    #[config(default = 128)]
    pub shared_dim: usize,
    /// What makes weights of scores.
    #[config(default = "ScoreFunction::SquaredRelu")]
    pub scores: ScoreFunction,
    /// Which keys a query sees.
    #[config(default = "Causality::None")]
    pub causality: Causality,
    /// How queries and keys are turned by their places, if they are.
    pub rotary: Option<RotaryConfig>,
    /// Buckets of the relative bias.
    #[config(default = 32)]
    pub buckets: usize,
    /// Distance from which on all is in one bucket.
    #[config(default = 128)]
    pub max_distance: usize,
    /// Added to the variance in the norm.
    #[config(default = 1e-5)]
    pub eps: f64,
}

/// A gated attention unit, residual and norm included; see the [module](self).
#[derive(Module, Debug)]
pub struct GatedAttention {
    unit: GatedUnit,
    shared: SharedHeads,
    bias: RelativeBias,
    #[module(skip)]
    scores: ScoreFunction,
    #[module(skip)]
    causality: Causality,
    #[module(skip)]
    rotary: Option<RotaryConfig>,
}

impl GatedAttentionConfig {
    /// The layer with PyTorch's default initialisation of projections, on `device`.
    ///
    /// # Panics
    ///
    /// If the buckets make no scale.
    #[must_use]
    pub fn init(&self, device: &Device) -> GatedAttention {
        let bias = RelativeBiasConfig::new(self.buckets, 1)
            .with_max_distance(self.max_distance)
            .with_causality(self.causality)
            .with_std(SMALL);
        GatedAttention {
            unit: GatedUnit::new(self.width, self.expansion * self.width, self.shared_dim, self.eps, device),
            shared: SharedHeads::new(2, self.shared_dim, device),
            bias: bias.init(device),
            scores: self.scores,
            causality: self.causality,
            rotary: self.rotary.clone(),
        }
    }
}

impl GatedAttention {
    /// `x`, `[batch, n, width]`, to the same shape; keys are hidden where `visible`, `[batch, n]`, is 0.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, visible: Option<Tensor<2, Int>>) -> Tensor<3> {
        let [batch, n, _] = x.dims();
        let device = x.device();
        let Gated { gate, value, shared } = self.unit.project(x.clone());
        let heads = turned(self.shared.forward(shared), self.rotary.as_ref(), 0);
        let [q, k] = [0, 1].map(|head| heads.clone().narrow(1, head, 1));
        let hidden = match visible {
            Some(visible) => visible.equal_elem(0).reshape([batch, 1, 1, n]).expand([batch, 1, n, n]),
            None => Tensor::<4, Int>::ones([batch, 1, n, n], &device).equal_elem(0),
        };
        let hidden = match self.causality {
            Causality::None => hidden,
            Causality::Causal => {
                let future = Tensor::<2, Bool>::tril_mask([n, n], 0, &device);
                hidden.bool_or(future.reshape([1, 1, n, n]).expand([batch, 1, n, n]))
            }
        };
        let y = self.attend(q, k, value.unsqueeze_dim::<4>(1), self.bias.forward(n, n), hidden);
        x + self.unit.close(gate, y)
    }

    /// The next n tokens, `[batch, n, width]`, over those in `cache` and themselves, which are added to it. Token by token,
    /// or many at a time: the results are those of one causal [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// If the unit is not causal, or the cache another layer's.
    #[must_use]
    pub fn decode(&self, x: Tensor<3>, cache: &mut KeyValueCache) -> Tensor<3> {
        assert!(self.causality == Causality::Causal, "only causal attention can go on from a cache");
        let [batch, n, _] = x.dims();
        let Gated { gate, value, shared } = self.unit.project(x.clone());
        let heads = turned(self.shared.forward(shared), self.rotary.as_ref(), cache.seen());
        let [q, k] = [0, 1].map(|head| heads.clone().narrow(1, head, 1));
        let [k, value] = cache.append(k, value.unsqueeze_dim::<4>(1));
        let keys = k.dims()[2];
        let reach = cache.window().unwrap_or(keys) as i64;
        let hidden = hidden_by_offset(n, keys, |offset| offset <= 0 && offset > -reach, &x.device());
        let bias = self.bias.from(keys - n, n, keys);
        let y = self.attend(q, k, value, bias, hidden.expand([batch, 1, n, keys]));
        x + self.unit.close(gate, y)
    }

    /// A v, `[batch, n, e]`.
    fn attend(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        value: Tensor<4>,
        bias: Tensor<4>,
        hidden: Tensor<4, Bool>,
    ) -> Tensor<3> {
        let shared_dim = q.dims()[3];
        let seen = hidden.clone().bool_not().float().sum_dim(3).clamp_min(1.0).cast(q.dtype());
        let products = q.matmul(k.swap_dims(2, 3));
        let weights = self.scores.weights(products, bias, hidden, seen, shared_dim);
        weights.matmul(value).squeeze_dim::<3>(1)
    }
}

/// What all gated units have around their attention: the norm, u, v and z, and the way out.
#[derive(Module, Debug)]
pub(crate) struct GatedUnit {
    norm: LayerNorm,
    to_gate: Linear,
    to_value: Linear,
    to_shared: Linear,
    to_out: Linear,
}

/// u, v and z of a [`GatedUnit`].
pub(crate) struct Gated {
    pub(crate) gate: Tensor<3>,
    pub(crate) value: Tensor<3>,
    pub(crate) shared: Tensor<3>,
}

impl GatedUnit {
    pub(crate) fn new(width: usize, hidden: usize, shared_dim: usize, eps: f64, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            norm: LayerNormConfig::new(width).with_epsilon(eps).init(device),
            to_gate: linear(width, hidden),
            to_value: linear(width, hidden),
            to_shared: linear(width, shared_dim),
            to_out: linear(hidden, width),
        }
    }

    pub(crate) fn project(&self, x: Tensor<3>) -> Gated {
        let x = self.norm.forward(x);
        let silu = |layer: &Linear| Gate::Silu.apply(layer.forward(x.clone()));
        Gated { gate: silu(&self.to_gate), value: silu(&self.to_value), shared: silu(&self.to_shared) }
    }

    pub(crate) fn close(&self, gate: Tensor<3>, attended: Tensor<3>) -> Tensor<3> {
        self.to_out.forward(gate * attended)
    }
}

/// Each head of `[batch, heads, n, s]` turned by its places, from `first` on.
pub(crate) fn turned(heads: Tensor<4>, rotary: Option<&RotaryConfig>, first: usize) -> Tensor<4> {
    let [.., n, width] = heads.dims();
    match rotary {
        Some(rotary) => rotary.from(first, n, width, &heads.device()).forward(heads),
        None => heads,
    }
}
