//! SA-Solver: Adams' multistep rules for the reverse stochastic equation, with as much noise as one likes.
//!
//! Among the equations whose solutions have the process's law at every time are those with a share tau of the reverse noise: tau = 0 is the
//! probability flow, tau = 1 the reverse equation. With `lambda = ln(alpha / sigma)`, `h = lambda_s - lambda_t`, `k = 1 + tau²` and tau constant in a
//! step, its solution from t to s is exact but for an integral, in which the polynomial through several estimates `m_i` stands for the network:
//!
//! ```text
//! data:   x_s = sigma_s / sigma_t e^(-tau² h) x_t + k alpha_s sum_i m_i int e^(k (lambda - lambda_s)) l_i dlambda + sigma_s sqrt(1 - e^(-2 tau² h)) z
//! noise:  x_s = alpha_s / alpha_t x_t - k sigma_s sum_i m_i int e^(lambda_s - lambda) l_i dlambda + tau sigma_s sqrt(e^(2h) - 1) z
//! ```
//!
//! with `l_i` Lagrange's polynomials on the estimates' lambdas. The predictor (Adams and Bashforth's) joins the estimates at t and before; the
//! corrector (Adams and Moulton's) makes the same step again with the same z and the estimate at s besides. It costs no evaluation, since that
//! estimate is needed for the next step. At order 2 in the form for the data, `int e^(k (lambda - lambda_s)) (lambda - lambda_t) dlambda` is
//! taken as `h² / 2`: a difference of `O(h³)`, for which the authors found better pictures in few steps.
//!
//! Source: Xue, Yi, Luo, Zhang, Sun, Li, Ma, "SA-Solver: stochastic Adams solver for fast sampling of diffusion models", 2023, equations 14 to 17. Where
//! h is infinite (from pure noise, to clean data) a step is of order 1, and is not corrected.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::polynomial::{integrate, lagrange};
use super::{Advance, Corrected, FinalOrder, Integrand, Solver, StepContext};
use crate::blend::sum;

/// SA-Solver; one evaluation a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StochasticAdams {
    /// Estimates that the predictor joins, 1 to 4.
    pub predictor_order: usize,
    /// Estimates that the corrector joins, the new one among them, 1 to 4; 0 for no corrector.
    pub corrector_order: usize,
    /// What is integrated.
    pub integrand: Integrand,
    /// The share of noise, from 0.
    pub tau: f64,
    /// The times, from the first to the second, at which steps set out with that share; 0 at others. `None` for all.
    pub noisy_between: Option<[f64; 2]>,
    /// The order of the last steps: `Lowered` falls by one a step to 1.
    pub final_order: FinalOrder,
}

impl StochasticAdams {
    /// Predictor and corrector of order 2, tau = 1 throughout.
    pub(super) const DEFAULT: Self = Self {
        predictor_order: 2,
        corrector_order: 2,
        integrand: Integrand::Data,
        tau: 1.0,
        noisy_between: None,
        final_order: FinalOrder::Kept,
    };

    fn tau_at(self, t: f64) -> f64 {
        let noisy = self.noisy_between.is_none_or(|[from, to]| (from..=to).contains(&t));
        if noisy { self.tau } else { 0.0 }
    }

    /// The orders of predictor and corrector in a step that `remaining` steps follow, with so many estimates at hand.
    fn orders(self, remaining: usize, estimates: usize) -> [usize; 2] {
        let most = match self.final_order {
            FinalOrder::Lowered => self.predictor_order.min(remaining + 1),
            other => other.of(self.predictor_order, remaining),
        };
        let of_corrector = match self.final_order {
            FinalOrder::Lowered => self.corrector_order.min(remaining + 2),
            FinalOrder::Kept | FinalOrder::Euler => self.corrector_order,
        };
        [most.min(estimates), of_corrector.min(estimates + 1)]
    }
}

