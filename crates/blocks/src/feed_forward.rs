//! The feed-forward layer of a transformer block (diffusers: `FeedForward`).
//!
//! ```text
//! plain   y = W_2 act(W_1 x + b_1) + b_2                          Vaswani et al. 2017
//! gated   y = W_2 (v gelu(g)) + b_2,   [v, g] = W_1 x + b_1       Shazeer 2020, "GLU Variants Improve Transformer"
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, activation};
use serde::{Deserialize, Serialize};

/// What stands between the two linear layers, by the name that diffusers gives it (`activation_fn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardActivation {
    /// One half of the channels, times GELU of the other.
    #[default]
    Geglu,
    /// GELU with the exact error function.
    Gelu,
    /// GELU in its tanh form.
    GeluApproximate,
}

/// Configuration of a [`FeedForward`].
#[derive(Config, Debug)]
pub struct FeedForwardConfig {
    /// Channels in and out.
    pub channels: usize,
    /// How many times as wide it is within.
    #[config(default = 4)]
    pub expansion: usize,
    /// Probability that dropout within zeroes an element, in `0..1`; only in training.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// What stands between the layers.
    #[config(default = "FeedForwardActivation::Geglu")]
    pub activation: FeedForwardActivation,
}

/// The layer into the hidden channels, with what follows it (diffusers: `GEGLU`, `GELU`).
#[derive(Module, Debug)]
struct IntoHidden {
    proj: Linear,
    #[module(skip)]
    activation: FeedForwardActivation,
}

/// Two linear layers with an activation between them; see the [module](self).
#[derive(Module, Debug)]
pub struct FeedForward {
    net: (IntoHidden, Dropout, Linear),
}

impl FeedForwardConfig {
    /// The layers with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> FeedForward {
        let hidden = self.expansion * self.channels;
        let projected = match self.activation {
            FeedForwardActivation::Geglu => 2 * hidden,
            FeedForwardActivation::Gelu | FeedForwardActivation::GeluApproximate => hidden,
        };
        let proj = LinearConfig::new(self.channels, projected).init(device);
        let out = LinearConfig::new(hidden, self.channels).init(device);
        let dropout = DropoutConfig::new(self.dropout).init();
        FeedForward { net: (IntoHidden { proj, activation: self.activation }, dropout, out) }
    }
}

impl IntoHidden {
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let x = self.proj.forward(x);
        match self.activation {
            FeedForwardActivation::Gelu => activation(x, Activation::Gelu),
            FeedForwardActivation::GeluApproximate => activation(x, Activation::GeluTanh),
            FeedForwardActivation::Geglu => {
                let hidden = x.dims()[D - 1] / 2;
                let gate = activation(x.clone().narrow(D - 1, hidden, hidden), Activation::Gelu);
                x.narrow(D - 1, 0, hidden) * gate
            }
        }
    }
}

impl FeedForward {
    /// `[..., channels]` to the same shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (into_hidden, dropout, out) = &self.net;
        out.forward(dropout.forward(into_hidden.forward(x)))
    }
}
