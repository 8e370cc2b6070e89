//! Likelihood: the density that a model gives to data, by the probability-flow equation.
//!
//! Along `dx/dt = F(x, t) = alpha' x_0_hat + sigma' eps_hat` densities change by the flow's divergence, from the data at t_min to the prior at t_max:
//!
//! ```text
//! ln p(x) = ln N(x_T; 0, prior²) + integral div F(x_t, t) dt
//! ```
//!
//! It is integrated in the angle, in which no process has a pole: with `x = m z`, `m² = alpha² + sigma²` and `theta = atan2(sigma, alpha)`,
//!
//! ```text
//! dz/dtheta = cos(theta) eps_hat - sin(theta) x_0_hat,   ln p(x) = ln p(z) - d ln m
//! ```
//!
//! The divergence is `E e'J e` (Hutchinson), one backward pass a probe: the gradient of `e·F` is `e'J`. The probe is one for a whole integration, so
//! that what is integrated is smooth. Or it is exact, by as many passes as there are coordinates.
//!
//! The integrator is the classical rule of order 4 (Runge, Kutta) over steps that are finer near the data, `theta = theta_min + (theta_max - theta_min) w²` for even w.
//!
//! Density is that of data taken to be at t_min, as in Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
//! equations 39 and 40; Chen et al. 2018 and Grathwohl et al. 2019 for the change of density and its estimate.

use std::f64::consts::TAU;

use burn::tensor::{Tensor, TensorData};
use kiln_backend::noise::NoiseKey;
use serde::{Deserialize, Serialize};

use crate::blend::{blend, scale};
use crate::error::require;
use crate::{Denoiser, DiffusionError, Probe, Process, gradient};

/// How the divergence is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Divergence {
    /// Hutchinson's estimate, as the mean over whole integrations with a probe each.
    Estimated {
        /// The law of the probes.
        probe: Probe,
        /// How many; from 2 on their spread is reported.
        probes: usize,
    },
    /// Coordinate by coordinate: for few coordinates.
    Exact,
}

/// How a likelihood is computed.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_backend::noise::NoiseKey;
/// use kiln_diffusion::{GaussianMixture, Likelihood, VariancePreserving};
///
/// let process = VariancePreserving::default();
/// let data = GaussianMixture::single(&process, 0.0, 1.0)?;
/// let origin = Tensor::<2>::zeros([1, 1], &Device::flex());
/// let density = Likelihood::default().log_density(&process, &data, origin, NoiseKey::new(0))?;
/// assert!((density.nats[0] + 0.9189).abs() < 1e-3); // ln(1 / sqrt(2 pi))
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likelihood {
    /// How the divergence is found.
    pub divergence: Divergence,
    /// Steps of the integration, four evaluations each.
    pub steps: usize,
}

impl Default for Likelihood {
    /// One Rademacher probe, 64 steps.
    fn default() -> Self {
        Self { divergence: Divergence::Estimated { probe: Probe::Rademacher, probes: 1 }, steps: 64 }
    }
}

/// Densities of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LogDensity {
    /// `ln p(x)` of each sample.
    pub nats: Vec<f64>,
    /// The standard error of each that the probes leave; `None` for one probe, whose error is not known, and 0 for an exact divergence.
    pub standard_errors: Option<Vec<f64>>,
    /// Coordinates of a sample.
    pub coordinates: usize,
    /// Evaluations of the denoiser, on the whole batch.
    pub evaluations: usize,
}

impl Likelihood {
    /// Whether there is a step and a probe.
    ///
    /// # Errors
    /// If there is none.
    pub fn check(self) -> Result<(), DiffusionError> {
        require("the number of steps of a likelihood", "at least 1", self.steps as f64, self.steps > 0)?;
        if let Divergence::Estimated { probes, .. } = self.divergence {
            require("the number of probes of a likelihood", "at least 1", probes as f64, probes > 0)?;
        }
        Ok(())
    }

    /// `ln p(x)` of each sample, in nats.
    ///
    /// # Shapes
    /// - `x`: `[batch, ...]`, data. Probe j of row i is drawn as sample `key.sample + i` at step `key.step + j`.
    ///
    /// # Errors
    /// As [`Likelihood::check`].
    #[expect(clippy::needless_pass_by_value, reason = "tensors go by value, as everywhere")]
    pub fn log_density<const D: usize>(
        self,
        process: &dyn Process,
        denoiser: &dyn Denoiser<D>,
        x: Tensor<D>,
        key: NoiseKey,
    ) -> Result<LogDensity, DiffusionError> {
        self.check()?;
        let coordinates = x.dims().iter().skip(1).product();
        let flow = Flow { process, denoiser, steps: self.steps };
        let runs: Vec<Run> = match self.divergence {
            Divergence::Exact => vec![flow.run(x.clone(), &basis(&x))],
            Divergence::Estimated { probe, probes } => (0..probes as u64)
                .map(|j| probe.draw(&x, key.at_step(key.step.wrapping_add(j))))
                .map(|probe| flow.run(x.clone(), &[probe]))
                .collect(),
        };
        let evaluations = runs.iter().map(|run| run.evaluations).sum();
        let count = runs.len() as f64;
        let of = |row: usize| runs.iter().map(move |run| run.nats[row]);
        let rows = 0..x.dims()[0];
        let nats: Vec<f64> = rows.clone().map(|row| of(row).sum::<f64>() / count).collect();
        let standard_errors = match self.divergence {
            Divergence::Exact => Some(vec![0.0; nats.len()]),
            Divergence::Estimated { probes: 1, .. } => None,
            Divergence::Estimated { .. } => Some(
                rows.map(|row| {
                    let squares: f64 = of(row).map(|value| (value - nats[row]).powi(2)).sum();
                    (squares / (count - 1.0) / count).sqrt()
                })
                .collect(),
            ),
        };
        Ok(LogDensity { nats, standard_errors, coordinates, evaluations })
    }
}

