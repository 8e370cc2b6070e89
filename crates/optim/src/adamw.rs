//! AdamW, Adam with decoupled weight decay, as PyTorch defines it:
//!
//! ```text
//! p ← p (1 - lr λ)
//! m ← β1 m + (1 - β1) g            v ← β2 v + (1 - β2) g²
//! p ← p - lr / (1 - β1ⁿ) · m / (√v / √(1 - β2ⁿ) + ε)
//! ```
//!
//! with n the number of steps made, this one counted. Loshchilov and Hutter, "Decoupled Weight Decay
//! Regularization", 2019, algorithm 2; `torch.optim.AdamW`.
//!
//! Cautious decay ([`DecayRule::Cautious`]) leaves alone each weight that the step would make larger:
//!
//! ```text
//! p ← p (1 - lr λ) where m p ≥ 0, else p            with m the new one, p the old one
//! ```
//!
//! Chen et al., "Cautious Weight Decay", 2025 (arXiv 2510.12402), whose update u has the sign of m. PyTorch's AdamW does
//! not have it.

use burn::config::Config;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{AdamWHyper, Decay, Objective};
use serde::{Deserialize, Serialize};

use crate::moments::{self, AdamState, Variant};

/// Which weights a step of [`AdamW`] lets decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DecayRule {
    /// All of them.
    #[default]
    Always,
    /// Those that the step without decay makes smaller, or leaves alone.
    Cautious,
}

/// What an [`AdamW`] is made from; the defaults are those of `torch.optim.AdamW`.
///
/// ```
/// use kiln_optim::{AdamWConfig, DecayRule};
/// let adamw = AdamWConfig::new().with_weight_decay(0.1).with_decay_rule(DecayRule::Cautious).build();
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct AdamWConfig {
    /// β1, the decay of the gradient's running mean.
    #[config(default = 0.9)]
    pub beta1: f64,
    /// β2, the decay of the squared gradient's running mean.
    #[config(default = 0.999)]
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// λ, the decay of the weights: each step takes the share `lr · λ` of them.
    #[config(default = 1e-2)]
    pub weight_decay: f64,
    /// Which weights decay.
    #[config(default = "DecayRule::Always")]
    pub decay_rule: DecayRule,
    /// Which second moment scales a step.
    #[config(default = "Variant::Standard")]
    pub variant: Variant,
    /// Down or up the gradient.
    #[config(default = "Objective::Minimise")]
    pub objective: Objective,
}

impl AdamWConfig {
    /// The optimizer of one tensor, for [`NamedOptimizer::new`](crate::NamedOptimizer::new).
    #[must_use]
    pub fn build(&self) -> AdamW {
        AdamW { config: self.clone() }
    }

    /// The optimizer wrapped as Burn's Learner takes it.
    #[must_use]
    pub fn init(&self) -> ModuleOptimizer {
        self.build().into()
    }
}

/// The AdamW optimizer of one tensor; the formula and its source are those of [`AdamWConfig`]'s module.
///
/// It implements [`burn::optim::Optimizer`]. The step is [`kiln_backend::ops::adamw_step`]: one pass over memory,
/// in place where no one else holds the tensor.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let hyper = AdamWHyper {
            lr,
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            eps: self.config.epsilon,
            weight_decay: self.config.weight_decay,
            decay: match self.config.decay_rule {
                DecayRule::Always => Decay::Decoupled,
                DecayRule::Cautious => Decay::Cautious,
            },
            objective: self.config.objective,
            step: 0,
        };
        moments::step(self.config.variant, hyper, tensor, grad, state)
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        state.to_device(device)
    }
}
