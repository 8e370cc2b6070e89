//! Sampling with a network that goes to the data in one step: consistency models, LCM and TCD.
//!
//! ```text
//! consistency:  x_s = alpha_s d + sqrt(sigma_s² - sigma_floor²) z          d: the data estimate, or LCM's c_out x_0_hat + c_skip x
//! trajectory:   x_s'= alpha_s' x_0_hat + sigma_s' eps_hat,  s' = (1 - gamma) s
//!               x_s = (alpha_s / alpha_s') x_s' + sqrt(sigma_s² - (alpha_s / alpha_s')² sigma_s'²) z
//! ```
//!
//! No noise is added in the last step. LCM's scalings are `c_skip = d² / (k² + d²)`, `c_out = k / sqrt(k² + d²)` with k the network's time times 10
//! and d = 0.5.
//!
//! Sources: Song, Dhariwal, Chen, Sutskever, "Consistency models", 2023, algorithm 1; Luo et al., "Latent consistency models", 2023,
//! algorithm 3 and equation 9; Zheng et al., "Trajectory consistency distillation", 2024, algorithm 4.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Advance, Solver, StepContext};
use crate::Process;
use crate::blend::{blend, scale};

/// LCM's mixture of the sample and the data estimate, which makes the network the identity at time 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boundary {
    /// d.
    pub sigma_data: f64,
    /// What the network's time is multiplied by.
    pub timestep_scaling: f64,
}

impl Default for Boundary {
    fn default() -> Self {
        Self { sigma_data: 0.5, timestep_scaling: 10.0 }
    }
}

/// Multistep sampling of a consistency model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consistency {
    /// LCM's mixture; `None` where the denoiser has its boundary condition built in.
    pub boundary: Option<Boundary>,
    /// The least noise that the model was trained with: what a clean sample is taken to hold already.
    pub sigma_floor: f64,
}

impl<const D: usize> Solver<D> for Consistency {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        let clean = match self.boundary {
            None => estimate.data.clone(),
            Some(Boundary { sigma_data, timestep_scaling }) => {
                let k = timestep_scaling * context.process.network_time(t);
                let square = k * k + sigma_data * sigma_data;
                blend([k / square.sqrt(), sigma_data * sigma_data / square], estimate.data.clone(), x)
            }
        };
        if context.remaining == 0 {
            return Advance { sample: clean, estimate };
        }
        let to = context.process.law(s);
        let fresh = (to.sigma * to.sigma - self.sigma_floor * self.sigma_floor).max(0.0).sqrt();
        let sample = scale(to.alpha, clean) + scale(fresh, (context.noise)(0));
        Advance { sample, estimate }
    }
}

/// Strategic stochastic sampling of a trajectory consistency model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trajectory {
    /// How far below s a step aims before noise is added again: 0 adds none, 1 aims at the data.
    pub gamma: f64,
}

impl Default for Trajectory {
    fn default() -> Self {
        Self { gamma: 0.3 }
    }
}

/// `(1 - gamma) s`: on a ladder in whole rungs, counted as the network counts them.
fn aim(process: &dyn Process, s: f64, gamma: f64) -> f64 {
    match process.rungs() {
        Some(rungs) => {
            let index = process.network_time(s).max(0.0);
            (((1.0 - gamma) * index + 1e-9).floor() + 1.0) / rungs as f64
        }
        None => process.t_min() + (1.0 - gamma) * (s - process.t_min()),
    }
}

impl<const D: usize> Solver<D> for Trajectory {
    type State = ();

    fn step(&self, context: &mut StepContext<'_, D>, _: &mut (), x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        let estimate = context.denoiser.denoise(x, t);
        let to = context.process.law(s);
        let below = context.process.law(aim(context.process, s, self.gamma).min(s));
        let mut sample = blend([below.alpha, below.sigma], estimate.data.clone(), estimate.noise.clone());
        if self.gamma > 0.0 && context.remaining > 0 {
            let kept = to.alpha / below.alpha;
            let fresh = (to.sigma.powi(2) - (kept * below.sigma).powi(2)).max(0.0).sqrt();
            sample = scale(kept, sample) + scale(fresh, (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}
