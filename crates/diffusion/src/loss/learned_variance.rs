//! Learned variance: the simple loss for the mean, and the variational bound for the variance alone.
//!
//! ```text
//! L = L_simple + lambda N L_vlb,    L_vlb = KL(q(x_s | x_t, x_0) || N(mean, variance))    from rung t to the rung s below it
//!                                   L_vlb = -ln p(x_0 | x_t)                              from the first rung to the data
//! variance = exp(u ln greatest + (1 - u) ln least),  u = (spread + 1) / 2
//! ```
//!
//! `least` is the posterior's variance, `greatest` the transition's, as in the [`Ancestral`](crate::Ancestral) solver; from the first rung to the data, where
//! the posterior has none, `least` is that of the second rung. The mean takes part with its gradient stopped, so that only the variance learns from
//! the bound. The last term is a normal's probability of the 8-bit level, `1/127.5` wide, that the data lies in; its tails at -1 and 1 are whole.
//!
//! L_vlb is in bits for each coordinate. Drawing one rung of N estimates a Nth of the bound's sum, hence the factor N.
//!
//! Source: Nichol, Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021, section 3.1, equations 15 and 16, lambda = 0.001.

use std::f64::consts::{LN_2, PI};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::TrainingPair;
use crate::blend::{blend_each, column};
use crate::error::require;
use crate::{DdpmLadder, DiffusionError, Estimate, Law, Prediction, Process};

/// The hybrid loss of a network that also says how wide its posterior is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedVariance {
    /// What the bound counts beside the simple loss.
    pub lambda: f64,
}

impl Default for LearnedVariance {
    /// The paper's 0.001.
    fn default() -> Self {
        Self { lambda: 1e-3 }
    }
}

/// Half the width of an 8-bit level in [-1, 1].
const HALF_LEVEL: f64 = 1.0 / 255.0;
/// Probabilities are held above this in logarithms.
const LEAST_PROBABILITY: f64 = 1e-12;

impl LearnedVariance {
    /// Whether lambda is in range.
    ///
    /// # Errors
    /// For a lambda below 0.
    pub fn check(self) -> Result<(), DiffusionError> {
        require("lambda of the hybrid loss", "at least 0", self.lambda, self.lambda >= 0.0).map(drop)
    }

    /// The hybrid loss of each sample, `[batch]`.
    ///
    /// # Shapes
    /// - `truth`: the data and noise that `pair` was made of, `[batch, ...]`; `output`: the network's prediction, and `spread`: its word on the variance, from
    ///   -1 (least) to 1 (greatest), both as the data.
    ///
    /// # Panics
    /// If the shapes differ.
    #[must_use]
    pub fn loss_each<const D: usize>(
        self,
        ladder: &DdpmLadder,
        prediction: Prediction,
        pair: &TrainingPair<D>,
        truth: &Estimate<D>,
        output: Tensor<D>,
        spread: Tensor<D>,
    ) -> Tensor<1> {
        let laws: Vec<Law> = pair.times.iter().map(|&t| ladder.law(t)).collect();
        let mixing: Vec<_> = laws.iter().map(|law| [law.alpha, law.sigma]).collect();
        let x = blend_each(&mixing, truth.data.clone(), truth.noise.clone());
        let frozen = prediction.estimate_each(output.clone().detach(), x.clone(), &laws);
        let bound = variational_bound(ladder, &pair.times, &truth.data, &x, &frozen.data, spread);
        let rungs = ladder.rungs().unwrap_or(1) as f64;
        pair.loss_each(output) + bound * (self.lambda * rungs)
    }

    /// The mean of [`LearnedVariance::loss_each`], `[1]`.
    ///
    /// # Panics
    /// As it.
    #[must_use]
    pub fn loss<const D: usize>(
        self,
        ladder: &DdpmLadder,
        prediction: Prediction,
        pair: &TrainingPair<D>,
        truth: &Estimate<D>,
        output: Tensor<D>,
        spread: Tensor<D>,
    ) -> Tensor<1> {
        self.loss_each(ladder, prediction, pair, truth, output, spread).mean()
    }
}

