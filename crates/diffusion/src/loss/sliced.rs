//! Sliced score matching by finite differences: the score learnt without its target, from projections.
//!
//! Score matching (Hyvärinen 2005) needs no regression target, but the trace of the score's Jacobian. Sliced (Song, Garg, Shi, Ermon 2019,
//! equation 8; as they say, `E_v (v's)² = |s|²` is put in, which lowers the variance), with `E v v' = I`,
//!
//! ```text
//! L = E_x E_v [ v' J_s(x) v + |s(x)|² / 2 ] = E_x |s(x) - grad ln p(x)|² / 2 - E_x |grad ln p(x)|² / 2
//! ```
//!
//! To train on the first term needs a derivative of a derivative. Burn's autodiff is of first order, so that the term is a central difference and
//! the score the mean of its two ends (Pang et al. 2020, "Efficient learning of generative models via finite-difference score matching",
//! equation 9, for a score in place of a density):
//!
//! ```text
//! s± = s(x ± h v),   L_h = E_x E_v [ v'(s+ - s-) / (2 h) + |(s+ + s-) / 2|² / 2 ]
//! ```
//!
//! Two evaluations, in one batch. By Taylor's series its bias is `h² (v' D³s[v, v, v] / 6 + s' D²s[v, v] / 2)` and higher even orders: none for a score
//! that is linear in x, that is for Gaussian data. In f32 rounding adds a variance of some `(1e-7 |s| / h)²`, so h is neither large nor tiny;
//! it is told in units of sigma, on whose scale the score of perturbed data moves.
//!
//! Over noise levels each loss counts `sigma²` (Song, Ermon 2019, section 3.2 and equation 6). At its optimum `L = -E |grad ln p|² / 2`, which for
//! Gaussian data of d coordinates with standard deviation s is `-d / (2 (alpha² s² + sigma²))`.

use burn::tensor::Tensor;
use kiln_backend::noise::{NoiseKey, normal};
use serde::{Deserialize, Serialize};

use crate::blend::{blend_each, column};
use crate::error::require;
use crate::{DiffusionError, Law, Prediction, Probe, Process, TimeSampling};

/// Sliced score matching over noise levels, by central differences.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_backend::noise::{NoiseKey, normal};
/// use kiln_diffusion::{Prediction, SlicedScoreMatching, VarianceExploding};
///
/// let (process, device) = (VarianceExploding::new(0.1, 1.0)?, Device::flex());
/// let data: Tensor<2> = normal([16, 2], NoiseKey::new(0), &device);
/// // Any network of x and time whose output a Prediction can read.
/// let network = |x: Tensor<2>, _times: Tensor<1>| -x;
/// let loss = SlicedScoreMatching::default().loss(&process, Prediction::Score, network, data, NoiseKey::new(1));
/// assert_eq!(loss.dims(), [16]);
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlicedScoreMatching {
    /// How times are drawn.
    #[serde(default)]
    pub times: TimeSampling,
    /// The law of the projections.
    #[serde(default)]
    pub probe: Probe,
    /// h, in units of sigma.
    #[serde(default = "default_step")]
    pub step: f64,
}

fn default_step() -> f64 {
    0.05
}

impl Default for SlicedScoreMatching {
    /// Uniform times, Rademacher projections, a step of 0.05 sigma.
    fn default() -> Self {
        Self { times: TimeSampling::Uniform, probe: Probe::Rademacher, step: default_step() }
    }
}

impl SlicedScoreMatching {
    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// As [`TimeSampling::check`], and for a `step` that is not above 0.
    pub fn check(self) -> Result<(), DiffusionError> {
        self.times.check()?;
        require("step of sliced score matching", "above 0", self.step, self.step > 0.0).map(drop)
    }

    /// `sigma² L_h` of each sample over its number of coordinates, `[batch]`: data perturbed at times drawn from the key, as
    /// [`Objective::pair`](crate::Objective::pair) does. Its mean is what to lower; it is negative where the score is good.
    ///
    /// # Shapes
    /// - `data`: `[batch, ...]`; `network`: from `(x [2 batch, ...], network times [2 batch])` to what `prediction` says.
    #[must_use]
    pub fn loss<const D: usize>(
        self,
        process: &dyn Process,
        prediction: Prediction,
        network: impl Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
        data: Tensor<D>,
        key: NoiseKey,
    ) -> Tensor<1> {
        let batch = data.dims()[0];
        let noise = normal(data.dims(), key, &data.device()).cast(data.dtype());
        let times = self.times.draw(process, batch, key.at_step(!key.step));
        let laws: Vec<Law> = times.iter().map(|&t| process.law(t)).collect();
        let mixing: Vec<_> = laws.iter().map(|law| [law.alpha, law.sigma]).collect();
        let x = blend_each(&mixing, data, noise);
        // The bit of a counter that no caller's count of steps sets, nor the times' complement of it.
        let slices = self.probe.draw(&x, key.at_step(key.step ^ (1 << 62)));

        let twice = |values: Vec<f64>| [values.clone(), values].concat();
        let both_laws = [laws.clone(), laws.clone()].concat();
        let score = |x: Tensor<D>| {
            let told = twice(times.iter().map(|&t| process.network_time(t)).collect());
            let told = column(&told, &x).reshape([2 * batch]);
            let scales = column(&twice(laws.iter().map(|law| prediction.input_scale(law)).collect()), &x);
            let output = network(x.clone() * scales, told);
            let noise = prediction.estimate_each(output, x.clone(), &both_laws).noise;
            noise * column(&twice(laws.iter().map(|law| -1.0 / law.sigma).collect()), &x)
        };
        let steps: Vec<f64> = laws.iter().map(|law| self.step * law.sigma).collect();
        let weights: Vec<f64> = laws.iter().map(|law| law.sigma.powi(2)).collect();
        let weights = column(&weights, &x).reshape([batch]);
        sliced_loss(score, x, slices, &steps) * weights
    }
}

/// `L_h` of each sample over its number of coordinates, `[batch]`, for any function of x.
///
/// # Shapes
/// - `score`: from `[2 batch, ...]` to the same; `x`, `slices`: `[batch, ...]`; `steps`: batch.
///
/// # Panics
/// If there is not one step a sample.
fn sliced_loss<const D: usize>(
    score: impl Fn(Tensor<D>) -> Tensor<D>,
    x: Tensor<D>,
    slices: Tensor<D>,
    steps: &[f64],
) -> Tensor<1> {
    let batch = x.dims()[0];
    let size = x.dims().iter().product::<usize>() / batch.max(1);
    let offset = slices.clone() * column(steps, &x);
    let inverse: Vec<f64> = steps.iter().map(|h| 0.5 / h).collect();
    let inverse = column(&inverse, &x);
    let scores = score(Tensor::cat(vec![x.clone() + offset.clone(), x - offset], 0));
    let (ahead, behind) = (scores.clone().narrow(0, 0, batch), scores.narrow(0, batch, batch));
    let trace = slices * (ahead.clone() - behind.clone()) * inverse;
    let middle = (ahead + behind) * 0.5;
    (trace + middle.square() * 0.5).reshape([batch, size]).mean_dim(1).reshape([batch])
}
