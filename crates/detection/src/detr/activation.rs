//! Activations by the names that transformers gives them.

use burn::tensor::{Tensor, activation};
use kiln_backend::ops::{self, Activation};
use serde::{Deserialize, Serialize};

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationFunction {
    /// max(x, 0).
    #[default]
    Relu,
    /// x / (1 + e^-x).
    #[serde(alias = "swish")]
    Silu,
    /// x times the normal distribution function.
    Gelu,
    /// Its form with tanh.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// x / (1 + e^(-1.702 x)).
    QuickGelu,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// 0.01 x below 0.
    LeakyRelu,
}

impl ActivationFunction {
    /// Apply it to each value; the shape stays.
    #[must_use]
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Relu => activation::relu(x),
            Self::Silu => ops::activation(x, Activation::Silu),
            Self::Gelu => ops::activation(x, Activation::Gelu),
            Self::GeluTanh => ops::activation(x, Activation::GeluTanh),
            Self::QuickGelu => ops::activation(x, Activation::QuickGelu),
            Self::Tanh => activation::tanh(x),
            Self::Sigmoid => activation::sigmoid(x),
            Self::LeakyRelu => activation::leaky_relu(x, 0.01),
        }
    }
}
