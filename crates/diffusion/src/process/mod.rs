//! Processes: how data becomes noise.

mod by_ratio;
mod config;
mod edm;
mod ladder;
mod linear_sde;
mod nonlinear_sde;
mod quadrature;
mod rectified_flow;
mod sub_variance_preserving;
mod variance_exploding;
mod variance_preserving;

use std::fmt::Debug;

pub(crate) use by_ratio::ByRatio;
pub use config::{PROCESSES, ProcessConfig, ProcessEntry};
pub use edm::Edm;
pub use ladder::{BetaSchedule, DdpmLadder};
pub use linear_sde::LinearSde;
pub use nonlinear_sde::NonlinearSde;
pub use rectified_flow::RectifiedFlow;
pub use sub_variance_preserving::SubVariancePreserving;
pub use variance_exploding::VarianceExploding;
pub use variance_preserving::VariancePreserving;

use crate::{Clock, Law};

/// A law of state `x_t = alpha(t) x_0 + sigma(t) eps`, on the host in f64.
///
/// Time runs from data (small t) to noise ([`Process::t_max`]). Only [`Process::law`] and the range must be given; drift, diffusion and
/// signal-to-noise ratio follow. The forward equation that has this law is `dx = f(t) x dt + g(t) dw`.
///
/// ```
/// use kiln_diffusion::{Process, VariancePreserving};
///
/// let process = VariancePreserving::default();
/// let law = process.law(0.5);
/// assert!((law.alpha.powi(2) + law.sigma.powi(2) - 1.0).abs() < 1e-12);
/// // g² is beta(t), here half-way between 0.1 and 20.
/// assert!((process.diffusion_squared(0.5) - 10.05).abs() < 1e-9);
/// ```
pub trait Process: Debug + Send + Sync {
    /// alpha, sigma and their derivatives at t.
    fn law(&self, t: f64) -> Law;

    /// The earliest time that networks are trained at.
    fn t_min(&self) -> f64;

    /// The time of (almost) pure noise, where sampling starts.
    fn t_max(&self) -> f64 {
        1.0
    }

    /// The time at which `x_t` is the data itself, where there is one: a sampler's last step may go there.
    fn clean_time(&self) -> Option<f64>;

    /// The standard deviation of `x` at [`Process::t_max`]: what the starting noise is multiplied by.
    fn prior_std(&self) -> f64 {
        self.law(self.t_max()).sigma
    }

    /// The number that a network of this process is told for t: the index on DDPM's ladder, or t scaled to a like range.
    fn network_time(&self, t: f64) -> f64;

    /// How many rungs the ladder has, for a process that lives on one: rung `i` is at time `(i + 1) / rungs`.
    fn rungs(&self) -> Option<usize> {
        None
    }

    /// The variable in which solvers of the ordinary differential equation take their straight lines, if not told otherwise: the angle,
    /// which has no pole.
    fn clock(&self) -> Clock {
        Clock::Angle
    }

    /// alpha(t).
    fn alpha(&self, t: f64) -> f64 {
        self.law(t).alpha
    }

    /// sigma(t).
    fn sigma(&self, t: f64) -> f64 {
        self.law(t).sigma
    }

    /// The drift's coefficient `f = alpha' / alpha`. Infinite where alpha is 0.
    fn drift(&self, t: f64) -> f64 {
        let law = self.law(t);
        law.alpha_dot / law.alpha
    }

    /// The diffusion's square `g² = 2 sigma (sigma' - f sigma)`.
    fn diffusion_squared(&self, t: f64) -> f64 {
        let law = self.law(t);
        2.0 * law.sigma * (law.sigma_dot - self.drift(t) * law.sigma)
    }

    /// `ln(alpha² / sigma²)` at t; decreasing.
    fn log_snr(&self, t: f64) -> f64 {
        self.law(t).log_snr()
    }

    /// The time in `[t_min, t_max]` whose log-SNR this is; the nearer end for a value outside. By bisection, to the last bit.
    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        let (mut early, mut late) = (self.t_min(), self.t_max());
        if self.log_snr(early) <= log_snr {
            return early;
        }
        if self.log_snr(late) >= log_snr {
            return late;
        }
        loop {
            let middle = early.midpoint(late);
            if middle <= early || middle >= late {
                return middle;
            }
            if self.log_snr(middle) > log_snr { early = middle } else { late = middle }
        }
    }
}
