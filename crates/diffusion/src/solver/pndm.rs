//! PNDM: pseudo linear multistep, DDIM's step with a noise estimate made of several.
//!
//! ```text
//! phi(x, e, t → s) = alpha_s (x - sigma_t e) / alpha_t + sigma_s e                                   DDIM's step, the "transfer part"
//! e = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24                                                       with four estimates (F-PNDM)
//! e = (23 e_0 - 16 e_1 + 5 e_2) / 12,  e = (3 e_0 - e_1) / 2                                        with three and two
//! ```
//!
//! There are three ways to begin. `RungeKutta`: three steps of the pseudo Runge-Kutta rule, four evaluations each:
//! `e = (e_1 + 2 e_2 + 2 e_3 + e_4) / 6`, with e_2 and e_3 half-way. `Improved`: one step of the pseudo improved Euler rule,
//! `e = (e_1 + e_2) / 2`, two evaluations; this is what Stable Diffusion 1 was published with. And `Lowered`: none, with fewer estimates at
//! first (diffusers' IPNDM).
//!
//! Source: Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds", 2022, equations 11 to 13.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Advance, History, Solver, StepContext};
use crate::blend::{scale, sum};
use crate::{Estimate, Law, Prediction};

/// How the first estimates are had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beginning {
    /// Three steps of four evaluations.
    #[default]
    RungeKutta,
    /// One step of two evaluations.
    Improved,
    /// One evaluation from the start: the first steps join the estimates that there are.
    Lowered,
}

/// What is averaged over steps. Both are exact for an exact network; for a real one they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaged {
    /// The noise.
    #[default]
    Noise,
    /// v = alpha eps - sigma x_0, as diffusers does for networks that predict it.
    V,
}

/// PNDM; one evaluation a step after the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pndm {
    /// How it begins.
    pub beginning: Beginning,
    /// What is averaged.
    pub averaged: Averaged,
}

/// Adams and Bashforth's weights, the newest estimate first.
const ADAMS_BASHFORTH: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

impl Averaged {
    fn output<const D: usize>(self, estimate: &Estimate<D>, law: &Law) -> Tensor<D> {
        match self {
            Self::Noise => estimate.noise.clone(),
            Self::V => Prediction::V.output(estimate, law),
        }
    }

    /// phi: DDIM's step from x, with `output` in place of the network's.
    fn transfer<const D: usize>(self, x: Tensor<D>, output: Tensor<D>, from: &Law, to: &Law) -> Tensor<D> {
        let estimate = match self {
            Self::Noise => Prediction::Noise,
            Self::V => Prediction::V,
        }
        .estimate(output, x, from);
        estimate.at(to)
    }
}

impl<const D: usize> Solver<D> for Pndm {
    type State = History<D>;

    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        state: &mut History<D>,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let (from, to) = (context.process.law(t), context.process.law(s));
        let estimate = context.denoiser.denoise(x.clone(), t);
        if from.alpha == 0.0 {
            if self.beginning == Beginning::Lowered {
                // As diffusers: the sample is taken for noise alone, and is the first estimate of it.
                state.push(t, estimate.noise.clone(), 3);
                return Advance { sample: scale(to.sigma, estimate.noise.clone()), estimate };
            }
            return Advance { sample: estimate.at(&to), estimate };
        }
        let again = |x: Tensor<D>, time: f64| {
            self.averaged.output(&context.denoiser.denoise(x, time), &context.process.law(time))
        };
        let first = self.averaged.output(&estimate, &from);
        let transfer = |output, to: &Law| self.averaged.transfer(x.clone(), output, &from, to);
        let output = match self.beginning {
            Beginning::RungeKutta if context.index < 3 => {
                let middle = t.midpoint(s);
                let half = context.process.law(middle);
                let second = again(transfer(first.clone(), &half), middle);
                let third = again(transfer(second.clone(), &half), middle);
                let fourth = again(transfer(third.clone(), &to), s);
                sum([
                    (1.0 / 6.0, first.clone()),
                    (1.0 / 3.0, second),
                    (1.0 / 3.0, third),
                    (1.0 / 6.0, fourth),
                ])
            }
            Beginning::Improved if context.index == 0 && context.remaining > 0 => {
                let second = again(transfer(first.clone(), &to), s);
                sum([(0.5, first.clone()), (0.5, second)])
            }
            Beginning::RungeKutta | Beginning::Improved | Beginning::Lowered => {
                let past = state.newest(3).into_iter().map(|(_, output)| output);
                let outputs: Vec<_> = std::iter::once(first.clone()).chain(past).collect();
                sum(std::iter::zip(ADAMS_BASHFORTH[outputs.len() - 1].iter().copied(), outputs))
            }
        };
        state.push(t, first, 3);
        Advance { sample: transfer(output, &to), estimate }
    }
}
