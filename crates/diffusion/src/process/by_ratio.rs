//! A variance-preserving process whose time is its noise ratio: any level, also beyond those of a ladder.
//!
//! ```text
//! alpha = 1 / sqrt(1 + t²),   sigma = t / sqrt(1 + t²)
//! ```
//!
//! Networks of Stable Diffusion's kind that were trained on further again at EDM's levels (sigma up to 700) are told `ln(t) / 4`.

use crate::{Clock, Law, Process};

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ByRatio {
    /// The least and the greatest noise ratio of a run.
    pub(crate) range: [f64; 2],
}

impl Process for ByRatio {
    fn law(&self, t: f64) -> Law {
        let alpha = 1.0 / t.hypot(1.0);
        let alpha_dot = -t * alpha.powi(3);
        Law { alpha, sigma: t * alpha, alpha_dot, sigma_dot: alpha.powi(3) }
    }

    fn t_min(&self) -> f64 {
        self.range[0]
    }

    fn t_max(&self) -> f64 {
        self.range[1]
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    /// `ln(t) / 4`.
    fn network_time(&self, t: f64) -> f64 {
        t.ln() / 4.0
    }

    fn clock(&self) -> Clock {
        Clock::NoiseRatio
    }
}
