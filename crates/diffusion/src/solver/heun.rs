//! Heun's rule for the probability-flow equation: Euler's step, then again with the mean of both ends' slopes.
//!
//! ```text
//! z*  = z_t + (tau_s - tau_t) dz/dtau(t)
//! z_s = z_t + (tau_s - tau_t) (dz/dtau(t) + dz/dtau(s, z*)) / 2      unless sigma_s = 0
//! ```
//!
//! Source: Karras et al. 2022, algorithm 1 (the paper's clock is the noise ratio). Where sigma_s = 0 the slope is not known, and the
//! step is Euler's.

use burn::tensor::Tensor;

use super::{Advance, Clock, Solver, StepContext};
use crate::blend::blend;

/// Heun's rule, second order, two evaluations a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heun {
    /// The variable it steps in.
    pub clock: Clock,
}

impl<const D: usize> Solver<D> for Heun {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        let [from, to] = [t, s].map(|time| self.clock.read(context.process, time));
        let (kept, step) = (to.scale / from.scale, to.scale * (to.tau - from.tau));
        let slope = from.slope(&estimate);
        let euler = blend([kept, step], x.clone(), slope.clone());
        if context.process.sigma(s) == 0.0 {
            return Advance { sample: euler, estimate };
        }
        let ahead = to.slope(&context.denoiser.denoise(euler, s));
        let sample = blend([kept, step / 2.0], x, slope + ahead);
        Advance { sample, estimate }
    }
}
