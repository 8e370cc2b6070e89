//! Predictor and corrector: the reverse stochastic equation, and Langevin's dynamics at each level of noise.
//!
//! ```text
//! correct   x <- x + e score + sqrt(2 e) z      at t, `corrections` times
//!           e = 2 a² (r |z| / |score|)²         Langevin; of a batch by the means of |z| and |score| over it
//!           e = 2 a² (r sigma_t)²               annealed Langevin
//! predict   x_s = (2 - a) x + v score + sqrt(v) z'                              reverse diffusion
//!           x_s = x - (f x - g² score) (t - s) + g sqrt(t - s) z'               Euler and Maruyama
//!           x_s = x / a                                                         identity
//! ```
//!
//! with the score at t (`-eps / sigma` of most denoisers) and `N(a x_s, v)` the kernel from s to t: `a = alpha_t / alpha_s`,
//! `v = sigma_t² - a² sigma_s²`. The last draw is left out where no noise is left at s; there the identity gives the data's estimate.
//!
//! The identity with annealed Langevin's corrections is NCSN's sampler, whose steps are `epsilon sigma² / sigma_L²` in a form with halves:
//! `epsilon / sigma_L² = 4 r²`. See [`annealing`](crate::annealing).
//!
//! Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, algorithms 2 to 5 and
//! appendices E and G; Song, Ermon 2019, algorithm 1. Norms are each sample's own, so that samples don't depend on their batch; the paper's code takes
//! the batch's mean, which is a corrector of its own here.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::blend::{blend, scale};
use crate::{Advance, Law, Prediction, Solver, StepContext};

/// How the reverse equation is stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// The forward kernel's own discretisation, turned round.
    #[default]
    ReverseDiffusion,
    /// Euler and Maruyama's rule; not where the drift is infinite.
    EulerMaruyama,
    /// None: the sample stays as it is while its level falls, and the corrections do all.
    Identity,
}

/// How long a correction's step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corrector {
    /// By the norms of noise and score.
    #[default]
    Langevin,
    /// By the mean norms over the batch, as the paper's code and diffusers' `ScoreSdeVeScheduler` have it: a sample depends on those beside it.
    LangevinOfBatch,
    /// By the level of noise alone, as NCSN's.
    Annealed,
}

/// A predictor with corrections before it. First order in the weak sense.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictorCorrector {
    /// The step from t to s.
    #[serde(default)]
    pub predictor: Predictor,
    /// The length of a correction's step.
    #[serde(default)]
    pub corrector: Corrector,
    /// Steps of Langevin's dynamics before it; none for the predictor alone.
    #[serde(default)]
    pub corrections: usize,
    /// r, the signal-to-noise ratio of a correction; 0.16 in the paper.
    #[serde(default = "signal_to_noise")]
    pub signal_to_noise: f64,
}

fn signal_to_noise() -> f64 {
    0.16
}

impl PredictorCorrector {
    /// NCSN's annealed Langevin dynamics: `corrections` steps of `step sigma²` at every level, where `step` is the papers' `epsilon / sigma_L²`: 0.2 with
    /// 100 corrections in NCSN, 0.062 with 5 in NCSNv2 for CIFAR-10.
    #[must_use]
    pub fn annealed_langevin(corrections: usize, step: f64) -> Self {
        Self {
            predictor: Predictor::Identity,
            corrector: Corrector::Annealed,
            corrections,
            signal_to_noise: step.sqrt() / 2.0,
        }
    }

    /// One correction of x, whose score this is.
    fn correct<const D: usize>(
        &self,
        x: Tensor<D>,
        score: Tensor<D>,
        z: Tensor<D>,
        a: f64,
        law: &Law,
    ) -> Tensor<D> {
        let factor = 2.0 * (a * self.signal_to_noise).powi(2);
        match self.corrector {
            Corrector::Annealed => {
                let e = factor * law.sigma.powi(2);
                x + blend([e, (2.0 * e).sqrt()], score, z)
            }
            Corrector::Langevin | Corrector::LangevinOfBatch => {
                let norm = |x: &Tensor<D>| match self.corrector {
                    Corrector::LangevinOfBatch => norm_squared(x.clone()).sqrt().mean_dim(0).square(),
                    _ => norm_squared(x.clone()),
                };
                let e = (norm(&z) / norm(&score).clamp_min(1e-20)).mul_scalar(factor);
                x + e.clone() * score + e.mul_scalar(2.0).sqrt() * z
            }
        }
    }
}

impl<const D: usize> Solver<D> for PredictorCorrector {
    type State = ();

    /// A step from t to t is corrections alone.
    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        _: &mut (),
        mut x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let process = context.process;
        let (from, to) = (process.law(t), process.law(s));
        let a = from.alpha / to.alpha;
        let mut seen = None;
        for draw in 0..self.corrections {
            let score = context.denoiser.score(x.clone(), t, &from);
            seen = Some(Prediction::Score.estimate(score.clone(), x.clone(), &from));
            let z = (context.noise)(1 + draw);
            x = (context.between)(self.correct(x, score, z, a, &from), t, draw);
        }
        if (s >= t || (self.predictor == Predictor::Identity && to.sigma > 0.0))
            && let Some(estimate) = seen
        {
            return Advance { sample: scale(1.0 / a, x), estimate };
        }
        let estimate = context.denoiser.denoise(x.clone(), t);
        let v = (from.sigma.powi(2) - (a * to.sigma).powi(2)).max(0.0);
        let (mean, variance) = match self.predictor {
            Predictor::ReverseDiffusion => ([2.0 - a, -v / from.sigma], v),
            Predictor::EulerMaruyama => {
                let (h, g2) = (t - s, process.diffusion_squared(t));
                ([1.0 - process.drift(t) * h, -g2 * h / from.sigma], g2 * h)
            }
            Predictor::Identity => {
                return Advance { sample: scale(to.alpha, estimate.data.clone()), estimate };
            }
        };
        let mut sample = blend(mean, x, estimate.noise.clone());
        if to.sigma > 0.0 && variance > 0.0 {
            sample = sample + scale(variance.sqrt(), (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}

/// The sum of the squares of each sample, `[batch, 1, ...]`.
fn norm_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (1..D).fold(x.square(), Tensor::sum_dim)
}
