//! Activations.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::FusedOps;

/// The cubic term of GELU's tanh form (Hendrycks and Gimpel 2016).
pub(crate) const GELU_CUBIC: f64 = 0.044715;
/// The slope of quick GELU's logistic function.
pub(crate) const QUICK_GELU_SLOPE: f64 = 1.702;

/// An activation function. In configuration files it has the names that transformers and diffusers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x.
    #[default]
    Identity,
    /// x / (1 + e⁻ˣ), also called swish.
    #[serde(alias = "swish")]
    Silu,
    /// x Φ(x), with Φ the normal distribution function.
    Gelu,
    /// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, PyTorch's `approximate="tanh"`.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_tanh")]
    GeluTanh,
    /// x / (1 + e^(-1.702 x)), as CLIP uses.
    QuickGelu,
    /// x above 0, eˣ - 1 below.
    Elu,
}

/// Applies `act` to each value of `x`; the shape stays.
pub fn activation<const D: usize>(x: Tensor<D>, act: Activation) -> Tensor<D> {
    match act {
        Activation::Identity => x,
        _ => Tensor::from_dispatch(<Dispatch as FusedOps>::activation(x.into_dispatch(), act)),
    }
}