/// The bound's term of each sample, in bits for each coordinate, `[batch]`.
///
/// # Shapes
/// - `data`, `x`: the truth and `x_t`; `estimate`: the data as the network sees it; `spread`: from -1 to 1; all `[batch, ...]`. `times`: rungs, one a sample.
///
/// # Panics
/// If the shapes differ.
#[must_use]
pub fn variational_bound<const D: usize>(
    ladder: &DdpmLadder,
    times: &[f64],
    data: &Tensor<D>,
    x: &Tensor<D>,
    estimate: &Tensor<D>,
    spread: Tensor<D>,
) -> Tensor<1> {
    let batch = times.len();
    let size = data.dims().iter().product::<usize>() / batch.max(1);
    let posteriors: Vec<Posterior> = times.iter().map(|&t| Posterior::at(ladder, t)).collect();
    let of = |part: fn(&Posterior) -> f64| column(&posteriors.iter().map(part).collect::<Vec<_>>(), data);
    let means: Vec<[f64; 2]> = posteriors.iter().map(|p| [p.of_data, p.of_x]).collect();
    let truth = blend_each(&means, data.clone(), x.clone());
    let mean = blend_each(&means, estimate.clone(), x.clone());
    let (least, greatest) = (of(|p| p.log_least), of(|p| p.log_greatest));
    let log_variance = (spread + 1.0) * ((greatest - least.clone()) * 0.5) + least.clone();

    let ratio = (least.clone() - log_variance.clone()).exp();
    let square = (truth - mean.clone()).square() * (-log_variance.clone()).exp();
    let divergence = (log_variance.clone() - least + ratio + square - 1.0) * 0.5;
    let decoder = -level_log_probability(data, mean, log_variance);
    let first = of(|p| f64::from(u8::from(p.to_data)));
    let term = divergence * (first.clone().neg() + 1.0) + decoder * first;
    term.reshape([batch, size]).mean_dim(1).reshape([batch]) * (1.0 / LN_2)
}

/// `ln P` of the 8-bit level that the data is the middle of, under a normal.
fn level_log_probability<const D: usize>(
    data: &Tensor<D>,
    mean: Tensor<D>,
    log_variance: Tensor<D>,
) -> Tensor<D> {
    let inverse = (log_variance * -0.5).exp();
    let below_upper = normal_below((data.clone() - mean.clone() + HALF_LEVEL) * inverse.clone());
    let below_lower = normal_below((data.clone() - mean - HALF_LEVEL) * inverse);
    let log = |probability: Tensor<D>| probability.clamp_min(LEAST_PROBABILITY).log();
    let inside = log(below_upper.clone() - below_lower.clone());
    let lowest = data.clone().lower_elem(-0.999);
    let highest = data.clone().greater_elem(0.999);
    inside.mask_where(lowest, log(below_upper)).mask_where(highest, log(below_lower.neg() + 1.0))
}

/// The share of a standard normal below z, by `(1 + tanh(sqrt(2 / pi) (z + 0.044715 z³))) / 2`: to 3e-4, as the paper's own code takes it.
fn normal_below<const D: usize>(z: Tensor<D>) -> Tensor<D> {
    let cube = z.clone().powi_scalar(3);
    ((z + cube * 0.044_715) * (2.0 / PI).sqrt()).tanh() * 0.5 + 0.5
}

/// `q(x_s | x_t, x_0)` from a rung to the one below, and the two bounds of its variance.
struct Posterior {
    of_data: f64,
    of_x: f64,
    log_least: f64,
    log_greatest: f64,
    to_data: bool,
}

impl Posterior {
    fn at(ladder: &DdpmLadder, t: f64) -> Self {
        let rungs = ladder.rungs().unwrap_or(1) as f64;
        let below = |t: f64| ((t * rungs).round() - 1.0) / rungs;
        let s = below(t);
        let (least, greatest) = variances(&ladder.law(t), &ladder.law(s));
        let (from, to) = (ladder.law(t), ladder.law(s));
        let to_data = s <= 0.0;
        let least = match to_data {
            // The data has no variance to fall to: the second rung's posterior stands in.
            true => variances(&ladder.law(2.0 / rungs), &ladder.law(1.0 / rungs)).0,
            false => least,
        };
        Self {
            of_data: to.alpha * greatest / from.sigma.powi(2),
            of_x: from.alpha / to.alpha * (to.sigma / from.sigma).powi(2),
            log_least: least.ln(),
            log_greatest: greatest.ln(),
            to_data,
        }
    }
}

/// The variances of the posterior and of the transition, from t to s.
fn variances(from: &Law, to: &Law) -> (f64, f64) {
    let transition = from.sigma.powi(2) - (from.alpha / to.alpha * to.sigma).powi(2);
    (transition * (to.sigma / from.sigma).powi(2), transition)
}
