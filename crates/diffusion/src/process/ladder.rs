//! DDPM's ladder: N noise levels, and the continuous process that passes through them.
//!
//! ```text
//! q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i),   alpha_bar_i = prod_{j <= i} (1 - beta_j)
//! ```
//!
//! Index i (0 to N - 1, as the networks count) is time `t = (i + 1) / N`, and t = 0 is the data. Between rungs ln alpha_bar is linear in t:
//! that is the variance-preserving equation with beta constant from rung to rung, so the ladder and the equation are one process.
//!
//! Sources: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (linear); Rombach et al. 2022 (scaled linear);
//! Nichol, Dhariwal, "Improved DDPM", ICML 2021, equation 17 (cosine).

use std::f64::consts::FRAC_PI_2;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::require;
use crate::{DiffusionError, Law, Process};

/// How beta climbs along the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BetaSchedule {
    /// beta linear in i.
    Linear {
        /// beta of the first rung; DDPM: 1e-4.
        #[serde(default = "linear_start")]
        beta_start: f64,
        /// beta of the last rung; DDPM: 0.02.
        #[serde(default = "linear_end")]
        beta_end: f64,
    },
    /// sqrt(beta) linear in i.
    ScaledLinear {
        /// beta of the first rung; Stable Diffusion: 0.00085.
        #[serde(default = "scaled_start")]
        beta_start: f64,
        /// beta of the last rung; Stable Diffusion: 0.012.
        #[serde(default = "scaled_end")]
        beta_end: f64,
    },
    /// alpha_bar a squared cosine of time, beta held below 0.999.
    Cosine,
    /// beta a logistic curve in i, from -6 to 6 (GeoDiff).
    Sigmoid {
        /// The lower end of the curve.
        #[serde(default = "linear_start")]
        beta_start: f64,
        /// The upper end.
        #[serde(default = "linear_end")]
        beta_end: f64,
    },
}

fn linear_start() -> f64 {
    1e-4
}

fn linear_end() -> f64 {
    0.02
}

fn scaled_start() -> f64 {
    0.000_85
}

fn scaled_end() -> f64 {
    0.012
}

impl BetaSchedule {
    /// DDPM's linear schedule.
    pub const LINEAR: Self = Self::Linear { beta_start: 1e-4, beta_end: 0.02 };
    /// Stable Diffusion's scaled linear schedule.
    pub const SCALED_LINEAR: Self = Self::ScaledLinear { beta_start: 0.000_85, beta_end: 0.012 };

