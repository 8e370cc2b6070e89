//! DPM-Solver++(2M): an exponential integrator of the data estimate, with one step of memory.
//!
//! With `lambda = ln(alpha / sigma)`, `h = lambda_s - lambda_t` and the previous step's `h_0`, `r = h_0 / h`:
//!
//! ```text
//! D   = (1 + 1 / (2 r)) x_0_hat(t) - 1 / (2 r) x_0_hat(t_previous)
//! x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D
//! ```
//!
//! Source: Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++", 2022, algorithm 2. The first step, and the last one to clean data (where h is
//! infinite), take D = x_0_hat(t).

use burn::tensor::Tensor;

use super::{Advance, SavedState, Solver, SolverState, StepContext};
use crate::blend::blend;

/// DPM-Solver++(2M), second order, one evaluation a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpmSolverPlusPlus2M;

/// The data estimate of the step before, with its time.
#[derive(Clone, Debug, Default)]
pub struct Previous<const D: usize>(Option<(f64, Tensor<D>)>);

impl<const D: usize> SolverState<D> for Previous<D> {
    const KEEPS: &'static str = "the data estimate of the step before and its time";

    fn save(&self) -> SavedState<D> {
        let (times, tensors) = self.0.clone().into_iter().unzip();
        SavedState { times, tensors }
    }

    fn load(SavedState { mut times, mut tensors }: SavedState<D>) -> Option<Self> {
        let previous = times.pop().zip(tensors.pop());
        (times.is_empty() && tensors.is_empty()).then_some(Self(previous))
    }
}

impl<const D: usize> Solver<D> for DpmSolverPlusPlus2M {
    type State = Previous<D>;

    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        state: &mut Previous<D>,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        let lambda = |time: f64| context.process.log_snr(time) / 2.0;
        let (from, to) = (context.process.law(t), context.process.law(s));
        let h = lambda(s) - lambda(t);
        let data = match state.0.take() {
            Some((before, data_before)) if h.is_finite() => {
                // From alpha = 0 the step before was infinitely long: its estimate then has no weight.
                let half = h / (2.0 * (lambda(t) - lambda(before)));
                blend([1.0 + half, -half], estimate.data.clone(), data_before)
            }
            _ => estimate.data.clone(),
        };
        state.0 = Some((t, estimate.data.clone()));
        let sample = blend([to.sigma / from.sigma, -to.alpha * (-h).exp_m1()], x, data);
        Advance { sample, estimate }
    }
}
