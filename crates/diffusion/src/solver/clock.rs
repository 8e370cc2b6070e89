//! Clocks: the variable in which a solver of the ordinary differential equation takes its straight lines.
//!
//! The equation `dx/dt = alpha' x_0_hat + sigma' eps_hat` is the same in any variable, but the error of a step is not. With `x = m z` and a
//! clock tau(t) it reads `dz/dtau = p x_0_hat + q eps_hat`:
//!
//! | clock | m | tau | p | q |
//! |---|---|---|---|---|
//! | time | 1 | t | alpha' | sigma' |
//! | noise ratio | alpha | sigma / alpha | 0 | 1 |
//! | angle | sqrt(alpha² + sigma²) | atan2(sigma, alpha) | -sin tau | cos tau |
//!
//! Time is the flow matching papers' choice. The noise ratio is EDM's and k-diffusion's (Karras et al. 2022, equation 4): Euler's rule in it is
//! DDIM. Its pole is at alpha = 0, and near it Heun's rule fails: on the cosine ladder, which ends at a ratio of 20,000, a mixture of
//! Gaussians of variance 1 comes out wrong by 15 after ten steps and by 0.18 after fifty. The angle (Salimans, Ho 2022, appendix D) has no
//! pole on any process: 0.056 and 0.004.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::blend::blend;
use crate::{Estimate, Law, Process};

/// The variable in which [`Euler`](super::Euler) and [`Heun`](super::Heun) step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// That of the process, [`Process::clock`].
    #[default]
    OfProcess,
    /// t itself.
    Time,
    /// sigma / alpha.
    NoiseRatio,
    /// atan2(sigma, alpha).
    Angle,
}

/// One time as a clock shows it: the table's m, tau, p and q.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) scale: f64,
    pub(super) tau: f64,
    pub(super) slope: [f64; 2],
}

impl Reading {
    /// dz/dtau.
    pub(super) fn slope<const D: usize>(&self, estimate: &Estimate<D>) -> Tensor<D> {
        blend(self.slope, estimate.data.clone(), estimate.noise.clone())
    }
}

impl Clock {
    /// What the clock shows at t.
    pub(super) fn read(self, process: &dyn Process, t: f64) -> Reading {
        let law = process.law(t);
        let clock = if self == Self::OfProcess { process.clock() } else { self };
        clock.read_law(&law, t)
    }

    /// The time at which the clock shows `tau`, within `[early, late]`, and all that it shows there.
    pub(super) fn at(self, process: &dyn Process, tau: f64, [early, late]: [f64; 2]) -> (f64, Reading) {
        let clock = if self == Self::OfProcess { process.clock() } else { self };
        let time = match clock {
            Self::Time | Self::OfProcess => tau,
            Self::NoiseRatio => process.time_at_log_snr(-2.0 * tau.ln()),
            Self::Angle => process.time_at_log_snr(2.0 * (tau.cos().ln() - tau.sin().ln())),
        }
        .clamp(early, late);
        let reading = clock.read_law(&process.law(time), time);
        // The time may be off by rounding: what the clock was asked for counts.
        let slope = match clock {
            Self::Angle => [-tau.sin(), tau.cos()],
            _ => reading.slope,
        };
        (time, Reading { tau, slope, ..reading })
    }

    fn read_law(self, law: &Law, t: f64) -> Reading {
        match self {
            // A process that names no clock of its own is read by t.
            Self::Time | Self::OfProcess => {
                Reading { scale: 1.0, tau: t, slope: [law.alpha_dot, law.sigma_dot] }
            }
            Self::NoiseRatio => Reading { scale: law.alpha, tau: law.noise_ratio(), slope: [0.0, 1.0] },
            Self::Angle => {
                let (sine, cosine) = law.angle().sin_cos();
                Reading { scale: law.norm(), tau: law.angle(), slope: [-sine, cosine] }
            }
        }
    }
}
