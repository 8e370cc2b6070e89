//! Solvers: one step from t to an earlier s.
//!
//! A solver is a plain value that holds its options; what it remembers from step to step is a state type of its own, as Burn's
//! optimizers have. So a run can be stopped, written down and resumed anywhere, and one solver can serve many runs.
//!
//! To add one: a file with its formula and source, a struct, [`Solver`] for it, a variant of [`SolverConfig`] and a row of [`SOLVERS`]. The
//! tests measure the order of every row of the table.

mod ancestral;
mod clock;
mod config;
mod consistency;
mod corrected;
mod dormand_prince;
mod dpm_solver;
pub(crate) mod embedded;
mod euler;
mod heun;
mod history;
mod linear_multistep;
mod midpoint;
mod pndm;
mod polynomial;
mod predictor_corrector;
mod single_step;
mod state;
mod stochastic_adams;
mod uni_pc;

use std::fmt::{self, Debug};

use burn::tensor::Tensor;

pub use ancestral::{Ancestral, Variance};
pub use clock::Clock;
pub use config::{SOLVERS, SolverConfig, SolverEntry, SolverKind};
pub use consistency::{Boundary, Consistency, Trajectory};
pub use corrected::Corrected;
pub use dormand_prince::DormandPrince;
pub use dpm_solver::{DpmSolver, FinalOrder, Integrand, SecondOrder, Stochasticity};
pub use embedded::{Pace, Tally, Tolerance};
pub use euler::Euler;
pub use heun::Heun;
pub use history::History;
pub use linear_multistep::{LinearMultistep, Nodes};
pub use midpoint::Midpoint;
pub use pndm::{Averaged, Beginning, Pndm};
pub use predictor_corrector::{Corrector, Predictor, PredictorCorrector};
pub use single_step::{Block, SingleStep};
pub(crate) use state::start;
pub use state::{SavedState, SolverState, Stepper};
pub use stochastic_adams::StochasticAdams;
pub use uni_pc::{StepFunction, UniPc};

use crate::{Denoiser, Estimate, Process};

/// What a step may use: the law of state, the estimates, and noise.
pub struct StepContext<'a, const D: usize> {
    /// The law of state.
    pub process: &'a dyn Process,
    /// Where estimates come from.
    pub denoiser: &'a dyn Denoiser<D>,
    /// Fresh standard normal noise, shaped as the sample; the argument counts the draws within a step, from 0.
    pub noise: &'a mut dyn FnMut(usize) -> Tensor<D>,
    /// What becomes of the sample at t between the halves of a step, after the correction of this number: what is known is put in
    /// ([`Conditioned`](crate::Conditioned)), or nothing happens.
    pub between: &'a mut dyn FnMut(Tensor<D>, f64, usize) -> Tensor<D>,
    /// The step's number in its run, from 0.
    pub index: usize,
    /// How many steps follow it.
    pub remaining: usize,
}

impl<const D: usize> Debug for StepContext<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext").field("process", &self.process).finish_non_exhaustive()
    }
}

/// What a step gives.
#[derive(Clone, Debug)]
pub struct Advance<const D: usize> {
    /// The sample at the time reached.
    pub sample: Tensor<D>,
    /// The estimate at the time left, for previews.
    pub estimate: Estimate<D>,
}

/// A rule for going from t to an earlier s.
pub trait Solver<const D: usize>: Debug {
    /// What is remembered from step to step; `()` for a one-step rule.
    type State: SolverState<D>;

    /// The state before the first step.
    fn init(&self) -> Self::State {
        Self::State::default()
    }

    /// The step t → s, with s < t.
    ///
    /// # Shapes
    /// - `x`: `[batch, ...]`, the sample at t.
    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        state: &mut Self::State,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D>;
}
