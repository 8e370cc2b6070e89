//! Group normalisation with its activation.
//!
//! `y = act((x - mean_g) / sqrt(var_g + eps) * weight + bias)`, mean and variance over each group of channels and all
//! pixels (Wu and He 2018, "Group Normalization").

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, group_norm_act};
use kiln_backend::watch;

/// Configuration of a [`Normalization`].
#[derive(Config, Debug)]
pub struct NormalizationConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Groups that the channels are split into; must divide them.
    pub groups: usize,
    /// Added to the variance.
    #[config(default = 1e-5)]
    pub eps: f64,
}

/// Group normalisation, its scale called `weight` and its shift `bias` as in PyTorch.
#[derive(Module, Debug)]
pub struct Normalization {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    groups: usize,
    eps: f64,
}

impl NormalizationConfig {
    /// Scale 1 and shift 0 on `device`.
    ///
    /// # Panics
    ///
    /// If `groups` does not divide `channels`.
    #[must_use]
    pub fn init(&self, device: &Device) -> Normalization {
        assert!(
            self.groups > 0 && self.channels.is_multiple_of(self.groups),
            "{} groups do not divide {} channels",
            self.groups,
            self.channels
        );
        let constant = |value: f64| {
            let channels = self.channels;
            Param::uninitialized(
                ParamId::new(),
                move |device: &Device, require_grad| {
                    Tensor::full([channels], value, device).set_require_grad(require_grad)
                },
                device.clone(),
                true,
                [channels].into(),
            )
        };
        Normalization { weight: constant(1.0), bias: constant(0.0), groups: self.groups, eps: self.eps }
    }
}

impl Normalization {
    /// Normalise `x`, `[batch, channels, ...]`, then apply `activation`; the shape stays.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        let y = group_norm_act(x, self.weight.val(), self.bias.val(), self.groups, self.eps, activation);
        watch::layer(&self.weight, &y);
        y
    }
}
