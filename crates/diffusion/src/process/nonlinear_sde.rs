//! A process of one's own whose drift is any function of x and t.
//!
//! ```text
//! dx = f(x, t) dt + g(t) dw                                              forward
//! dx = (f(x, t) - g² score) dt + g dw                                    reverse
//! dx = (f(x, t) - g² score / 2) dt                                       probability flow
//! ```
//!
//! It has no alpha and sigma, but it needs none: both equations back are those of the process without a drift, `dx = g dw`, for another score,
//!
//! ```text
//! reverse            score - f / g²
//! probability flow   score - 2 f / g²
//! ```
//!
//! so that every solver takes it, in the variables of that process. Langevin's corrections follow the score itself.
//!
//! Source: Anderson, "Reverse-time diffusion equation models", 1982; Song et al. 2021, equations 6 and 13.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::LinearSde;
use crate::blend::{blend, scale};
use crate::error::require;
use crate::{Clock, Denoiser, DiffusionError, Draw, Estimate, Law, NoiseSource, Process, grid};

type Drift<const D: usize> = Box<dyn Fn(Tensor<D>, f64) -> Tensor<D>>;

/// `dx = f(x, t) dt + g(t) dw` with t from 0 to `t_max`, and the ways back for a score.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_backend::noise::NoiseKey;
/// use kiln_diffusion::{NonlinearSde, Sampler, SolverConfig, grid};
///
/// // A double well, whose stationary density is exp(x² - x⁴ / 2).
/// let drift = |x: Tensor<2>, _t: f64| x.clone() - x.clone() * x.square();
/// let well = NonlinearSde::new(2.0, 1.0, drift, |_| 1.0)?;
/// let score = |x: Tensor<2>, _t: f64| (x.clone() - x.clone() * x.square()) * 2.0;
///
/// let sampler = Sampler::new(SolverConfig::heun(), grid::uniform(well.driftless(), 20)?)?;
/// let (flow, device) = (well.flow(score), Device::flex());
/// let run = sampler.start_keyed(well.driftless(), &flow, [4, 1], NoiseKey::new(0), &device)?;
/// // At stationarity the flow stands still.
/// let start = run.sample().clone();
/// assert!((run.finish() - start).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
pub struct NonlinearSde<const D: usize> {
    drift: Drift<D>,
    driftless: Driftless,
}

impl<const D: usize> NonlinearSde<D> {
    /// The process of drift `f(x, t)`, `[batch, ...]` to `[batch, ...]`, and diffusion `g(t)`. `prior_std` is the standard deviation of x at `t_max`, from which
    /// [`Sampler::start_keyed`](crate::Sampler::start_keyed) draws normal numbers; where x is not normal there, [`Sampler::start`](crate::Sampler::start) with a sample of it.
    ///
    /// # Errors
    /// If `t_max` or `prior_std` is not above 0, g is not above 0 at 257 even times, or the integral of g² is not finite.
    pub fn new(
        t_max: f64,
        prior_std: f64,
        drift: impl Fn(Tensor<D>, f64) -> Tensor<D> + 'static,
        g: impl Fn(f64) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, DiffusionError> {
        let what = "prior_std of the non-linear equation";
        require(what, "above 0", prior_std, prior_std > 0.0)?;
        let g = Arc::new(g);
        let inner = Arc::clone(&g);
        let inner = LinearSde::new(t_max, prior_std, |_| 0.0, move |t| inner(t))?;
        for knot in 0..=256 {
            let value = g(t_max * f64::from(knot) / 256.0);
            require("g of the non-linear equation", "above 0", value, value > 0.0)?;
        }
        Ok(Self { drift: Box::new(drift), driftless: Driftless { inner, prior_std } })
    }

    /// `dx = g dw`, in whose variables solvers step: what a [`Sampler`](crate::Sampler) takes beside [`NonlinearSde::reversed`] or [`NonlinearSde::flow`]. It is not the law of x, so
    /// whatever perturbs data by a law ([`Objective`](crate::Objective), [`Conditioned`](crate::Conditioned), [`Likelihood`](crate::Likelihood)) is not for it.
    #[must_use]
    pub fn driftless(&self) -> &dyn Process {
        &self.driftless
    }

    /// The reverse stochastic equation, for solvers that draw noise: Euler and Maruyama's, predictor and corrector, ancestral.
    ///
    /// # Shapes
    /// - `score`, the gradient of the logarithm of the density at t: `[batch, ...]` to `[batch, ...]`.
    pub fn reversed<F: Fn(Tensor<D>, f64) -> Tensor<D>>(&self, score: F) -> impl Denoiser<D> + use<'_, F, D> {
        Back { sde: self, score, drifts: 1.0 }
    }

