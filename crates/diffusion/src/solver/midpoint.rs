//! The midpoint rule in the noise ratio: k-diffusion's DPM2, with or without fresh noise.
//!
//! In `z = x / alpha` and `rho = sigma / alpha`, towards `rho_d` (that of s, or less where noise is added after):
//!
//! ```text
//! rho_m = sqrt(rho_t rho_d)
//! z_m   = z_t + (rho_m - rho_t) eps_hat(z_t, t)
//! z_s   = z_t + (rho_d - rho_t) eps_hat(z_m, m) + rho_u z',     rho_u² = eta² rho_s² (rho_t² - rho_s²) / rho_t²,  rho_d² = rho_s² - rho_u²
//! ```
//!
//! Source: Karras et al. 2022, section 3 and appendix D.2 (alpha = 1/2 there) with a geometric middle, as DPM-Solver-2 has it (Lu et al. 2022);
//! the noise as in ancestral sampling. A step from pure noise or to clean data is Euler's.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Advance, Solver, StepContext};
use crate::blend::{blend, scale};

/// The midpoint rule, second order, two evaluations a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Midpoint {
    /// The share of the posterior's standard deviation that is drawn anew, in `[0, 1]`; 0 for none.
    pub eta: f64,
}

impl<const D: usize> Solver<D> for Midpoint {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        let (from, to) = (context.process.law(t), context.process.law(s));
        if from.alpha == 0.0 {
            // The noise ratio is infinite here.
            return Advance { sample: estimate.at(&to), estimate };
        }
        let (rho, rho_s) = (from.noise_ratio(), to.noise_ratio());
        let up = self.eta * rho_s / rho * (rho * rho - rho_s * rho_s).max(0.0).sqrt();
        let down = (rho_s * rho_s - up * up).max(0.0).sqrt();
        let slope = if down > 0.0 {
            let middle = (rho * down).sqrt();
            let m = context.process.time_at_log_snr(-2.0 * middle.ln());
            let at = context.process.law(m);
            // The middle's time may be off by rounding: its own ratio counts.
            let step = at.alpha * (at.noise_ratio() - rho);
            let x_m = blend([at.alpha / from.alpha, step], x.clone(), estimate.noise.clone());
            context.denoiser.denoise(x_m, m).noise
        } else {
            estimate.noise.clone()
        };
        let mut sample = blend([to.alpha / from.alpha, to.alpha * (down - rho)], x, slope);
        if up > 0.0 {
            sample = sample + scale(to.alpha * up, (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}
