//! Euler's rule for the probability-flow equation.
//!
//! ```text
//! z_s = z_t + (tau_s - tau_t) dz/dtau(t)          in the variables of a Clock
//! ```
//!
//! In the noise ratio this is DDIM and k-diffusion's `sample_euler`; in t, on a rectified flow, SD3's sampler. Source: Karras et al. 2022,
//! equation 4.

use burn::tensor::Tensor;

use super::{Advance, Clock, Solver, StepContext};
use crate::blend::blend;

/// Euler's rule, first order, one evaluation a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Euler {
    /// The variable it steps in.
    pub clock: Clock,
}

impl<const D: usize> Solver<D> for Euler {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        let [from, to] = [t, s].map(|time| self.clock.read(context.process, time));
        let step = to.scale * (to.tau - from.tau);
        let sample = blend([to.scale / from.scale, step], x, from.slope(&estimate));
        Advance { sample, estimate }
    }
}
