//! The sub-variance-preserving process: VP's drift with less noise.
//!
//! ```text
//! dx = -beta(t) x / 2 dt + sqrt(beta(t) (1 - alpha_bar(t)²)) dw
//! alpha² = alpha_bar,   sigma = 1 - alpha_bar
//! ```
//!
//! Source: Song et al., ICLR 2021, equations 13 and 29.

use super::VariancePreserving;
use crate::{DiffusionError, Law, Process};

/// Sub-VP in continuous time, t in `[0, 1]`: its variance stays below that of [`VariancePreserving`] with the same beta.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubVariancePreserving {
    bound: VariancePreserving,
}

impl SubVariancePreserving {
    /// beta from `beta_min` at t = 0 to `beta_max` at t = 1.
    ///
    /// # Errors
    /// As [`VariancePreserving::new`].
    pub fn new(beta_min: f64, beta_max: f64) -> Result<Self, DiffusionError> {
        Ok(Self { bound: VariancePreserving::new(beta_min, beta_max)? })
    }
}

impl Process for SubVariancePreserving {
    fn law(&self, t: f64) -> Law {
        let (log, log_dot) = (self.bound.log_alpha_bar(t), -self.bound.beta(t));
        let alpha = (log / 2.0).exp();
        Law { alpha, sigma: -log.exp_m1(), alpha_dot: alpha * log_dot / 2.0, sigma_dot: -log.exp() * log_dot }
    }

    fn t_min(&self) -> f64 {
        self.bound.t_min()
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    fn prior_std(&self) -> f64 {
        1.0
    }

    /// `999 t`, as score_sde's networks are told.
    fn network_time(&self, t: f64) -> f64 {
        999.0 * t
    }
}
