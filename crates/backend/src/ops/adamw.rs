//! One step of Adam and its kin.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::FusedOps;

/// Where a step puts the decay λ of the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decay {
    /// Beside the gradient, AdamW: θ ← θ - lr λ θ.
    #[default]
    Decoupled,
    /// Beside the gradient, and only where the step goes the same way: θ ← θ - lr λ 1\[m θ ≥ 0\] θ.
    Cautious,
    /// In the gradient, Adam with an L2 penalty: g ← g + λ θ.
    Coupled,
}

/// Which way a step goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Objective {
    /// Down the gradient.
    #[default]
    Minimise,
    /// Up the gradient: g ← -g, before anything else.
    Maximise,
}

/// The numbers of one step; the defaults are those of PyTorch's `AdamW`, at its first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWHyper {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// λ, the decay of the weights.
    pub weight_decay: f64,
    /// Where the decay goes.
    pub decay: Decay,
    /// Which way the step goes.
    pub objective: Objective,
    /// The number of this step, from 1: it corrects the moments' bias.
    pub step: usize,
}

impl Default for AdamWHyper {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
            decay: Decay::Decoupled,
            objective: Objective::Minimise,
            step: 1,
        }
    }
}

/// What a kernel needs of [`AdamWHyper`]: everything that does not depend on the values, in f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficients {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    /// 1, or -1 to go up.
    pub(crate) sign: f64,
    /// λ where it goes into the gradient, else 0.
    pub(crate) penalty: f64,
    /// lr λ where it goes beside the gradient, else 0.
    pub(crate) decay: f64,
    /// lr / (1 - β₁ᵗ).
    pub(crate) step_size: f64,
    /// 1 / √(1 - β₂ᵗ).
    pub(crate) root_scale: f64,
}

impl AdamWHyper {
    pub(crate) fn coefficients(&self) -> Coefficients {
        let t = self.step as f64;
        let (penalty, decay) = match self.decay {
            Decay::Coupled => (self.weight_decay, 0.0),
            Decay::Decoupled | Decay::Cautious => (0.0, self.lr * self.weight_decay),
        };
        Coefficients {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            sign: match self.objective {
                Objective::Minimise => 1.0,
                Objective::Maximise => -1.0,
            },
            penalty,
            decay,
            step_size: self.lr / (1.0 - self.beta1.powf(t)),
            root_scale: 1.0 / (1.0 - self.beta2.powf(t)).sqrt(),
        }
    }
}

/// One step of Adam over one tensor, by default AdamW (Loshchilov and Hutter 2019, algorithm 2; PyTorch's `AdamW`):
///
/// m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g²,
/// θ = (1 - lr λ) θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε);
///
/// what [`Decay`] and [`Objective`] change in it stands there. Cautious decay: Chen et al., "Cautious Weight Decay", 2025;
/// the sign of the update is that of m. Decay in the gradient: Kingma and Ba 2015 with an L2 penalty, PyTorch's `Adam`.
///
/// Gives the new (parameter, first moment, second moment), computed in place where the tensors handed in are not
/// shared. It is no differentiable operation: hand in tensors without autodiff.
///
/// # Panics
/// If the four shapes differ, or `hyper.step` is 0.
pub fn adamw_step<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    first_moment: Tensor<D>,
    second_moment: Tensor<D>,
    hyper: AdamWHyper,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    check(&param, [&grad, &first_moment, &second_moment], hyper);
    let (param, m, v) = <Dispatch as FusedOps>::adamw_step(
        param.into_dispatch(),
        grad.into_dispatch(),
        first_moment.into_dispatch(),
        second_moment.into_dispatch(),
        hyper,
    );
    (Tensor::from_dispatch(param), Tensor::from_dispatch(m), Tensor::from_dispatch(v))
}

/// [`adamw_step`] with the largest second moment so far in the place of the last one (Reddi et al., "On the convergence of
/// Adam and beyond", 2018; PyTorch's `amsgrad=True`):
///
/// w = max(w, v), θ = (1 - lr λ) θ - lr / (1 - β₁ᵗ) · m / (√w / √(1 - β₂ᵗ) + ε).
///
/// Gives the new (parameter, first moment, second moment, largest second moment).
///
/// # Panics
/// If the five shapes differ, or `hyper.step` is 0.
pub fn amsgrad_step<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    first_moment: Tensor<D>,
    second_moment: Tensor<D>,
    largest: Tensor<D>,
    hyper: AdamWHyper,
) -> (Tensor<D>, Tensor<D>, Tensor<D>, Tensor<D>) {
    check(&param, [&grad, &first_moment, &second_moment], hyper);
    check(&param, [&grad, &first_moment, &largest], hyper);
    let (param, m, v, w) = <Dispatch as FusedOps>::amsgrad_step(
        param.into_dispatch(),
        grad.into_dispatch(),
        first_moment.into_dispatch(),
        second_moment.into_dispatch(),
        largest.into_dispatch(),
        hyper,
    );
    (
        Tensor::from_dispatch(param),
        Tensor::from_dispatch(m),
        Tensor::from_dispatch(v),
        Tensor::from_dispatch(w),
    )
}

#[track_caller]
fn check<const D: usize>(param: &Tensor<D>, [grad, m, v]: [&Tensor<D>; 3], hyper: AdamWHyper) {
    assert!(hyper.step > 0, "adamw_step: steps count from 1");
    let shape = param.dims();
    assert!(
        grad.dims() == shape && m.dims() == shape && v.dims() == shape,
        "adamw_step: parameter {shape:?}, gradient {:?} and moments {:?}, {:?} differ in shape",
        grad.dims(),
        m.dims(),
        v.dims()
    );
}
