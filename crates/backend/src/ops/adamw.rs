//! One step of AdamW.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::FusedOps;

/// The numbers of one AdamW step.
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
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The number of this step, from 1: it corrects the moments' bias.
    pub step: usize,
}

/// What a kernel needs of [`AdamWHyper`]: everything that does not depend on the values, in f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficients {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    /// 1 - lr λ.
    pub(crate) decay: f64,
    /// lr / (1 - β₁ᵗ).
    pub(crate) step_size: f64,
    /// 1 / √(1 - β₂ᵗ).
    pub(crate) root_scale: f64,
}

impl AdamWHyper {
    pub(crate) fn coefficients(&self) -> Coefficients {
        let t = self.step as f64;
        Coefficients {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            decay: 1.0 - self.lr * self.weight_decay,
            step_size: self.lr / (1.0 - self.beta1.powf(t)),
            root_scale: 1.0 / (1.0 - self.beta2.powf(t)).sqrt(),
        }
    }
}

/// One step of AdamW (Loshchilov and Hutter 2019, algorithm 2; PyTorch's `AdamW`) over one tensor:
///
/// m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g²,
/// θ = (1 - lr λ) θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε).
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
    assert!(hyper.step > 0, "adamw_step: steps count from 1");
    let shape = param.dims();
    assert!(
        grad.dims() == shape && first_moment.dims() == shape && second_moment.dims() == shape,
        "adamw_step: parameter {shape:?}, gradient {:?} and moments {:?}, {:?} differ in shape",
        grad.dims(),
        first_moment.dims(),
        second_moment.dims()
    );
    let (param, m, v) = <Dispatch as FusedOps>::adamw_step(
        param.into_dispatch(),
        grad.into_dispatch(),
        first_moment.into_dispatch(),
        second_moment.into_dispatch(),
        hyper,
    );
    (Tensor::from_dispatch(param), Tensor::from_dispatch(m), Tensor::from_dispatch(v))
}
