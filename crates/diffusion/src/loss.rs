//! The training side: draw times, perturb the data, say what the network should have said, weigh its errors.
//!
//! ```text
//! loss = E_{x_0, eps, t} [ w(t) |output(x_t, t) - target|² ],   x_t = alpha(t) x_0 + sigma(t) eps
//! ```
//!
//! An [`Objective`] holds the three choices (prediction, times, weighting) and turns a batch of data into a [`TrainingPair`].

use burn::tensor::Tensor;
use kiln_backend::noise::{NoiseKey, normal_values, uniform_values};
use serde::{Deserialize, Serialize};

use crate::blend::{blend_each, column};
use crate::error::require;
use crate::{DiffusionError, Estimate, Law, Prediction, Process};

/// How training times are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TimeSampling {
    /// Even: over the rungs of a ladder, else over the process's range.
    #[default]
    Uniform,
    /// `t = 1 / (1 + exp(-u))` of a normal u, stretched over the process's range: more in the middle (Esser et al. 2024, equation 19).
    LogitNormal {
        /// Mean of u.
        mean: f64,
        /// Standard deviation of u.
        std: f64,
    },
}

impl TimeSampling {
    /// One time a sample: that of row i depends on (seed, `sample + i`, step) alone.
    #[must_use]
    pub fn draw(self, process: &dyn Process, batch: usize, key: NoiseKey) -> Vec<f64> {
        (0..batch as u64)
            .map(|row| self.draw_one(process, key.at_sample(key.sample.wrapping_add(row))))
            .collect()
    }

    fn draw_one(self, process: &dyn Process, key: NoiseKey) -> f64 {
        // In (0, 1]: where the range's ends are the data and the noise, the noise is drawn and the data is not.
        let u = match self {
            Self::Uniform => 1.0 - f64::from(uniform_values(1, key)[0]),
            Self::LogitNormal { mean, std } => {
                let u = mean + std * f64::from(normal_values(1, key)[0]);
                1.0 / (1.0 + (-u).exp())
            }
        };
        process.rungs().map_or_else(
            || process.t_min() + (process.t_max() - process.t_min()) * u,
            |rungs| (u * rungs as f64).ceil().clamp(1.0, rungs as f64) / rungs as f64,
        )
    }
}

/// How squared errors of the output count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Weighting {
    /// All alike: DDPM's simple loss (Ho et al. 2020, equation 14), and for EDM's output its own weighting.
    #[default]
    Simple,
    /// `min(SNR, gamma)` for errors of the data estimate, whatever the prediction (Hang et al. 2023; gamma = 5).
    MinSnr {
        /// Where the signal-to-noise ratio stops counting.
        gamma: f64,
    },
}

impl Weighting {
    /// The weight of a squared error of the output.
    #[must_use]
    pub fn weight(self, prediction: Prediction, law: &Law) -> f64 {
        match self {
            Self::Simple => 1.0,
            // An error e of the output is an error b e of the data estimate.
            Self::MinSnr { gamma } => {
                let snr = (law.alpha / law.sigma).powi(2).clamp(1e-16, 1e16);
                snr.min(gamma) * prediction.coefficients(law).data[1].powi(2)
            }
        }
    }
}

/// What a network is trained for.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_backend::noise::{NoiseKey, normal};
/// use kiln_diffusion::{Objective, Prediction, RectifiedFlow};
///
/// # fn network(x: Tensor<2>, _times: Tensor<1>) -> Tensor<2> { x }
/// let device = Device::flex();
/// let objective = Objective::new(Prediction::Velocity);
/// let (data, key) = (Tensor::<2>::ones([8, 3], &device), NoiseKey::new(0));
/// let pair = objective.pair(&RectifiedFlow, data, key);
/// let loss = pair.loss(network(pair.input.clone(), pair.network_times.clone()));
/// assert!(loss.into_scalar::<f32>() > 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// What the output means.
    pub prediction: Prediction,
    /// How times are drawn.
    #[serde(default)]
    pub times: TimeSampling,
    /// How errors count.
    #[serde(default)]
    pub weighting: Weighting,
}

impl Objective {
    /// This prediction with uniform times and the simple weighting.
    #[must_use]
    pub const fn new(prediction: Prediction) -> Self {
        Self { prediction, times: TimeSampling::Uniform, weighting: Weighting::Simple }
    }

