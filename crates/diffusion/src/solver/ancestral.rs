//! Ancestral sampling: DDPM, SMLD and DDIM as one rule.
//!
//! ```text
//! x_s = alpha_s x_0_hat + sqrt(sigma_s² - d²) eps_hat + d z
//! d²  = eta² (sigma_s² / sigma_t²) (sigma_t² - (alpha_t / alpha_s)² sigma_s²)
//! ```
//!
//! With eta = 1, `d²` is the variance of q(x_s | x_t, x_0): DDPM's sampler on a variance-preserving process (Ho et al. 2020, equation 7;
//! diffusers' "fixed small"), SMLD's on a variance-exploding one (Song et al. 2021, equation 47). With eta = 0 nothing is random: DDIM (Song,
//! Meng, Ermon 2021, equations 12 and 16), which is Euler's rule in sigma / alpha and, on a rectified flow, Euler's rule in t.

use burn::tensor::Tensor;

use super::{Advance, Solver, StepContext};
use crate::blend::{blend, scale};

/// DDIM for `eta` 0, DDPM or SMLD for 1. First order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ancestral {
    /// The share of the posterior's standard deviation that is drawn anew, in `[0, 1]`.
    pub eta: f64,
}

impl<const D: usize> Solver<D> for Ancestral {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let estimate = context.denoiser.denoise(x, t);
        let (from, to) = (context.process.law(t), context.process.law(s));
        let transition = from.sigma.powi(2) - (from.alpha / to.alpha * to.sigma).powi(2);
        let fresh = self.eta * to.sigma / from.sigma * transition.max(0.0).sqrt();
        let kept = (to.sigma.powi(2) - fresh.powi(2)).max(0.0).sqrt();
        let mut sample = blend([to.alpha, kept], estimate.data.clone(), estimate.noise.clone());
        // No draw where none is needed, so that a deterministic run asks for no noise.
        if fresh > 0.0 {
            sample = sample + scale(fresh, (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}
