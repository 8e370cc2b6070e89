//! FLASH: gated attention in linear time, by mixed chunks (Hua et al. 2022, "Transformer Quality in Linear Time", section 3).
//!
//! ```text
//! u, v, z      as in a gated attention unit; four heads of z: q, k within chunks, q', k' across
//! A v          = (sum_(j in c(i)) max(q_i k_j^T / g + b_(j-i), 0)^2 v_j)  +  q'_i M_c(i)
//!
//! M_c          = 1/n      sum_j k'_j^T v_j                       all see all
//!              = 1/(c g)  sum_(chunks before c) k'_j^T v_j       the past alone; within the chunk j <= i
//! ```
//!
//! Chunks are of g tokens; the last is filled up with hidden ones. The running mean over chunks that are past (the paper
//! leaves the factor open) makes what a token sees as large in a long sequence as in a short one.

mod state;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Bool, DType, Device, Int, Tensor};
use kiln_backend::ops::Causality;

use crate::gau::{Gated, GatedUnit, SMALL, ScoreFunction, SharedHeads, turned};
use crate::positions::{RelativeBias, RelativeBiasConfig, RotaryConfig};

pub use state::{FlashState, FlashStateRecord};

/// Configuration of a [`Flash`].
#[derive(Config, Debug)]
pub struct FlashConfig {
    /// Channels of a token.
    pub width: usize,
    /// e / width.
    #[config(default = 2)]
    pub expansion: usize,
    /// s: channels that queries and keys share.
    #[config(default = 128)]
    pub shared_dim: usize,
    /// g: tokens of a chunk.
    #[config(default = 256)]
    pub chunk: usize,
    /// What makes weights of scores within chunks.
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

/// A gated unit with mixed-chunk attention, residual and norm included; see the [module](self).
#[derive(Module, Debug)]
pub struct Flash {
    unit: GatedUnit,
    shared: SharedHeads,
    bias: RelativeBias,
    chunk: usize,
    #[module(skip)]
    scores: ScoreFunction,
    #[module(skip)]
    causality: Causality,
    #[module(skip)]
    rotary: Option<RotaryConfig>,
}

impl FlashConfig {
    /// The layer with PyTorch's default initialisation of projections, on `device`.
    ///
    /// # Panics
    ///
    /// If the buckets make no scale, or chunks are of no tokens.
    #[must_use]
    pub fn init(&self, device: &Device) -> Flash {
        assert!(self.chunk > 0, "a chunk of no tokens comes to no end");
        let bias = RelativeBiasConfig::new(self.buckets, 1)
            .with_max_distance(self.max_distance)
            .with_causality(self.causality)
            .with_std(SMALL);
        Flash {
            unit: GatedUnit::new(self.width, self.expansion * self.width, self.shared_dim, self.eps, device),
            shared: SharedHeads::new(4, self.shared_dim, device),
            bias: bias.init(device),
            chunk: self.chunk,
            scores: self.scores,
            causality: self.causality,
            rotary: self.rotary.clone(),
        }
    }
}

impl Flash {
    /// `x`, `[batch, n, width]`, to the same shape; keys are hidden where `visible`, `[batch, n]`, is 0.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, visible: Option<Tensor<2, Int>>) -> Tensor<3> {
        let [batch, n, _] = x.dims();
        if n == 0 {
            return x;
        }
        let device = x.device();
        let Gated { gate, value, shared } = self.unit.project(x.clone());
        let heads = turned(self.shared.forward(shared), self.rotary.as_ref(), 0);
        let shared_dim = heads.dims()[3];
        let visible = visible.unwrap_or_else(|| Tensor::ones([batch, n], &device));
        let (chunks, g) = (n.div_ceil(self.chunk), self.chunk);
        let in_chunks = |x: Tensor<3>| {
            let width = x.dims()[2];
            let filling = Tensor::zeros([batch, chunks * g - n, width], (&device, x.dtype()));
            let x = if chunks * g == n { x } else { Tensor::cat(vec![x, filling], 1) };
            x.reshape([batch, chunks, g, width])
        };
        let [q, k, q_far, k_far] =
            [0, 1, 2, 3].map(|head| in_chunks(heads.clone().narrow(1, head, 1).squeeze_dim::<3>(1)));
        let value = in_chunks(value);
        let dtype = value.dtype();
        let seen = in_chunks(visible.float().cast(dtype).unsqueeze_dim::<3>(2));
        let hidden_keys = seen.clone().equal_elem(0.0);

        let hidden = hidden_keys.clone().swap_dims(2, 3).expand([batch, chunks, g, g]);
        let hidden = match self.causality {
            Causality::None => hidden,
            Causality::Causal => {
                let future = Tensor::<2, Bool>::tril_mask([g, g], 0, &device);
                hidden.bool_or(future.reshape([1, 1, g, g]).expand([batch, chunks, g, g]))
            }
        };
        let length = Tensor::full([1, 1, 1, 1], g as f64, (&device, dtype));
        let products = q.matmul(k.swap_dims(2, 3));
        let weights = self.scores.weights(products, self.bias.forward(g, g), hidden, length, shared_dim);
        let near = weights.matmul(value.clone());

        let k_far = k_far.clone().mask_fill(hidden_keys.expand(k_far.dims()), 0.0);
        // In f32: in f16 a sum stops growing where a term is half of its last place.
        let sums = k_far.cast(DType::F32).swap_dims(2, 3).matmul(value.cast(DType::F32));
        let counts = seen.cast(DType::F32).sum_dim(2);
        let (sums, counts) = match self.causality {
            Causality::None => (sums.sum_dim(1), counts.sum_dim(1)),
            Causality::Causal => (before(sums), before(counts)),
        };
        let far = q_far.matmul((sums / counts.clamp_min(1.0)).cast(dtype));

        let y = near + far;
        let width = y.dims()[3];
        let y = y.reshape([batch, chunks * g, width]).narrow(1, 0, n);
        x + self.unit.close(gate, y)
    }

    fn is_causal(&self) -> bool {
        self.causality == Causality::Causal
    }
}

/// Of each chunk the sum over those before it, `[batch, chunks, a, b]`. Not the running sum less the chunk's own: that would
/// be rounded by what it must not know.
fn before(x: Tensor<4>) -> Tensor<4> {
    let [batch, chunks, a, b] = x.dims();
    let zeros = Tensor::zeros([batch, 1, a, b], (&x.device(), x.dtype()));
    if chunks == 1 {
        return zeros;
    }
    Tensor::cat(vec![zeros, x.narrow(1, 0, chunks - 1)], 1).cumsum(1)
}
