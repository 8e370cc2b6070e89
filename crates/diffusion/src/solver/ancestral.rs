//! Ancestral sampling: DDPM, SMLD and DDIM as one rule.
//!
//! ```text
//! x_s = alpha_s x_0_hat + sqrt(sigma_s² - d²) eps_hat + d z
//! d²  = eta² (sigma_s² / sigma_t²) (sigma_t² - (alpha_t / alpha_s)² sigma_s²)
//! ```
//!
//! The variance of what is drawn may be another one, with the mean as it is ([`Variance`]).
//!
//! With eta = 1, `d²` is the variance of q(x_s | x_t, x_0): DDPM's sampler on a variance-preserving process (Ho et al. 2020, equation 7;
//! diffusers' "fixed small"), SMLD's on a variance-exploding one (Song et al. 2021, equation 47). With eta = 0 nothing is random: DDIM (Song,
//! Meng, Ermon 2021, equations 12 and 16), which is Euler's rule in sigma / alpha and, on a rectified flow, Euler's rule in t.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Advance, Solver, StepContext};
use crate::blend::{blend, scale};

/// The variance of the noise that is drawn, between its two bounds (Ho et al. 2020, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// That of q(x_s | x_t, x_0): the least, right for data of one point. diffusers: "fixed small".
    #[default]
    Posterior,
    /// `sigma_t² - (alpha_t / alpha_s)² sigma_s²`: the greatest, right for data of variance 1. diffusers: "fixed large".
    Transition,
    /// Between them, as the network says: `exp(u ln greatest + (1 - u) ln least)`, `u = (output + 1) / 2` (Nichol, Dhariwal 2021,
    /// equation 15).
    Learned,
}

/// DDIM for `eta` 0, DDPM or SMLD for 1. First order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ancestral {
    /// The share of the posterior's standard deviation that is drawn anew, in `[0, 1]`.
    pub eta: f64,
    /// The variance of what is drawn.
    pub variance: Variance,
}

/// Below this a variance counts as this, for its logarithm.
const LEAST_VARIANCE: f64 = 1e-20;

impl<const D: usize> Solver<D> for Ancestral {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let (estimate, spread) = context.denoiser.denoise_with_spread(x, t);
        let (from, to) = (context.process.law(t), context.process.law(s));
        let transition = (from.sigma.powi(2) - (from.alpha / to.alpha * to.sigma).powi(2)).max(0.0);
        // Upwards, as in inversion, there is nothing to draw, and below may be no noise at all.
        let posterior = if transition > 0.0 { (to.sigma / from.sigma).powi(2) * transition } else { 0.0 };
        let fresh = self.eta * posterior.sqrt();
        let kept = (to.sigma.powi(2) - fresh.powi(2)).max(0.0).sqrt();
        let mut sample = blend([to.alpha, kept], estimate.data.clone(), estimate.noise.clone());
        // No draw where none is needed, so that a deterministic run asks for no noise; none from the first rung to the data.
        let last_rung = t <= context.process.t_min();
        match (self.variance, spread) {
            (Variance::Learned, Some(spread)) if !last_rung => {
                let [least, greatest] = [posterior, transition].map(|v| v.max(LEAST_VARIANCE).ln());
                let log = (spread + 1.0) * ((greatest - least) / 2.0) + least;
                sample = sample + (log * 0.5).exp() * (context.noise)(0) * self.eta;
            }
            (Variance::Transition, _) if !last_rung => {
                sample = sample + scale(self.eta * transition.sqrt(), (context.noise)(0));
            }
            _ if fresh > 0.0 => sample = sample + scale(fresh, (context.noise)(0)),
            _ => {}
        }
        Advance { sample, estimate }
    }
}
