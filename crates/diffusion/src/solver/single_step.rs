//! DPM-Solver, singlestep: blocks of up to three evaluations, each block from its own start.
//!
//! The grid is walked in blocks of `order` steps. A step inside a block starts from the block's first sample again, with one more estimate
//! than the step before: so a block of three costs three evaluations and ends with order 3. From the block's start b, with
//! `h = lambda_s - lambda_b`, `r_i = (lambda_i - lambda_b) / h` for the block's other estimates:
//!
//! ```text
//! 1 estimate:   as DPM-Solver from b
//! 2 estimates:  D_1 = (m_1 - m_b) / r_1
//! 3, midpoint:  D_1 = (m_2 - m_b) / r_2,   weighted by A_1
//! 3, heun:      D_10 = (m_1 - m_b) / r_1,  D_11 = (m_2 - m_b) / r_2
//!               D_1 = (r_2 D_10 - r_1 D_11) / (r_2 - r_1),  D_2 = 2 (D_11 - D_10) / (r_2 - r_1)
//! ```
//!
//! Sources: Lu et al. 2022, "DPM-Solver", algorithms 1 and 2, and "DPM-Solver++", algorithm 1 (2S).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::dpm_solver::{DpmSolver, FinalOrder, SecondOrder};
use super::{Advance, SavedState, Solver, SolverState, StepContext};
use crate::blend::{scale, sum};

/// DPM-Solver in blocks; one evaluation a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SingleStep {
    /// The rule of a block: its order, what is integrated, and how.
    pub rule: DpmSolver,
}

/// The block that is being walked: its first sample, and its estimates with their times.
#[derive(Clone, Debug)]
pub struct Block<const D: usize> {
    start: Option<Tensor<D>>,
    estimates: Vec<(f64, Tensor<D>)>,
}

impl<const D: usize> Default for Block<D> {
    fn default() -> Self {
        Self { start: None, estimates: vec![] }
    }
}

impl<const D: usize> SolverState<D> for Block<D> {
    const KEEPS: &'static str = "a block's first sample, and its estimates with their times";

    fn save(&self) -> SavedState<D> {
        let (times, estimates): (_, Vec<_>) = self.estimates.iter().cloned().unzip();
        SavedState { times, tensors: self.start.iter().cloned().chain(estimates).collect() }
    }

    fn load(SavedState { times, tensors }: SavedState<D>) -> Option<Self> {
        let mut tensors = tensors.into_iter();
        let start = tensors.next();
        let estimates: Vec<_> = std::iter::zip(times.clone(), &mut tensors).collect();
        (estimates.len() == times.len() && tensors.next().is_none()).then_some(Self { start, estimates })
    }
}

/// The number of estimates that step `index` of `total` uses. Lowered, the last step is of order 1 even where it would end a block.
fn estimates_used(rule: DpmSolver, index: usize, total: usize) -> usize {
    let ends =
        index + 1 == total && rule.final_order == FinalOrder::Lowered && total.is_multiple_of(rule.order);
    if ends { 1 } else { index % rule.order + 1 }
}

impl<const D: usize> Solver<D> for SingleStep {
    type State = Block<D>;

    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        state: &mut Block<D>,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let rule = self.rule;
        let estimate = context.denoiser.denoise(x.clone(), t);
        let lambda = |time: f64| context.process.log_snr(time) / 2.0;
        let total = context.index + context.remaining + 1;
        let mut used = estimates_used(rule, context.index, total);
        // A block can't reach from pure noise or to clean data.
        let begins = state.estimates.first().map_or(t, |(time, _)| *time);
        if !(lambda(s) - lambda(begins)).is_finite() {
            used = 1;
        }
        if used == 1 || state.estimates.len() + 1 != used {
            *state = Block { start: Some(x.clone()), estimates: vec![] };
            used = 1;
        }
        state.estimates.push((t, rule.integrand.of(&estimate)));

        let begin = state.estimates[0].0;
        let h = lambda(s) - lambda(begin);
        let (from, to) = (context.process.law(begin), context.process.law(s));
        let w = rule.weights(&from, &to, used, h);
        let r = |i: usize| (lambda(state.estimates[i].0) - lambda(begin)) / h;
        let coefficients = match (used, rule.second_order) {
            (1, _) => vec![w.m],
            (2, _) => vec![w.m - w.first / r(1), w.first / r(1)],
            (_, SecondOrder::Midpoint) => vec![w.m - w.first / r(2), 0.0, w.first / r(2)],
            (_, SecondOrder::Heun) => {
                let (near, far, gap) = (r(1), r(2), r(2) - r(1));
                let d10 = (w.first * far - 2.0 * w.second) / gap / near;
                let d11 = (2.0 * w.second - w.first * near) / gap / far;
                vec![w.m - d10 - d11, d10, d11]
            }
        };
        let start = state.start.clone().unwrap_or(x);
        let terms = std::iter::zip(coefficients, &state.estimates).map(|(c, (_, m))| (c, m.clone()));
        let mut sample = sum(std::iter::once((w.x, start)).chain(terms));
        if w.noise > 0.0 {
            sample = sample + scale(w.noise, (context.noise)(0));
        }
        Advance { sample, estimate }
    }
}
