//! Linear multistep rules of the noise estimate: LMS and DEIS.
//!
//! In `z = x / alpha` and `rho = sigma / alpha` the probability-flow equation is `dz/drho = eps_hat`. The estimates of the last steps
//! are joined by a polynomial, and the polynomial is integrated:
//!
//! ```text
//! z_s = z_t + sum_j m_j c_j,   c_j = int_{rho_t}^{rho_s} prod_{k != j} (u - u_k) / (u_j - u_k) drho
//! ```
//!
//! With `u = rho` it is the Adams-Bashforth rule on an uneven grid (LMS: Katherine Crowson's k-diffusion, after Hairer, Norsett, Wanner,
//! "Solving ordinary differential equations I", III.5); with `u = ln rho` it is DEIS (Zhang, Chen, "Fast sampling of diffusion models with
//! exponential integrator", 2023, rhoAB-DEIS in log rho). A step to clean data has no `ln rho`: DEIS takes it with order 1.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::polynomial::{integrate, lagrange};
use super::{Advance, FinalOrder, History, Solver, StepContext};
use crate::blend::sum;

/// The variable in which the estimates are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nodes {
    /// sigma / alpha: LMS.
    #[default]
    NoiseRatio,
    /// Its logarithm: DEIS.
    LogNoiseRatio,
}

/// A linear multistep rule; one evaluation a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearMultistep {
    /// Estimates used, from 1; more than 4 gain nothing.
    pub order: usize,
    /// The variable of the polynomial.
    #[serde(default)]
    pub nodes: Nodes,
    /// The order of the last steps.
    #[serde(default)]
    pub final_order: FinalOrder,
}

impl Nodes {
    fn of(self, rho: f64) -> f64 {
        match self {
            Self::NoiseRatio => rho,
            Self::LogNoiseRatio => rho.ln(),
        }
    }
}

/// `c_j` of the rule.
fn coefficient(nodes: Nodes, rhos: &[f64], j: usize, to: f64) -> f64 {
    let u: Vec<f64> = rhos.iter().map(|&rho| nodes.of(rho)).collect();
    match nodes {
        Nodes::NoiseRatio => integrate(|at| lagrange(&u, j, at), rhos[0], to),
        // drho = rho du
        Nodes::LogNoiseRatio => integrate(|at| lagrange(&u, j, at) * at.exp(), u[0], to.ln()),
    }
}

impl<const D: usize> Solver<D> for LinearMultistep {
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
        let (from, to) = (context.process.law(t), context.process.law(s));
        if from.alpha == 0.0 {
            // The noise ratio is infinite here, so nothing can be joined to what follows.
            return Advance { sample: estimate.at(&to), estimate };
        }
        state.push(t, estimate.noise.clone(), self.order);
        let mut order = self.final_order.of(self.order, context.remaining).min(state.len());
        if to.sigma == 0.0 && self.nodes == Nodes::LogNoiseRatio {
            order = 1;
        }
        let past = state.newest(order);
        let rhos: Vec<f64> = past.iter().map(|(time, _)| context.process.law(*time).noise_ratio()).collect();
        let terms = past.into_iter().enumerate().map(|(j, (_, m))| {
            let c = if order == 1 {
                to.noise_ratio() - rhos[0]
            } else {
                coefficient(self.nodes, &rhos, j, to.noise_ratio())
            };
            (to.alpha * c, m)
        });
        let sample = sum(std::iter::once((to.alpha / from.alpha, x)).chain(terms));
        Advance { sample, estimate }
    }
}