    /// The probability-flow equation, for solvers that draw none: Euler's, Heun's.
    ///
    /// # Shapes
    /// - `score`: as in [`NonlinearSde::reversed`].
    pub fn flow<F: Fn(Tensor<D>, f64) -> Tensor<D>>(&self, score: F) -> impl Denoiser<D> + use<'_, F, D> {
        Back { sde: self, score, drifts: 2.0 }
    }

    /// Takes x forward through rising times by Euler and Maruyama's rule; step i asks for the first draw of step i.
    ///
    /// # Shapes
    /// - `x`: `[batch, ...]`, at the first time.
    ///
    /// # Errors
    /// If the times are fewer than two, not rising, or not of the process.
    pub fn simulate(
        &self,
        mut x: Tensor<D>,
        times: &[f64],
        mut noise: impl NoiseSource<D>,
    ) -> Result<Tensor<D>, DiffusionError> {
        let falling: Vec<f64> = times.iter().rev().copied().collect();
        grid::check(&falling)?;
        grid::check_within(&falling, self.driftless())?;
        for (step, pair) in times.windows(2).enumerate() {
            let h = pair[1] - pair[0];
            let spread = (self.driftless.diffusion_squared(pair[0]) * h).sqrt();
            let drift = (self.drift)(x.clone(), pair[0]);
            x = x + blend([h, spread], drift, noise.draw(Draw { step, part: 0 }));
        }
        Ok(x)
    }
}

/// Without the closures.
impl<const D: usize> fmt::Debug for NonlinearSde<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonlinearSde").field("driftless", &self.driftless).finish_non_exhaustive()
    }
}

/// A score with so many drifts in it.
struct Back<'a, const D: usize, F> {
    sde: &'a NonlinearSde<D>,
    score: F,
    drifts: f64,
}

impl<const D: usize, F: Fn(Tensor<D>, f64) -> Tensor<D>> Denoiser<D> for Back<'_, D, F> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        let process = self.sde.driftless();
        let (sigma, g2) = (process.sigma(t), process.diffusion_squared(t));
        let drift = (self.sde.drift)(x.clone(), t);
        let noise = blend([sigma * self.drifts / g2, -sigma], drift, (self.score)(x.clone(), t));
        Estimate { data: x - scale(sigma, noise.clone()), noise }
    }

    fn score(&self, x: Tensor<D>, t: f64, _: &Law) -> Tensor<D> {
        (self.score)(x, t)
    }
}

/// `dx = g dw`, from t = 0 where x is what is looked for, whatever its spread.
#[derive(Debug)]
struct Driftless {
    /// With `prior_std` of noise at t = 0: only for the scale of its sigma, which is in the variables alone.
    inner: LinearSde,
    prior_std: f64,
}

impl Process for Driftless {
    fn law(&self, t: f64) -> Law {
        self.inner.law(t)
    }

    fn t_min(&self) -> f64 {
        0.0
    }

    fn t_max(&self) -> f64 {
        self.inner.t_max()
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    fn prior_std(&self) -> f64 {
        self.prior_std
    }

    fn network_time(&self, t: f64) -> f64 {
        self.inner.network_time(t)
    }

    /// The probability flow is stepped in t, in which f is given.
    fn clock(&self) -> Clock {
        Clock::Time
    }

    fn drift(&self, _: f64) -> f64 {
        0.0
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        self.inner.diffusion_squared(t)
    }
}
