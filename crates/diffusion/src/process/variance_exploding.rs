//! The variance-exploding process: noise grows geometrically, the data stays.
//!
//! ```text
//! dx = g(t) dw,   alpha = 1,   sigma(t) = sigma_min (sigma_max / sigma_min)^t
//! ```
//!
//! Source: Song et al., ICLR 2021, equation 9 and appendix C. SMLD's L noise levels are this process at `t = i / (L - 1)`.

use crate::error::require;
use crate::{DiffusionError, Law, Process};

/// Variance exploding in continuous time, t in `[0, 1]`. Even at t = 0 noise of `sigma_min` is there, so no time is clean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VarianceExploding {
    sigma_min: f64,
    sigma_max: f64,
}

impl VarianceExploding {
    /// sigma from `sigma_min` at t = 0 to `sigma_max` at t = 1.
    ///
    /// # Errors
    /// If not `0 < sigma_min < sigma_max`.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self, DiffusionError> {
        require("sigma_min of the variance-exploding process", "above 0", sigma_min, sigma_min > 0.0)?;
        let holds = sigma_max > sigma_min;
        require("sigma_max of the variance-exploding process", "above sigma_min", sigma_max, holds)?;
        Ok(Self { sigma_min, sigma_max })
    }
}

/// Song et al.'s levels for CIFAR-10, 0.01 to 50.
impl Default for VarianceExploding {
    fn default() -> Self {
        Self { sigma_min: 0.01, sigma_max: 50.0 }
    }
}

impl Process for VarianceExploding {
    fn law(&self, t: f64) -> Law {
        let growth = (self.sigma_max / self.sigma_min).ln();
        let sigma = self.sigma_min * (growth * t).exp();
        Law { alpha: 1.0, sigma, alpha_dot: 0.0, sigma_dot: growth * sigma }
    }

    fn t_min(&self) -> f64 {
        0.0
    }

    fn clean_time(&self) -> Option<f64> {
        None
    }

    /// `999 t`: the rung among a thousand geometric levels.
    fn network_time(&self, t: f64) -> f64 {
        999.0 * t
    }
}
