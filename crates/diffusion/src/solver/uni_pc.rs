//! UniPC: a predictor and a corrector of one family; the corrector costs no evaluation.
//!
//! With `h = lambda_s - lambda_t`, `r_i = (lambda_i - lambda_t) / h` for earlier estimates (negative) and `D_i = (m_i - m_0) / r_i`, in the form
//! for the data (`H = -h`; for the noise `H = h`, and alpha and sigma change places):
//!
//! ```text
//! x_s = sigma_s / sigma_t x_t - alpha_s (e^H - 1) m_0 - alpha_s B(H) sum_i rho_i D_i
//! sum_i rho_i r_i^(k-1) = k! phi_(k+1)(H) / B(H),  k = 1, 2, ...          phi_1 = (e^H - 1) / H,  phi_(k+1) = (phi_k - 1 / k!) / H
//! ```
//!
//! The predictor uses earlier estimates alone; the corrector makes the same step again when the estimate at s is known, as one more
//! difference with `r = 1`. `B(H) = H` is "bh1", `B(H) = e^H - 1` is "bh2". With one difference the predictor's weight is 1/2 and with the new
//! one alone the corrector's is 1/2, as the paper says.
//!
//! Source: Zhao, Bai, Rao, Zhou, Lu, "UniPC: a unified predictor-corrector framework", 2023, algorithms 5 to 8.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::dpm_solver::{FinalOrder, Integrand};
use super::{Advance, Corrected, Solver, StepContext};
use crate::blend::sum;

/// B(h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepFunction {
    /// h.
    Bh1,
    /// e^h - 1.
    #[default]
    Bh2,
}

/// UniPC; one evaluation a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UniPc {
    /// 1 to 3; with the corrector the order of convergence is one more.
    pub order: usize,
    /// What is integrated.
    pub integrand: Integrand,
    /// B(h).
    pub step_function: StepFunction,
    /// Steps, by the index of the step corrected, that are left uncorrected: as bits of a mask.
    pub uncorrected: u64,
    /// The order of the last steps: `Lowered` falls by one a step to 1.
    pub final_order: FinalOrder,
}

impl Default for UniPc {
    fn default() -> Self {
        Self {
            order: 2,
            integrand: Integrand::Data,
            step_function: StepFunction::Bh2,
            uncorrected: 0,
            final_order: FinalOrder::Lowered,
        }
    }
}

/// Solves `sum_i rho_i r_i^k = b_k` by elimination with pivots; there are at most three.
fn weights(r: &[f64], b: &[f64]) -> Vec<f64> {
    let n = r.len();
    let mut rows: Vec<Vec<f64>> =
        (0..n).map(|k| r.iter().map(|r| r.powi(k as i32)).chain([b[k]]).collect()).collect();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()));
        rows.swap(column, pivot.unwrap_or(column));
        let top = rows[column].clone();
        for row in rows.iter_mut().skip(column + 1) {
            let factor = row[column] / top[column];
            std::iter::zip(row.iter_mut(), &top).for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut rho = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| rows[i][j] * rho[j]).sum();
        rho[i] = (rows[i][n] - known) / rows[i][i];
    }
    rho
}

impl UniPc {
    /// The step t → s from x: with `past` (the estimate at t first), and with the one at s where it is known already.
    fn update<const D: usize>(
        self,
        context: &StepContext<'_, D>,
        x: Tensor<D>,
        past: &[(f64, Tensor<D>)],
        s: f64,
        arrived: Option<Tensor<D>>,
    ) -> Tensor<D> {
        let lambda = |time: f64| context.process.log_snr(time) / 2.0;
        let (t, m) = &past[0];
        let (from, to) = (context.process.law(*t), context.process.law(s));
        let h = lambda(s) - lambda(*t);
        let (kept, outer, step) = match self.integrand {
            Integrand::Data => (to.sigma / from.sigma, to.alpha, -h),
            Integrand::Noise => (to.alpha / from.alpha, to.sigma, h),
        };
        let growth = step.exp_m1();
        let mut terms = vec![(kept, x)];
        let mut of_m = -outer * growth;
        let mut r: Vec<f64> = past[1..].iter().map(|(time, _)| (lambda(*time) - lambda(*t)) / h).collect();
        let mut differences: Vec<Tensor<D>> = past[1..].iter().map(|(_, m)| m.clone()).collect();
        if let Some(arrived) = arrived {
            r.push(1.0);
            differences.push(arrived);
        }
        if !r.is_empty() {
            let b_of_h = match self.step_function {
                StepFunction::Bh1 => step,
                StepFunction::Bh2 => growth,
            };
            let (mut phi, mut factorial) = (growth / step - 1.0, 1.0);
            let mut b = vec![];
            for k in 1..=r.len() {
                b.push(phi * factorial / b_of_h);
                factorial *= (k + 1) as f64;
                phi = phi / step - 1.0 / factorial;
            }
            let rho = if r.len() == 1 { vec![0.5] } else { weights(&r, &b) };
            for ((rho, r), other) in rho.into_iter().zip(r).zip(differences) {
                let weight = -outer * b_of_h * rho / r;
                terms.push((weight, other));
                of_m -= weight;
            }
        }
        terms.push((of_m, m.clone()));
        sum(terms)
    }

    /// The order of a step that `remaining` steps follow.
    fn order_of(self, remaining: usize) -> usize {
        match self.final_order {
            FinalOrder::Lowered => self.order.min(remaining + 1),
            other => other.of(self.order, remaining),
        }
    }
}

impl<const D: usize> Solver<D> for UniPc {
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
        let left_out = context.index.checked_sub(1).is_some_and(|i| i < 64 && self.uncorrected >> i & 1 == 1);
        let x = match state.before.take() {
            Some(before) if !left_out && state.order > 0 => {
                let past = state.estimates.newest(state.order);
                self.update(context, before, &past, t, Some(arrived.clone()))
            }
            _ => x,
        };
        state.estimates.push(t, arrived, self.order);

        let h = context.process.log_snr(s) - context.process.log_snr(t);
        let order =
            if h.is_finite() { self.order_of(context.remaining).min(state.estimates.len()) } else { 1 };
        let past = state.estimates.newest(order);
        let sample = self.update(context, x.clone(), &past, s, None);
        // A step from pure noise has no length to correct by.
        state.before = Some(x);
        state.order = if h.is_finite() { order } else { 0 };
        Advance { sample, estimate }
    }
}
