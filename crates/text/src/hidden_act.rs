//! Activations, by the names that transformers gives them.

use burn::tensor::Tensor;
use kiln_backend::ops::{self, Activation};
use serde::{Deserialize, Serialize};

/// An activation between two linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenAct {
    /// max(x, 0).
    Relu,
    /// x Φ(x), with Φ the normal distribution function.
    Gelu,
    /// GELU in its tanh form.
    #[serde(alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluNew,
    /// x / (1 + e^(-1.702 x)).
    QuickGelu,
    /// x / (1 + e^-x).
    #[serde(alias = "swish")]
    Silu,
}

impl HiddenAct {
    /// The activation of each value of `x`.
    #[must_use]
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let act = match self {
            Self::Relu => return burn::tensor::activation::relu(x),
            Self::Gelu => Activation::Gelu,
            Self::GeluNew => Activation::GeluTanh,
            Self::QuickGelu => Activation::QuickGelu,
            Self::Silu => Activation::Silu,
        };
        ops::activation(x, act)
    }
}
