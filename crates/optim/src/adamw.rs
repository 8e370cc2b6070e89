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

use burn::config::Config;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource, join_path};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{AdamWHyper, adamw_step};

/// What an [`AdamW`] is made from; the defaults are those of `torch.optim.AdamW`.
///
/// ```
/// use kiln_optim::AdamWConfig;
/// let adamw = AdamWConfig::new().with_weight_decay(0.0).build();
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

/// What [`AdamW`] remembers of one parameter; the tensors have the parameter's shape.
#[derive(Clone, Debug)]
pub struct AdamWState<const D: usize> {
    /// m, the running mean of the gradient.
    pub first_moment: Tensor<D>,
    /// v, the running mean of the squared gradient.
    pub second_moment: Tensor<D>,
    /// n, the number of steps made.
    pub step: usize,
}

const FIRST_MOMENT: &str = "first_moment";
const SECOND_MOMENT: &str = "second_moment";
const STEP: &str = "step";

// Written out, as Burn's derive names the crate `burn-pack`, which is no dependency of ours.
impl<const D: usize> RecordState for AdamWState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, FIRST_MOMENT, self.first_moment.to_data());
        out.push_tensor(prefix, SECOND_MOMENT, self.second_moment.to_data());
        out.scalars.push((join_path(prefix, STEP), self.step.into()));
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let first = source.take_tensor(prefix, FIRST_MOMENT)?;
        let second = source.take_tensor(prefix, SECOND_MOMENT)?;
        let step = source.take_scalar(prefix, STEP)?.try_into().ok()?;
        let (first_dtype, second_dtype) = (first.dtype(), second.dtype());
        Some(Self {
            first_moment: Tensor::from_data(first, (device, first_dtype)),
            second_moment: Tensor::from_data(second, (device, second_dtype)),
            step,
        })
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let AdamWState { first_moment, second_moment, step } = state.unwrap_or_else(|| AdamWState {
            first_moment: tensor.zeros_like(),
            second_moment: tensor.zeros_like(),
            step: 0,
        });
        let step = step + 1;
        let hyper = AdamWHyper {
            lr,
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            eps: self.config.epsilon,
            weight_decay: self.config.weight_decay,
            step,
        };
        let (tensor, first_moment, second_moment) =
            adamw_step(tensor, grad, first_moment, second_moment, hyper);
        (tensor, Some(AdamWState { first_moment, second_moment, step }))
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamWState {
            first_moment: state.first_moment.to_device(device),
            second_moment: state.second_moment.to_device(device),
            step: state.step,
        }
    }
}
