//! Rectified flow: straight lines from noise to data.
//!
//! ```text
//! x_t = (1 - t) x_0 + t eps,   dx/dt = eps - x_0
//! ```
//!
//! Source: Liu, Gong, Liu, "Flow straight and fast", ICLR 2023, equation 1, with time turned round as in Esser et al. (Stable
//! Diffusion 3, 2024): t = 1 is noise. The same line is Lipman et al.'s conditional optimal-transport flow matching.

use crate::{Clock, Law, Process};

/// Rectified flow, t in `[0, 1]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RectifiedFlow;

impl Process for RectifiedFlow {
    fn law(&self, t: f64) -> Law {
        Law { alpha: 1.0 - t, sigma: t, alpha_dot: -1.0, sigma_dot: 1.0 }
    }

    fn t_min(&self) -> f64 {
        0.0
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    /// `1000 t`, as SD3's network is told.
    fn network_time(&self, t: f64) -> f64 {
        1000.0 * t
    }

    /// Time itself: the flow is learnt to be straight in t.
    fn clock(&self) -> Clock {
        Clock::Time
    }
}
