//! EDM's process: the noise level is the time.
//!
//! ```text
//! alpha = 1,   sigma(t) = t,   t from sigma_min to sigma_max
//! ```
//!
//! Variance exploding with another clock. Source: Karras et al. 2022, table 1; the network is told `ln(t) / 4`.

use crate::error::require;
use crate::{Clock, DiffusionError, Law, Process};

/// EDM's process; 0.002 to 80 in the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edm {
    sigma_min: f64,
    sigma_max: f64,
}

impl Edm {
    /// Noise levels from `sigma_min` to `sigma_max`; the data is at t = 0.
    ///
    /// # Errors
    /// If not `0 < sigma_min < sigma_max`.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self, DiffusionError> {
        require("sigma_min of EDM's process", "above 0", sigma_min, sigma_min > 0.0)?;
        require("sigma_max of EDM's process", "above sigma_min", sigma_max, sigma_max > sigma_min)?;
        Ok(Self { sigma_min, sigma_max })
    }
}

/// The paper's levels.
impl Default for Edm {
    fn default() -> Self {
        Self { sigma_min: 0.002, sigma_max: 80.0 }
    }
}

impl Process for Edm {
    fn law(&self, t: f64) -> Law {
        Law { alpha: 1.0, sigma: t, alpha_dot: 0.0, sigma_dot: 1.0 }
    }

    fn t_min(&self) -> f64 {
        self.sigma_min
    }

    fn t_max(&self) -> f64 {
        self.sigma_max
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    /// `ln(t) / 4`.
    fn network_time(&self, t: f64) -> f64 {
        t.ln() / 4.0
    }

    /// The noise ratio, which is the time itself.
    fn clock(&self) -> Clock {
        Clock::NoiseRatio
    }
}
