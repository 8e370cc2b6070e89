//! The training side: draw times, perturb the data, say what the network should have said, weigh its errors.
//!
//! ```text
//! loss = E_{x_0, eps, t} [ w(t) |output(x_t, t) - target|² ],   x_t = alpha(t) x_0 + sigma(t) eps
//! ```
//!
//! An [`Objective`] holds the choices (prediction, times and their shift, weighting) and turns a batch of data into a [`TrainingPair`]. The papers'
//! losses are combinations of these:
//!
//! | loss | prediction | weighting | source |
//! |---|---|---|---|
//! | DDPM's `L_simple` | noise | simple | Ho et al. 2020, equation 14 |
//! | denoising score matching over levels | score | score matching | Song, Ermon 2019, equation 6 |
//! | maximum likelihood of score models | any | likelihood | Song et al. 2021, theorem 1 |
//! | EDM's | EDM | simple, log-normal levels | Karras et al. 2022, table 1 |
//! | conditional flow matching | velocity | simple | Lipman et al. 2023, equation 23; Liu et al. 2023, equation 1 |
//!
//! [`LearnedVariance`] adds the bound that teaches a network its variance, and [`SlicedScoreMatching`] needs no noise to regress on.

mod learned_variance;
mod sliced;
mod times;
mod weighting;

use burn::tensor::Tensor;
use kiln_backend::noise::NoiseKey;
use serde::{Deserialize, Serialize};

pub use learned_variance::{LearnedVariance, variational_bound};
pub use sliced::SlicedScoreMatching;
pub use times::{TimeSampling, resolution_shift};
pub use weighting::Weighting;

use crate::blend::{blend_each, column};
use crate::error::require;
use crate::{DiffusionError, Estimate, Law, Prediction, Process};

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
    /// By how much times are moved towards the noise for larger pictures, see [`resolution_shift`]; 1 leaves them.
    #[serde(default = "no_shift")]
    pub shift: f64,
}

fn no_shift() -> f64 {
    1.0
}

impl Objective {
    /// This prediction with uniform times and the simple weighting.
    #[must_use]
    pub const fn new(prediction: Prediction) -> Self {
        Self { prediction, times: TimeSampling::Uniform, weighting: Weighting::Simple, shift: 1.0 }
    }

    /// Whether the choices go together and their numbers are in range.
    ///
    /// # Errors
    /// As [`Prediction::check`], [`TimeSampling::check`] and [`Weighting::check`], and for a `shift` that is not above 0.
    pub fn check(&self, process: &dyn Process) -> Result<(), DiffusionError> {
        self.prediction.check(process)?;
        self.times.check()?;
        self.weighting.check()?;
        require("shift of the training times", "above 0", self.shift, self.shift > 0.0).map(drop)
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
        let times = self.times.draw_shifted(process, data.dims()[0], self.shift, key.at_step(!key.step));
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
