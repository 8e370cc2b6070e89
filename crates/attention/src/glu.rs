//! Gated linear units (Dauphin et al. 2017; in transformers: Shazeer 2020, "GLU Variants Improve Transformer").
//!
//! ```text
//! y = W_o (act(W_u x) . W_v x)
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use kiln_backend::ops;
use serde::{Deserialize, Serialize};

/// What the gate goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// The logistic function: GLU.
    Sigmoid,
    /// ReLU: ReGLU.
    Relu,
    /// GELU: GEGLU.
    Gelu,
    /// SiLU: SwiGLU.
    #[default]
    Silu,
}

impl Gate {
    /// The gate's function of `x`.
    #[must_use]
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Sigmoid => activation::sigmoid(x),
            Self::Relu => activation::relu(x),
            Self::Gelu => ops::activation(x, ops::Activation::Gelu),
            Self::Silu => ops::activation(x, ops::Activation::Silu),
        }
    }
}

/// Configuration of a [`Glu`].
#[derive(Config, Debug)]
pub struct GluConfig {
    /// Channels of a token.
    pub width: usize,
    /// Channels between.
    pub hidden: usize,
    /// What the gate goes through.
    #[config(default = "Gate::Silu")]
    pub gate: Gate,
    /// Whether the projections have a bias.
    #[config(default = "crate::ProjectionBias::None")]
    pub bias: crate::ProjectionBias,
}

/// A gated linear unit, token by token; see the [module](self).
#[derive(Module, Debug)]
pub struct Glu {
    to_gate: Linear,
    to_value: Linear,
    to_out: Linear,
    #[module(skip)]
    gate: Gate,
}

impl GluConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> Glu {
        let bias = self.bias == crate::ProjectionBias::All;
        let linear = |from, to| LinearConfig::new(from, to).with_bias(bias).init(device);
        Glu {
            to_gate: linear(self.width, self.hidden),
            to_value: linear(self.width, self.hidden),
            to_out: linear(self.hidden, self.width),
            gate: self.gate,
        }
    }
}

impl Glu {
    /// `[.., width]` to the same shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gate = self.gate.apply(self.to_gate.forward(x.clone()));
        self.to_out.forward(gate * self.to_value.forward(x))
    }
}