impl Default for StochasticAdams {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A step t → s, as far as it does not hang on the estimates.
struct Stride {
    integrand: Integrand,
    /// k.
    rate: f64,
    lambda_t: f64,
    lambda_s: f64,
    /// alpha_s, or sigma_s for the noise.
    outer: f64,
    of_x: f64,
    of_z: f64,
    /// The weight of a single estimate.
    whole: f64,
}

impl Stride {
    fn new<const D: usize>(rule: StochasticAdams, context: &StepContext<'_, D>, t: f64, s: f64) -> Self {
        let [lambda_t, lambda_s] = [t, s].map(|time| context.process.log_snr(time) / 2.0);
        let (from, to) = (context.process.law(t), context.process.law(s));
        let (h, tau) = (lambda_s - lambda_t, rule.tau_at(t));
        let rate = 1.0 + tau * tau;
        // tau² h, also where h is infinite.
        let decay = if tau == 0.0 { 0.0 } else { tau * tau * h };
        let (outer, of_x, of_z, whole) = match rule.integrand {
            Integrand::Data => (
                to.alpha,
                to.sigma / from.sigma * (-decay).exp(),
                to.sigma * (-(-2.0 * decay).exp_m1()).sqrt(),
                -to.alpha * (-rate * h).exp_m1(),
            ),
            Integrand::Noise => {
                // sigma_s (e^h - 1) and sigma_s sqrt(e^2h - 1), finite where sigma_s = 0.
                let growth = to.alpha * from.sigma / from.alpha - to.sigma;
                let spread = (growth * (growth + 2.0 * to.sigma)).max(0.0).sqrt();
                (to.sigma, to.alpha / from.alpha, tau * spread, -rate * growth)
            }
        };
        Self { integrand: rule.integrand, rate, lambda_t, lambda_s, outer, of_x, of_z, whole }
    }

    fn is_finite(&self) -> bool {
        (self.lambda_s - self.lambda_t).is_finite()
    }

    /// The weights of estimates at these lambdas.
    fn weights(&self, lambdas: &[f64]) -> Vec<f64> {
        let Self { integrand, rate, lambda_t, lambda_s, outer, whole, .. } = *self;
        match (integrand, lambdas) {
            (_, [_]) => vec![whole],
            (Integrand::Data, [near, far]) => {
                // The line through both, with the first moment about t as it is without the exponential.
                let h = lambda_s - lambda_t;
                let of_slope = (outer * rate * h * h / 2.0 + (lambda_t - near) * whole) / (near - far);
                vec![whole + of_slope, -of_slope]
            }
            _ => (0..lambdas.len())
                .map(|i| {
                    let weighted = |lambda: f64| match integrand {
                        Integrand::Data => (rate * (lambda - lambda_s)).exp() * lagrange(lambdas, i, lambda),
                        Integrand::Noise => -(lambda_s - lambda).exp() * lagrange(lambdas, i, lambda),
                    };
                    outer * rate * integrate(weighted, lambda_t, lambda_s)
                })
                .collect(),
        }
    }
}

impl<const D: usize> Solver<D> for StochasticAdams {
    type State = Corrected<D>;

    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        state: &mut Corrected<D>,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        let arrived = self.integrand.of(&estimate);
        let to = context.process.law(s);
        if context.process.alpha(t) == 0.0 && self.integrand == Integrand::Noise {
            return Advance { sample: estimate.at(&to), estimate };
        }
        let lambda = |time: f64| context.process.log_snr(time) / 2.0;
        let joined = |stride: &Stride, estimates: Vec<(f64, Tensor<D>)>| {
            let (times, estimates): (Vec<f64>, Vec<_>) = estimates.into_iter().unzip();
            let lambdas: Vec<f64> = times.into_iter().map(lambda).collect();
            std::iter::zip(stride.weights(&lambdas), estimates)
        };
        // The last step again, now that the estimate at its end is known.
        let last = state.estimates.newest(1).first().map(|(time, _)| *time);
        let x = match (state.before.take(), last) {
            (Some(before), Some(last)) if state.order > 0 => {
                let stride = Stride::new(*self, context, last, t);
                let mut estimates = vec![(t, arrived.clone())];
                estimates.extend(state.estimates.newest(state.order - 1));
                sum(std::iter::once((1.0, before)).chain(joined(&stride, estimates)))
            }
            _ => x,
        };
        let keep = self.predictor_order.max(self.corrector_order.saturating_sub(1));
        state.estimates.push(t, arrived, keep);

        let stride = Stride::new(*self, context, t, s);
        let [order, corrected] =
            if stride.is_finite() { self.orders(context.remaining, state.estimates.len()) } else { [1, 0] };
        let mut before = vec![(stride.of_x, x)];
        if stride.of_z > 0.0 {
            before.push((stride.of_z, (context.noise)(0)));
        }
        let before = sum(before);
        let terms = joined(&stride, state.estimates.newest(order));
        let sample = sum(std::iter::once((1.0, before.clone())).chain(terms));
        (state.before, state.order) = (Some(before), corrected);
        Advance { sample, estimate }
    }
}