/// The unit vectors, one tensor each.
fn basis<const D: usize>(x: &Tensor<D>) -> Vec<Tensor<D>> {
    let (shape, options) = (x.dims(), (&x.device().without_autodiff(), x.dtype()));
    let size: usize = shape.iter().skip(1).product();
    let unit = |i: usize| {
        let values: Vec<f32> =
            (0..shape[0] * size).map(|place| f32::from(u8::from(place % size == i))).collect();
        Tensor::from_data(TensorData::new(values, shape), options)
    };
    (0..size).map(unit).collect()
}

/// What one integration gives.
struct Run {
    nats: Vec<f64>,
    evaluations: usize,
}

struct Flow<'a, const D: usize> {
    process: &'a dyn Process,
    denoiser: &'a dyn Denoiser<D>,
    steps: usize,
}

impl<const D: usize> Flow<'_, D> {
    /// From the data to the prior; the divergence is the sum over the probes.
    fn run(&self, x: Tensor<D>, probes: &[Tensor<D>]) -> Run {
        let (low, high) = (self.process.law(self.process.t_min()), self.process.law(self.process.t_max()));
        let (first, last) = (low.angle(), high.angle());
        let at = |w: f64| first + (last - first) * w * w;
        let (mut z, mut nats) =
            (scale(1.0 / low.norm(), x.without_autodiff()), vec![0.0; probes[0].dims()[0]]);
        for step in 0..self.steps {
            let h = 1.0 / self.steps as f64;
            let w = step as f64 * h;
            // In w, in which the steps are even: dz/dw = dz/dtheta dtheta/dw.
            let slope = |z: Tensor<D>, w: f64| {
                let (slope, divergence) = self.slope(&z, at(w), probes);
                let pace = 2.0 * (last - first) * w;
                (scale(pace, slope), divergence.into_iter().map(|d| d * pace).collect::<Vec<_>>())
            };
            let ahead = |k: &Tensor<D>, by: f64| z.clone() + scale(by, k.clone());
            let (k1, d1) = slope(z.clone(), w);
            let (k2, d2) = slope(ahead(&k1, h / 2.0), w + h / 2.0);
            let (k3, d3) = slope(ahead(&k2, h / 2.0), w + h / 2.0);
            let (k4, d4) = slope(ahead(&k3, h), w + h);
            z = z + scale(h / 6.0, k1 + k4) + scale(h / 3.0, k2 + k3);
            for (row, nats) in nats.iter_mut().enumerate() {
                *nats += h / 6.0 * (d1[row] + 2.0 * d2[row] + 2.0 * d3[row] + d4[row]);
            }
        }
        let coordinates = z.dims().iter().skip(1).product::<usize>() as f64;
        let scales = coordinates * (high.norm().ln() - low.norm().ln());
        let prior = self.process.prior_std();
        let squares = numbers(sum_each(scale(high.norm() / prior, z).square()));
        for (nats, square) in std::iter::zip(&mut nats, squares) {
            *nats += scales - 0.5 * square - coordinates * (0.5 * TAU.ln() + prior.ln());
        }
        Run { nats, evaluations: 4 * self.steps * probes.len() }
    }

    /// dz/dtheta, and its divergence as far as the probes see it.
    fn slope(&self, z: &Tensor<D>, theta: f64, probes: &[Tensor<D>]) -> (Tensor<D>, Vec<f64>) {
        let (sine, cosine) = theta.sin_cos();
        let t = self.process.time_at_log_snr(2.0 * (cosine.ln() - sine.ln()));
        let norm = self.process.law(t).norm();
        let mut slope = None;
        let mut divergence = vec![0.0; z.dims()[0]];
        for probe in probes {
            let row = gradient::of(z, |z| {
                let estimate = self.denoiser.denoise(scale(norm, z), t);
                let value = blend([-sine, cosine], estimate.data, estimate.noise);
                slope.get_or_insert_with(|| value.clone().without_autodiff());
                (value * probe.clone()).sum()
            });
            for (sum, term) in std::iter::zip(&mut divergence, numbers(sum_each(row * probe.clone()))) {
                *sum += term;
            }
        }
        (slope.unwrap_or_else(|| z.zeros_like()), divergence)
    }
}

/// A sum over each sample's own coordinates, `[batch]`.
fn sum_each<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let batch = x.dims()[0];
    let size = x.dims().iter().skip(1).product::<usize>();
    x.reshape([batch, size]).sum_dim(1).reshape([batch])
}

fn numbers(x: Tensor<1>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}
