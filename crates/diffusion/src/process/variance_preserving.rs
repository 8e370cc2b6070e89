//! The variance-preserving process with beta linear in time.
//!
//! ```text
//! dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw,   beta(t) = beta_min + t (beta_max - beta_min)
//! ln alpha_bar(t) = -(beta_min t + (beta_max - beta_min) t² / 2),   alpha² = alpha_bar,   sigma² = 1 - alpha_bar
//! ```
//!
//! Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, equation 11 and
//! appendix C. The limit of [`DdpmLadder`](crate::DdpmLadder) with `N beta_i` for beta and N to infinity.

use crate::error::require;
use crate::{DiffusionError, Law, Process};

/// Variance preserving in continuous time, t in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariancePreserving {
    beta_min: f64,
    beta_max: f64,
}

impl VariancePreserving {
    /// beta from `beta_min` at t = 0 to `beta_max` at t = 1.
    ///
    /// # Errors
    /// If not `0 <= beta_min <= beta_max`, or `beta_max` is 0.
    pub fn new(beta_min: f64, beta_max: f64) -> Result<Self, DiffusionError> {
        require("beta_min of the variance-preserving process", "at least 0", beta_min, beta_min >= 0.0)?;
        let holds = beta_max > 0.0 && beta_max >= beta_min;
        require(
            "beta_max of the variance-preserving process",
            "above 0 and at least beta_min",
            beta_max,
            holds,
        )?;
        Ok(Self { beta_min, beta_max })
    }

    /// beta(t).
    #[must_use]
    pub fn beta(&self, t: f64) -> f64 {
        self.beta_min + t * (self.beta_max - self.beta_min)
    }

    /// ln alpha_bar(t), minus the integral of beta.
    pub(super) fn log_alpha_bar(&self, t: f64) -> f64 {
        -t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2.0)
    }
}

/// Song et al.'s beta, 0.1 to 20.
impl Default for VariancePreserving {
    fn default() -> Self {
        Self { beta_min: 0.1, beta_max: 20.0 }
    }
}

impl Process for VariancePreserving {
    fn law(&self, t: f64) -> Law {
        Law::from_log_alpha_bar(self.log_alpha_bar(t), -self.beta(t))
    }

    fn t_min(&self) -> f64 {
        1e-3
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    /// 1: the variance of data of variance 1 is preserved.
    fn prior_std(&self) -> f64 {
        1.0
    }

    /// `999 t`, as score_sde's networks are told.
    fn network_time(&self, t: f64) -> f64 {
        999.0 * t
    }

    /// beta(t), finite at t = 0 too.
    fn diffusion_squared(&self, t: f64) -> f64 {
        self.beta(t)
    }
}
