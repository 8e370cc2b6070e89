//! DPM-Solver and DPM-Solver++, multistep: exponential integrators with a memory of up to two steps, deterministic or not.
//!
//! With `lambda = ln(alpha / sigma)`, `h = lambda_s - lambda_t`, and estimates `m_0` (at t), `m_1`, `m_2` (the steps before), divided
//! differences stand for the derivatives of m in lambda:
//!
//! ```text
//! h_0 = lambda_t - lambda_1,  h_1 = lambda_1 - lambda_2,  r_0 = h_0 / h,  r_1 = h_1 / h
//! D_10 = (m_0 - m_1) / r_0,   D_11 = (m_1 - m_2) / r_1
//! order 2:  D_1 = D_10
//! order 3:  D_1 = D_10 + r_0 / (r_0 + r_1) (D_10 - D_11),   D_2 = (D_10 - D_11) / (r_0 + r_1)
//!
//! data (++):  x_s = sigma_s / sigma_t x_t + alpha_s (A_0(-h) m_0 + A_1(-h) D_1 + A_2(-h) D_2)
//! noise:      x_s = alpha_s / alpha_t x_t - sigma_s (A'_0(h) m_0 + A'_1(h) D_1 + A'_2(h) D_2)
//! ```
//!
//! where `A_k` integrates `lambda^k / k!` against the exponential; the stochastic forms integrate over `2 h` and add
//! `sigma_s sqrt(1 - e^{-2h}) z`. At order 2 the paper offers two weights for `D_1`: `A_0 / 2` ("midpoint") and `A_1` ("heun").
//!
//! Sources: Lu et al. 2022, "DPM-Solver" (noise) and "DPM-Solver++", algorithms 1 and 2 and appendix B (data, stochastic). A step to clean
//! data, where h is infinite, is of order 1: `x_s = alpha_s m_0`.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Advance, History, Solver, StepContext};
use crate::blend::{scale, sum};
use crate::{Estimate, Law};

/// Which of the two estimates is integrated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrand {
    /// The data: DPM-Solver++.
    #[default]
    Data,
    /// The noise: DPM-Solver.
    Noise,
}

impl Integrand {
    pub(super) fn of<const D: usize>(self, estimate: &Estimate<D>) -> Tensor<D> {
        match self {
            Self::Data => estimate.data.clone(),
            Self::Noise => estimate.noise.clone(),
        }
    }
}

/// The weight of the first difference at order 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondOrder {
    /// Half of the zeroth weight.
    #[default]
    Midpoint,
    /// The integral of lambda.
    Heun,
}

/// Whether a step draws noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stochasticity {
    /// The probability-flow equation.
    #[default]
    Deterministic,
    /// The reverse stochastic equation.
    Stochastic,
}

/// What becomes of the order in the last steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalOrder {
    /// It stays (but for a step to clean data).
    #[default]
    Kept,
    /// 1 in the last step alone.
    Euler,
    /// At most 2 in the last step but one and 1 in the last: steadier when steps are few.
    Lowered,
}

impl FinalOrder {
    /// The order of a step that `remaining` steps follow.
    pub(super) fn of(self, order: usize, remaining: usize) -> usize {
        match (self, remaining) {
            (Self::Euler | Self::Lowered, 0) => 1,
            (Self::Lowered, 1) => order.min(2),
            _ => order,
        }
    }
}

/// DPM-Solver, multistep; one evaluation a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmSolver {
    /// 1 to 3.
    pub order: usize,
    /// What is integrated.
    pub integrand: Integrand,
    /// The weight at order 2.
    pub second_order: SecondOrder,
    /// Whether noise is drawn.
    pub stochasticity: Stochasticity,
    /// The order of the last steps.
    pub final_order: FinalOrder,
}

impl Default for DpmSolver {
    /// DPM-Solver++(2M).
    fn default() -> Self {
        Self {
            order: 2,
            integrand: Integrand::Data,
            second_order: SecondOrder::Midpoint,
            stochasticity: Stochasticity::Deterministic,
            final_order: FinalOrder::Kept,
        }
    }
}