    /// Whether the choices go together and their numbers are in range.
    ///
    /// # Errors
    /// As [`Prediction::check`], and for a logit-normal `std` or a `gamma` that is not above 0.
    pub fn check(&self, process: &dyn Process) -> Result<(), DiffusionError> {
        self.prediction.check(process)?;
        if let TimeSampling::LogitNormal { mean, std } = self.times {
            require("mean of the logit-normal times", "finite", mean, true)?;
            require("std of the logit-normal times", "above 0", std, std > 0.0)?;
        }
        if let Weighting::MinSnr { gamma } = self.weighting {
            require("gamma of the min-SNR weighting", "above 0", gamma, gamma > 0.0)?;
        }
        Ok(())
    }

    /// Times and noise drawn from a key (noise at its step, times at the step's complement), then [`Objective::pair_at`].
    ///
    /// # Shapes
    /// - `data`: `[batch, ...]`; row i draws as sample `key.sample + i`.
    #[must_use]
    pub fn pair<const D: usize>(
        &self,
        process: &dyn Process,
        data: Tensor<D>,
        key: NoiseKey,
    ) -> TrainingPair<D> {
        let noise = kiln_backend::noise::normal(data.dims(), key, &data.device()).cast(data.dtype());
        // The complement, so that no caller who counts steps up from 0 ever draws noise from the times' stream.
        let times = self.times.draw(process, data.dims()[0], key.at_step(!key.step));
        self.pair_at(process, Estimate { data, noise }, &times)
    }

    /// What the network is given and should answer, for known noise and one time a sample.
    ///
    /// # Shapes
    /// - `truth`: data and noise, `[batch, ...]`; `times`: batch.
    ///
    /// # Panics
    /// If there is not one time a sample.
    #[must_use]
    pub fn pair_at<const D: usize>(
        &self,
        process: &dyn Process,
        truth: Estimate<D>,
        times: &[f64],
    ) -> TrainingPair<D> {
        let laws: Vec<Law> = times.iter().map(|&t| process.law(t)).collect();
        let input_of = |law: &Law| {
            let scale = self.prediction.input_scale(law);
            [scale * law.alpha, scale * law.sigma]
        };
        let inputs: Vec<_> = laws.iter().map(input_of).collect();
        let weights: Vec<_> = laws.iter().map(|law| self.weighting.weight(self.prediction, law)).collect();
        let network_times: Vec<_> = times.iter().map(|&t| process.network_time(t)).collect();
        let batch = times.len();
        TrainingPair {
            network_times: column(&network_times, &truth.data).reshape([batch]),
            weights: column(&weights, &truth.data).reshape([batch]),
            target: self.prediction.target_each(&truth, &laws),
            input: blend_each(&inputs, truth.data, truth.noise),
            times: times.to_vec(),
        }
    }
}

/// `x_t = alpha(t_i) x_0 + sigma(t_i) eps`, with a time for each sample i.
///
/// # Shapes
/// - `data`, `noise`: `[batch, ...]`; `times`: batch.
///
/// # Panics
/// If there is not one time a sample.
#[must_use]
pub fn perturb<const D: usize>(
    process: &dyn Process,
    data: Tensor<D>,
    noise: Tensor<D>,
    times: &[f64],
) -> Tensor<D> {
    let coefficients: Vec<_> =
        times.iter().map(|&t| process.law(t)).map(|law| [law.alpha, law.sigma]).collect();
    blend_each(&coefficients, data, noise)
}

/// A batch to train on.
#[derive(Clone, Debug)]
pub struct TrainingPair<const D: usize> {
    /// What the network is given, `[batch, ...]`: `x_t`, scaled where the prediction asks for it.
    pub input: Tensor<D>,
    /// The time it is told, `[batch]`.
    pub network_times: Tensor<1>,
    /// What it should answer, `[batch, ...]`.
    pub target: Tensor<D>,
    /// What its squared errors count, `[batch]`.
    pub weights: Tensor<1>,
    /// The times themselves.
    pub times: Vec<f64>,
}

impl<const D: usize> TrainingPair<D> {
    /// The weighted mean of squared errors, `[1]`.
    #[must_use]
    pub fn loss(&self, output: Tensor<D>) -> Tensor<1> {
        self.loss_each(output).mean()
    }

    /// The weighted mean of squared errors of each sample, `[batch]`.
    #[must_use]
    pub fn loss_each(&self, output: Tensor<D>) -> Tensor<1> {
        let batch = self.times.len();
        let size = output.dims().iter().product::<usize>() / batch.max(1);
        let squares = (output - self.target.clone()).square().reshape([batch, size]);
        squares.mean_dim(1).reshape([batch]) * self.weights.clone()
    }
}