    /// beta of each of N rungs.
    #[must_use]
    pub fn betas(self, rungs: usize) -> Vec<f64> {
        let line = |start: f64, end: f64| {
            let last = rungs.saturating_sub(1).max(1) as f64;
            (0..rungs).map(move |i| start + (end - start) * i as f64 / last)
        };
        match self {
            Self::Linear { beta_start, beta_end } => line(beta_start, beta_end).collect(),
            Self::ScaledLinear { beta_start, beta_end } => {
                line(beta_start.sqrt(), beta_end.sqrt()).map(|root| root * root).collect()
            }
            Self::Sigmoid { beta_start, beta_end } => {
                line(-6.0, 6.0).map(|x| beta_start + (beta_end - beta_start) / (1.0 + (-x).exp())).collect()
            }
            Self::Cosine => {
                let alpha_bar =
                    |i: usize| ((i as f64 / rungs as f64 + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
                (0..rungs).map(|i| (1.0 - alpha_bar(i + 1) / alpha_bar(i)).min(0.999)).collect()
            }
        }
    }
}

/// DDPM's table of noise levels as a process in t from 0 to 1, exact on its rungs.
///
/// ```
/// use kiln_diffusion::{BetaSchedule, DdpmLadder, Process};
///
/// let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 1000)?;
/// assert!((ladder.alpha(ladder.time(0)).powi(2) - (1.0 - 1e-4)).abs() < 1e-15);
/// assert_eq!(ladder.network_time(ladder.time(741)), 741.0);
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct DdpmLadder {
    /// ln alpha_bar at t = 0, 1/N, ..., 1.
    log_alpha_bar: Vec<f64>,
}

/// How near to a rung, in rungs, a time counts as on it: times pass through files and arithmetic.
const ON_RUNG: f64 = 1e-9;

impl DdpmLadder {
    /// The ladder of a schedule with `rungs` levels (DDPM: 1000).
    ///
    /// # Errors
    /// If there are fewer than two rungs, or a beta is not in (0, 1).
    pub fn new(schedule: BetaSchedule, rungs: usize) -> Result<Self, DiffusionError> {
        require("the number of rungs of the ladder", "at least 2", rungs as f64, rungs >= 2)?;
        // Its ends first: beyond the range the table would hold NaN.
        if let BetaSchedule::Linear { beta_start, beta_end }
        | BetaSchedule::ScaledLinear { beta_start, beta_end }
        | BetaSchedule::Sigmoid { beta_start, beta_end } = schedule
        {
            require(
                "beta_start of the ladder",
                "above 0 and below 1",
                beta_start,
                0.0 < beta_start && beta_start < 1.0,
            )?;
            require(
                "beta_end of the ladder",
                "above 0 and below 1",
                beta_end,
                0.0 < beta_end && beta_end < 1.0,
            )?;
        }
        Self::from_betas(&schedule.betas(rungs))
    }

    /// The ladder of a table of betas, first rung first.
    ///
    /// # Errors
    /// If there are fewer than two, or one is not in (0, 1).
    pub fn from_betas(betas: &[f64]) -> Result<Self, DiffusionError> {
        require("the number of rungs of the ladder", "at least 2", betas.len() as f64, betas.len() >= 2)?;
        let mut log_alpha_bar = vec![0.0];
        let mut log = 0.0;
        for &beta in betas {
            require("each beta of the ladder", "above 0 and below 1", beta, 0.0 < beta && beta < 1.0)?;
            log += (-beta).ln_1p();
            log_alpha_bar.push(log);
        }
        Ok(Self { log_alpha_bar })
    }

    /// The ladder with sqrt(alpha_bar) shifted and stretched so that the last rung has `alpha_bar`, 0 for pure noise, and the first one keeps its
    /// own.
    ///
    /// Source: Lin, Liu, Li, Yang, "Common diffusion noise schedules and sample steps are flawed", 2024, algorithm 1.
    #[must_use]
    pub fn with_zero_terminal_snr(&self, alpha_bar: f64) -> Self {
        let roots: Vec<f64> = self.log_alpha_bar[1..].iter().map(|log| (log / 2.0).exp()).collect();
        let (first, last) = (roots[0], roots[roots.len() - 1]);
        let stretch = first / (first - last);
        let count = roots.len();
        let logs = roots.into_iter().enumerate().map(|(i, root)| {
            let square = ((root - last) * stretch).powi(2);
            if i + 1 == count { alpha_bar.ln() } else { square.ln() }
        });
        Self { log_alpha_bar: std::iter::once(0.0).chain(logs).collect() }
    }

    /// The time of rung `index` (from 0).
    #[must_use]
    pub fn time(&self, index: usize) -> f64 {
        (index + 1) as f64 / self.len() as f64
    }

    /// The product of `1 - beta` up to and with rung `index`.
    ///
    /// # Panics
    /// If there is no such rung.
    #[must_use]
    pub fn alpha_bar(&self, index: usize) -> f64 {
        self.log_alpha_bar[index + 1].exp()
    }

    fn len(&self) -> usize {
        self.log_alpha_bar.len() - 1
    }

    /// The law between the last rung but one and a last rung of pure noise, `left` rungs before its end: alpha is linear there, as its logarithm
    /// can't be.
    fn last_step_to_noise(&self, before: f64, left: f64) -> Law {
        let slope = (before / 2.0).exp();
        let alpha = slope * left;
        let sigma = (1.0 - alpha * alpha).sqrt();
        let alpha_dot = -slope * self.len() as f64;
        Law { alpha, sigma, alpha_dot, sigma_dot: -alpha * alpha_dot / sigma }
    }

    /// t in rungs, put on the rung that it is within rounding of; below 0 and beyond the last rung, the end.
    fn position(&self, t: f64) -> f64 {
        let position = (t * self.len() as f64).clamp(0.0, self.len() as f64);
        let rung = position.round();
        if (position - rung).abs() < ON_RUNG { rung } else { position }
    }
}

/// Without the table.
impl fmt::Debug for DdpmLadder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.alpha_bar(self.len() - 1);
        f.debug_struct("DdpmLadder").field("rungs", &self.len()).field("last_alpha_bar", &last).finish()
    }
}

impl Process for DdpmLadder {
    /// On a rung the derivative is the one from below, where a sampler goes.
    fn law(&self, t: f64) -> Law {
        let position = self.position(t);
        let upper = (position.ceil() as usize).max(1);
        let (before, after) = (self.log_alpha_bar[upper - 1], self.log_alpha_bar[upper]);
        if after == f64::NEG_INFINITY {
            return self.last_step_to_noise(before, upper as f64 - position);
        }
        // Written from the upper end, so that a rung's value is the table's own.
        let log = if position == 0.0 { 0.0 } else { after - (upper as f64 - position) * (after - before) };
        Law::from_log_alpha_bar(log, (after - before) * self.len() as f64)
    }

    fn t_min(&self) -> f64 {
        self.time(0)
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    /// 1: the variance of data of variance 1 is preserved.
    fn prior_std(&self) -> f64 {
        1.0
    }

    /// The rung's index, from 0 (-1 for the data itself).
    fn network_time(&self, t: f64) -> f64 {
        self.position(t) - 1.0
    }

    fn rungs(&self) -> Option<usize> {
        Some(self.len())
    }

    /// `-d ln alpha_bar / dt`, finite at t = 0 too; infinite towards a last rung of pure noise.
    fn diffusion_squared(&self, t: f64) -> f64 {
        let upper = (self.position(t).ceil() as usize).max(1);
        (self.log_alpha_bar[upper - 1] - self.log_alpha_bar[upper]) * self.len() as f64
    }
}
