//! A process of one's own, written as its stochastic equation alone.
//!
//! ```text
//! dx = f(t) x dt + g(t) dw
//! alpha(t) = exp(F(t)),   F(t) = int_0^t f(u) du
//! sigma(t)² = alpha(t)² (sigma(0)² + int_0^t g(u)² / alpha(u)² du)
//! ```
//!
//! Source: Särkkä, Solin, "Applied stochastic differential equations", 2019, equation 6.2; Karras et al. 2022, appendix B. Both integrals are
//! found when the process is made, at 256 knots; a law between them costs the rest of its interval.

use std::fmt;

use super::quadrature::integral;
use crate::error::require;
use crate::{DiffusionError, Law, Process};

type Coefficient = Box<dyn Fn(f64) -> f64 + Send + Sync>;

const INTERVALS: usize = 256;

/// A process whose alpha and sigma come by quadrature from `f` and `g`, with t from 0 to `t_max`.
///
/// ```
/// use kiln_diffusion::{LinearSde, Process, VariancePreserving};
///
/// let beta = |t: f64| 0.1 + 19.9 * t;
/// let written = LinearSde::new(1.0, 0.0, move |t| -beta(t) / 2.0, move |t| beta(t).sqrt())?;
/// assert!((written.sigma(0.3) - VariancePreserving::default().sigma(0.3)).abs() < 1e-10);
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
pub struct LinearSde {
    f: Coefficient,
    g: Coefficient,
    t_max: f64,
    /// F at each knot.
    log_alpha: Vec<f64>,
    /// (sigma / alpha)² at each knot.
    ratio_squared: Vec<f64>,
}

impl LinearSde {
    /// The process of drift `f(t) x` and diffusion `g(t)`, with noise of `sigma_start` in the data at t = 0.
    ///
    /// # Errors
    /// If `t_max` is not above 0, `sigma_start` is below 0, or an integral is not finite: a coefficient with a pole must end before it.
    pub fn new(
        t_max: f64,
        sigma_start: f64,
        f: impl Fn(f64) -> f64 + Send + Sync + 'static,
        g: impl Fn(f64) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, DiffusionError> {
        require("t_max of the linear equation", "above 0", t_max, t_max > 0.0)?;
        require("sigma_start of the linear equation", "at least 0", sigma_start, sigma_start >= 0.0)?;
        let mut process = Self {
            f: Box::new(f),
            g: Box::new(g),
            t_max,
            log_alpha: vec![0.0],
            ratio_squared: vec![sigma_start * sigma_start],
        };
        for knot in 0..INTERVALS {
            let [log, ratio] = process.since_knot(knot, process.time(knot + 1));
            require("the integral of f of the linear equation", "finite", log, true)?;
            require("the integral of g² / alpha² of the linear equation", "finite", ratio, true)?;
            process.log_alpha.push(log);
            process.ratio_squared.push(ratio);
        }
        Ok(process)
    }

    fn time(&self, knot: usize) -> f64 {
        self.t_max * knot as f64 / INTERVALS as f64
    }

    /// F and the squared noise ratio at t, from those at a knot below it.
    fn since_knot(&self, knot: usize, t: f64) -> [f64; 2] {
        let start = self.time(knot);
        let log = |u: f64| self.log_alpha[knot] + integral(&self.f, start, u);
        let growth = |u: f64| ((self.g)(u) * (-log(u)).exp()).powi(2);
        [log(t), self.ratio_squared[knot] + integral(&growth, start, t)]
    }
}

impl Process for LinearSde {
    fn law(&self, t: f64) -> Law {
        let knot = ((t / self.t_max * INTERVALS as f64) as usize).min(INTERVALS - 1);
        let [log, ratio] = self.since_knot(knot, t);
        let (alpha, drift) = (log.exp(), self.drift(t));
        let sigma = alpha * ratio.sqrt();
        let sigma_dot = drift * sigma + self.diffusion_squared(t) / (2.0 * sigma);
        Law { alpha, sigma, alpha_dot: drift * alpha, sigma_dot }
    }

    /// A thousandth of `t_max`; 0 where noise is in the data from the start.
    fn t_min(&self) -> f64 {
        if self.ratio_squared[0] > 0.0 { 0.0 } else { 1e-3 * self.t_max }
    }

    fn t_max(&self) -> f64 {
        self.t_max
    }

    fn clean_time(&self) -> Option<f64> {
        (self.ratio_squared[0] == 0.0).then_some(0.0)
    }

    /// `999 t / t_max`.
    fn network_time(&self, t: f64) -> f64 {
        999.0 * t / self.t_max
    }

    fn drift(&self, t: f64) -> f64 {
        (self.f)(t)
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        (self.g)(t).powi(2)
    }
}

/// Without the closures.
impl fmt::Debug for LinearSde {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinearSde").field("t_max", &self.t_max).finish_non_exhaustive()
    }
}
