//! Predictor and corrector: the reverse stochastic equation, and Langevin's dynamics at each level of noise.
//!
//! ```text
//! correct   x <- x + e score + sqrt(2 e) z,   e = 2 a² (r |z| / |score|)²        at t, `corrections` times
//! predict   x_s = (2 - a) x + v score + sqrt(v) z'                              reverse diffusion
//!           x_s = x - (f x - g² score) (t - s) + g sqrt(t - s) z'               Euler and Maruyama
//! ```
//!
//! with `score = -eps / sigma` at t and `N(a x_s, v)` the kernel from s to t: `a = alpha_t / alpha_s`, `v = sigma_t² - a² sigma_s²`. The
//! last draw is left out where no noise is left at s.
//!
//! Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, algorithms 2 to 5 and
//! appendices E and G. Norms are each sample's own, where the paper takes the batch's mean, so that samples don't depend on their batch.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::blend::{blend, scale};
use crate::{Advance, Solver, StepContext};

/// How the reverse equation is stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// The forward kernel's own discretisation, turned round.
    #[default]
    ReverseDiffusion,
    /// Euler and Maruyama's rule; not where the drift is infinite.
    EulerMaruyama,
}

/// A predictor with corrections before it. First order in the weak sense.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictorCorrector {
    /// The step from t to s.
    #[serde(default)]
    pub predictor: Predictor,
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

impl<const D: usize> Solver<D> for PredictorCorrector {
    type State = ();

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
        let v = (from.sigma.powi(2) - (a * to.sigma).powi(2)).max(0.0);
        let mut estimate = context.denoiser.denoise(x.clone(), t);
        for draw in 0..self.corrections {
            let z = (context.noise)(1 + draw);
            let score = scale(-1.0 / from.sigma, estimate.noise);
            let e = (norm_squared(z.clone()) / norm_squared(score.clone()).clamp_min(1e-20))
                .mul_scalar(2.0 * a * a * self.signal_to_noise.powi(2));
            x = x + e.clone() * score + e.mul_scalar(2.0).sqrt() * z;
            estimate = context.denoiser.denoise(x.clone(), t);
        }
        let (mean, variance) = match self.predictor {
            Predictor::ReverseDiffusion => ([2.0 - a, -v / from.sigma], v),
            Predictor::EulerMaruyama => {
                let (h, g2) = (t - s, process.diffusion_squared(t));
                ([1.0 - process.drift(t) * h, -g2 * h / from.sigma], g2 * h)
            }
        };
        let mut sample = blend(mean, x, estimate.noise.clone());
        if to.sigma > 0.0 {
            sample = sample + scale(variance.sqrt(), (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}

/// The sum of the squares of each sample, `[batch, 1, ...]`.
fn norm_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (1..D).fold(x.square(), Tensor::sum_dim)
}
