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
//! The integrator is Dormand and Prince's pair ([`DormandPrince`](crate::DormandPrince)), with the density a coordinate as one more coordinate of each sample, which
//! chooses its own steps.
//!
//! Density is that of data taken to be at t_min, as in Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
//! equations 39 and 40; Chen et al. 2018 and Grathwohl et al. 2019 for the change of density and its estimate.

use std::f64::consts::TAU;

use burn::tensor::{Tensor, TensorData};
use kiln_backend::noise::NoiseKey;
use serde::{Deserialize, Serialize};

use crate::blend::{column, scale};
use crate::error::require;
use crate::solver::embedded;
use crate::{Denoiser, DiffusionError, Law, Pace, Probe, Process, Tally, Tolerance, gradient};

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likelihood {
    /// How the divergence is found.
    pub divergence: Divergence,
    /// What each step may be off by, in the state and in the density a coordinate.
    #[serde(default)]
    pub tolerance: Tolerance,
}

impl Default for Likelihood {
    /// One Rademacher probe, at 1e-5.
    fn default() -> Self {
        let divergence = Divergence::Estimated { probe: Probe::Rademacher, probes: 1 };
        Self { divergence, tolerance: Tolerance::default() }
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
    /// Evaluations of the denoiser, on the whole batch: as many as the sample with the most steps needs, over all probes.
    pub evaluations: usize,
    /// What each integration has cost each sample.
    pub tallies: Vec<Tally>,
}

impl Likelihood {
    /// Whether there is a probe, and a tolerance above 0.
    ///
    /// # Errors
    /// If not.
    pub fn check(self) -> Result<(), DiffusionError> {
        self.tolerance.check()?;
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
        let flow = Flow { process, denoiser, tolerance: self.tolerance };
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
        let tallies = runs.into_iter().map(|run| run.tally).collect();
        Ok(LogDensity { nats, standard_errors, coordinates, evaluations, tallies })
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
    tally: Tally,
}

struct Flow<'a, const D: usize> {
    process: &'a dyn Process,
    denoiser: &'a dyn Denoiser<D>,
    tolerance: Tolerance,
}

impl<const D: usize> Flow<'_, D> {
    /// From the data to the prior; the divergence is the sum over the probes.
    fn run(&self, x: Tensor<D>, probes: &[Tensor<D>]) -> Run {
        let (low, high) = (self.process.law(self.process.t_min()), self.process.law(self.process.t_max()));
        let ends = [low.angle(), high.angle()];
        let shape = x.dims();
        let (batch, size) = (shape[0], shape.iter().skip(1).product::<usize>());
        let coordinates = size as f64;
        let mut calls = 0;
        // y: z, and the density that was gathered, a coordinate.
        let mut field = |y: &Tensor<2>, thetas: &[f64]| {
            calls += probes.len();
            let z = y.clone().narrow(1, 0, size).reshape(shape);
            let (slope, divergence) = self.slope(&z, thetas, probes);
            Tensor::cat(vec![slope.reshape([batch, size]), divergence.div_scalar(coordinates)], 1)
        };
        let z = scale(1.0 / low.norm(), x.without_autodiff()).reshape([batch, size]);
        let nothing = z.clone().narrow(1, 0, 1).zeros_like();
        let y = Tensor::cat(vec![z, nothing], 1);
        let mut pace = Pace::default();
        let first = field(&y, &vec![ends[0]; batch]);
        pace.count_one(batch);
        let y = embedded::integrate(&mut field, y, first, ends, self.tolerance, &mut pace);
        let gathered = numbers(y.clone().narrow(1, size, 1).reshape([batch]));
        let scales = high.norm().ln() - low.norm().ln();
        let prior = self.process.prior_std();
        let end = scale(high.norm() / prior, y.narrow(1, 0, size));
        let squares = numbers(sum_each(end.square()).reshape([batch]));
        let nats = std::iter::zip(gathered, squares)
            .map(|(gathered, square)| {
                coordinates * (gathered + scales - 0.5 * TAU.ln() - prior.ln()) - 0.5 * square
            })
            .collect();
        Run { nats, evaluations: calls, tally: pace.tally().clone() }
    }

    /// dz/dtheta, and its divergence `[batch, 1]` as far as the probes see it.
    fn slope(&self, z: &Tensor<D>, thetas: &[f64], probes: &[Tensor<D>]) -> (Tensor<D>, Tensor<2>) {
        let laws: Vec<(f64, Law)> = thetas
            .iter()
            .map(|theta| self.process.time_at_log_snr(2.0 * (theta.cos().ln() - theta.sin().ln())))
            .map(|t| (t, self.process.law(t)))
            .collect();
        let times: Vec<f64> = laws.iter().map(|(t, _)| *t).collect();
        let each = |values: Vec<f64>| column(&values, z);
        let norms = each(laws.iter().map(|(_, law)| law.norm()).collect());
        let [sines, cosines] =
            [f64::sin, f64::cos].map(|of| each(thetas.iter().map(|&theta| of(theta)).collect()));
        let mut slope = None;
        let mut divergence: Option<Tensor<2>> = None;
        for probe in probes {
            let row = gradient::of(z, |z| {
                let estimate = self.denoiser.denoise_each(z * norms.clone(), &times);
                let value = estimate.noise * cosines.clone() - estimate.data * sines.clone();
                slope.get_or_insert_with(|| value.clone().without_autodiff());
                (value * probe.clone()).sum()
            });
            let seen = sum_each(row * probe.clone());
            divergence = Some(match divergence {
                Some(sum) => sum + seen,
                None => seen,
            });
        }
        let none = || Tensor::zeros([thetas.len(), 1], (&z.device(), z.dtype()));
        (slope.unwrap_or_else(|| z.zeros_like()), divergence.unwrap_or_else(none))
    }
}

/// A sum over each sample's own coordinates, `[batch, 1]`.
fn sum_each<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    let batch = x.dims()[0];
    let size = x.dims().iter().skip(1).product::<usize>();
    x.reshape([batch, size]).sum_dim(1)
}

fn numbers(x: Tensor<1>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}
