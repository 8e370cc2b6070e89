//! Adaptive layer norm: the condition says how a block's input is scaled and shifted, and how much of its output counts
//! (Peebles and Xie 2023, "Scalable Diffusion Models with Transformers", section 3.2: adaLN-Zero).
//!
//! ```text
//! x <- x + gate f(norm(x) (1 + scale) + shift)        shift, scale, gate = W silu(t)
//! ```
//!
//! The norm has no weights of its own. The condition arrives here as `silu(t)`, which all blocks share.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::module::layer_norm;
use burn::tensor::{DType, Device, Tensor};

/// Added to the variance.
const EPS: f64 = 1e-6;

/// `norm(x) (1 + scale) + shift`: `x` is `[batch, n, channels]`, `scale` and `shift` are `[batch, channels]`.
#[must_use]
pub fn modulated(x: &Tensor<3>, scale: Tensor<2>, shift: Tensor<2>) -> Tensor<3> {
    let [batch, _, channels] = x.dims();
    let dtype = x.dtype();
    // Squares summed over the channels leave the range of f16.
    let wide = match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    };
    let row = |rows: &Tensor<2>, i| rows.clone().narrow(0, i, 1).reshape([channels]);
    let (scale, shift) = (scale.cast(wide) + 1.0, shift.cast(wide));
    // Each sample has a scale and a shift of its own, so each is one pass of a layer norm that has these as weights.
    let samples = (0..batch).map(|i| {
        let x = x.clone().narrow(0, i, 1).cast(wide);
        layer_norm(x, row(&scale, i), Some(row(&shift, i)), EPS).cast(dtype)
    });
    Tensor::cat(samples.collect(), 0)
}

/// What the condition says of one layer: how its input is modulated, and how much of its output is added.
#[derive(Clone, Debug)]
pub struct Modulation {
    shift: Tensor<2>,
    scale: Tensor<2>,
    gate: Tensor<2>,
}

impl Modulation {
    /// The layer's input, of `x`'s shape `[batch, n, channels]`.
    #[must_use]
    pub fn input(&self, x: &Tensor<3>) -> Tensor<3> {
        modulated(x, self.scale.clone(), self.shift.clone())
    }

    /// `x` with as much of the layer's output `y` as the gate lets through.
    #[must_use]
    pub fn add(&self, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
        x + self.gate.clone().unsqueeze_dim::<3>(1) * y
    }
}

/// adaLN-Zero for the layers of a block (diffusers: `AdaLayerNormZero`, `SD35AdaLayerNormZeroX`).
#[derive(Module, Debug)]
pub struct AdaptiveZero {
    linear: Linear,
}

impl AdaptiveZero {
    /// By which a block is told from the others.
    pub(super) fn weight(&self) -> &Param<Tensor<2>> {
        &self.linear.weight
    }

    /// For `layers` layers of `channels` channels.
    #[must_use]
    pub fn new(channels: usize, layers: usize, device: &Device) -> Self {
        Self { linear: LinearConfig::new(channels, 3 * layers * channels).init(device) }
    }

    /// The condition `silu(t)`, `[batch, channels]`, to what it says of each layer.
    ///
    /// # Panics
    ///
    /// If it was not made for that many layers.
    #[must_use]
    pub fn forward<const LAYERS: usize>(&self, condition: Tensor<2>) -> [Modulation; LAYERS] {
        let [_, channels] = condition.dims();
        let all = self.linear.forward(condition);
        assert_eq!(all.dims()[1], 3 * LAYERS * channels, "made for another number of layers");
        let chunk = |i: usize| all.clone().narrow(1, i * channels, channels);
        std::array::from_fn(|layer| Modulation {
            shift: chunk(3 * layer),
            scale: chunk(3 * layer + 1),
            gate: chunk(3 * layer + 2),
        })
    }
}

/// Adaptive layer norm with no gate, before a last layer (diffusers: `AdaLayerNormContinuous`).
#[derive(Module, Debug)]
pub struct AdaptiveNorm {
    linear: Linear,
}

impl AdaptiveNorm {
    /// For `channels` channels.
    #[must_use]
    pub fn new(channels: usize, device: &Device) -> Self {
        Self { linear: LinearConfig::new(channels, 2 * channels).init(device) }
    }

    /// `x`, `[batch, n, channels]`, modulated by the condition `silu(t)`, `[batch, channels]`.
    #[must_use]
    pub fn forward(&self, x: &Tensor<3>, condition: Tensor<2>) -> Tensor<3> {
        let [_, _, channels] = x.dims();
        let both = self.linear.forward(condition);
        // The scale comes first here, and second in adaLN-Zero.
        modulated(x, both.clone().narrow(1, 0, channels), both.narrow(1, channels, channels))
    }
}
