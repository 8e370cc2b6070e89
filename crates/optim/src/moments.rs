//! What Adam and AdamW share: the two moments of the gradient, kept for each parameter.
//!
//! ```text
//! m ← β1 m + (1 - β1) g            v ← β2 v + (1 - β2) g²
//! p ← p - lr / (1 - β1ⁿ) · m / (√v / √(1 - β2ⁿ) + ε)
//! ```
//!
//! with n the number of steps made, this one counted. Kingma and Ba, "Adam: a method for stochastic optimization",
//! 2015, algorithm 1. AMSGrad has the largest v so far under the root: Reddi, Kale and Kumar, "On the convergence of Adam
//! and beyond", 2018.

use burn::optim::{RecordState, StateSink, StateSource, join_path};
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops::{AdamWHyper, adamw_step, amsgrad_step};
use serde::{Deserialize, Serialize};

/// Which second moment scales a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Variant {
    /// v, the running mean of the squared gradient.
    #[default]
    Standard,
    /// The largest v so far: PyTorch's `amsgrad=True`.
    AmsGrad,
}

/// What [`Adam`](crate::Adam) and [`AdamW`](crate::AdamW) remember of one parameter; the tensors have its shape.
#[derive(Clone, Debug)]
pub struct AdamState<const D: usize> {
    /// m, the running mean of the gradient.
    pub first_moment: Tensor<D>,
    /// v, the running mean of the squared gradient.
    pub second_moment: Tensor<D>,
    /// The largest v so far, under [`Variant::AmsGrad`].
    pub largest_second_moment: Option<Tensor<D>>,
    /// n, the number of steps made.
    pub step: usize,
}

pub(crate) const FIRST_MOMENT: &str = "first_moment";
pub(crate) const SECOND_MOMENT: &str = "second_moment";
pub(crate) const LARGEST_SECOND_MOMENT: &str = "largest_second_moment";
pub(crate) const STEP: &str = "step";

impl<const D: usize> AdamState<D> {
    pub(crate) fn to_device(&self, device: &Device) -> Self {
        let moved = |tensor: &Tensor<D>| tensor.clone().to_device(device);
        Self {
            first_moment: moved(&self.first_moment),
            second_moment: moved(&self.second_moment),
            largest_second_moment: self.largest_second_moment.as_ref().map(moved),
            step: self.step,
        }
    }
}

/// One step of `hyper`, whose count is taken from the state.
pub(crate) fn step<const D: usize>(
    variant: Variant,
    hyper: AdamWHyper,
    param: Tensor<D>,
    grad: Tensor<D>,
    state: Option<AdamState<D>>,
) -> (Tensor<D>, Option<AdamState<D>>) {
    let AdamState { first_moment: m, second_moment: v, largest_second_moment, step } =
        state.unwrap_or_else(|| AdamState {
            first_moment: param.zeros_like(),
            second_moment: param.zeros_like(),
            largest_second_moment: None,
            step: 0,
        });
    let step = step + 1;
    let hyper = AdamWHyper { step, ..hyper };
    let (param, first_moment, second_moment, largest_second_moment) = match variant {
        Variant::Standard => {
            let (param, m, v) = adamw_step(param, grad, m, v, hyper);
            (param, m, v, None)
        }
        Variant::AmsGrad => {
            let largest = largest_second_moment.unwrap_or_else(|| v.zeros_like());
            let (param, m, v, largest) = amsgrad_step(param, grad, m, v, largest, hyper);
            (param, m, v, Some(largest))
        }
    };
    (param, Some(AdamState { first_moment, second_moment, largest_second_moment, step }))
}

// Written out, as Burn's derive names the crate `burn-pack`, which is no dependency of ours.
impl<const D: usize> RecordState for AdamState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, FIRST_MOMENT, self.first_moment.to_data());
        out.push_tensor(prefix, SECOND_MOMENT, self.second_moment.to_data());
        if let Some(largest) = &self.largest_second_moment {
            out.push_tensor(prefix, LARGEST_SECOND_MOMENT, largest.to_data());
        }
        out.scalars.push((join_path(prefix, STEP), self.step.into()));
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let first = source.take_tensor(prefix, FIRST_MOMENT)?;
        let second = source.take_tensor(prefix, SECOND_MOMENT)?;
        let largest = source.take_tensor(prefix, LARGEST_SECOND_MOMENT);
        let step = source.take_scalar(prefix, STEP)?.try_into().ok()?;
        let tensor = |data: TensorData| {
            let dtype = data.dtype();
            Tensor::from_data(data, (device, dtype))
        };
        Some(Self {
            first_moment: tensor(first),
            second_moment: tensor(second),
            largest_second_moment: largest.map(tensor),
            step,
        })
    }
}