/// A step's coefficients: of x, of m_0, D_1 and D_2, and of the fresh noise.
pub(super) struct Weights {
    pub(super) x: f64,
    pub(super) m: f64,
    pub(super) first: f64,
    pub(super) second: f64,
    pub(super) noise: f64,
}

impl DpmSolver {
    /// The coefficients of a step of `order` between two laws, over h.
    pub(super) fn weights(self, from: &Law, to: &Law, order: usize, h: f64) -> Weights {
        let (alpha, sigma) = (to.alpha, to.sigma);
        // sigma_s (e^h - 1), finite where sigma_s = 0.
        let growth = alpha * from.sigma / from.alpha - sigma;
        let (x, m, heun, second, noise) = match (self.integrand, self.stochasticity) {
            (Integrand::Data, Stochasticity::Deterministic) => (
                sigma / from.sigma,
                -alpha * (-h).exp_m1(),
                alpha * ((-h).exp_m1() / h + 1.0),
                -alpha * (((-h).exp_m1() + h) / (h * h) - 0.5),
                0.0,
            ),
            (Integrand::Data, Stochasticity::Stochastic) => (
                sigma / from.sigma * (-h).exp(),
                -alpha * (-2.0 * h).exp_m1(),
                alpha * ((-2.0 * h).exp_m1() / (2.0 * h) + 1.0),
                alpha * ((-(-2.0 * h).exp_m1() - 2.0 * h) / (4.0 * h * h) - 0.5),
                sigma * (-(-2.0 * h).exp_m1()).sqrt(),
            ),
            (Integrand::Noise, Stochasticity::Deterministic) => (
                alpha / from.alpha,
                -growth,
                -(growth / h - sigma),
                -((growth - sigma * h) / (h * h) - 0.5 * sigma),
                0.0,
            ),
            (Integrand::Noise, Stochasticity::Stochastic) => (
                alpha / from.alpha,
                -2.0 * growth,
                -2.0 * (growth / h - sigma),
                0.0,
                // sigma_s sqrt(e^2h - 1)
                (growth * (growth + 2.0 * sigma)).max(0.0).sqrt(),
            ),
        };
        let first = match (order, self.second_order) {
            (2, SecondOrder::Midpoint) => m / 2.0,
            _ => heun,
        };
        Weights { x, m, first, second, noise }
    }
}

impl<const D: usize> Solver<D> for DpmSolver {
    type State = History<D>;

    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        state: &mut History<D>,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let estimate = context.denoiser.denoise(x.clone(), t);
        state.push(t, self.integrand.of(&estimate), self.order);

        let lambda = |time: f64| context.process.log_snr(time) / 2.0;
        let (from, to) = (context.process.law(t), context.process.law(s));
        if from.alpha == 0.0 && self.integrand == Integrand::Noise {
            return Advance { sample: estimate.at(&to), estimate };
        }
        let h = lambda(s) - lambda(t);
        let order = self.final_order.of(self.order, context.remaining).min(state.len());
        // A step from pure noise or to clean data is infinitely long.
        let order = if h.is_finite() { order } else { 1 };
        let w = self.weights(&from, &to, order, h);

        let past = state.newest(order);
        let lambdas: Vec<f64> = past.iter().map(|(time, _)| lambda(*time)).collect();
        let r = |i: usize| (lambdas[i] - lambdas[i + 1]) / h;
        // The coefficients of m_0, m_1, m_2 in the combination of differences.
        let coefficients = match order {
            1 => vec![w.m],
            2 => vec![w.m + w.first / r(0), -w.first / r(0)],
            _ => {
                let (near, far) = (r(0), r(1));
                // D_1 = (1 + share) D_10 - share D_11,  D_2 = (D_10 - D_11) / (r_0 + r_1)
                let (share, each) = (near / (near + far), w.second / (near + far));
                let d10 = (w.first * (1.0 + share) + each) / near;
                let d11 = (-w.first * share - each) / far;
                vec![w.m + d10, d11 - d10, -d11]
            }
        };
        let terms = std::iter::zip(coefficients, past).map(|(c, (_, m))| (c, m));
        let mut sample = sum(std::iter::once((w.x, x)).chain(terms));
        if w.noise > 0.0 {
            sample = sample + scale(w.noise, (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}
