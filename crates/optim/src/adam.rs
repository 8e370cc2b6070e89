//! Adam, with weight decay in the gradient where it is asked for (an L2 penalty), as PyTorch defines it:
//!
//! ```text
//! g ← g + λ p
//! m ← β1 m + (1 - β1) g            v ← β2 v + (1 - β2) g²
//! p ← p - lr / (1 - β1ⁿ) · m / (√v / √(1 - β2ⁿ) + ε)
//! ```
//!
//! with n the number of steps made, this one counted. Since g is divided by its own size, so is λ p: weights with large
//! gradients hardly decay. [`AdamW`](crate::AdamW) is without that. Kingma and Ba 2015, algorithm 1; `torch.optim.Adam`.

use burn::config::Config;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{AdamWHyper, Decay, Objective};

use crate::moments::{self, AdamState, Variant};

/// What an [`Adam`] is made from; the defaults are those of `torch.optim.Adam`.
///
/// ```
/// use kiln_optim::{AdamConfig, Variant};
/// let adam = AdamConfig::new().with_weight_decay(1e-4).with_variant(Variant::AmsGrad).build();
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct AdamConfig {
    /// β1, the decay of the gradient's running mean.
    #[config(default = 0.9)]
    pub beta1: f64,
    /// β2, the decay of the squared gradient's running mean.
    #[config(default = 0.999)]
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// λ, which takes λ p into the gradient.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Which second moment scales a step.
    #[config(default = "Variant::Standard")]
    pub variant: Variant,
    /// Down or up the gradient.
    #[config(default = "Objective::Minimise")]
    pub objective: Objective,
}

impl AdamConfig {
    /// The optimizer of one tensor, for [`NamedOptimizer::new`](crate::NamedOptimizer::new).
    #[must_use]
    pub fn build(&self) -> Adam {
        Adam { config: self.clone() }
    }

    /// The optimizer wrapped as Burn's Learner takes it.
    #[must_use]
    pub fn init(&self) -> ModuleOptimizer {
        self.build().into()
    }
}

/// The Adam optimizer of one tensor; the formula and its source are those of [`AdamConfig`]'s module.
///
/// It implements [`burn::optim::Optimizer`]. The step is [`kiln_backend::ops::adamw_step`]: one pass over memory,
/// in place where no one else holds the tensor.
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
}

impl Optimizer for Adam {
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
            decay: Decay::Coupled,
            objective: self.config.objective,
            step: 0,
        };
        moments::step(self.config.variant, hyper, tensor, grad, state)
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        state.to_device(device)
    }
}
