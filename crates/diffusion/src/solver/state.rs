//! What a solver remembers, as data that can be written down, and a solver joined with its state behind one interface.

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::{Advance, Solver, StepContext, Tally};
use crate::DiffusionError;

/// A solver's state as plain numbers and tensors.
#[derive(Clone, Debug, Default)]
pub struct SavedState<const D: usize> {
    /// Times of what is remembered.
    pub times: Vec<f64>,
    /// What is remembered.
    pub tensors: Vec<Tensor<D>>,
}

/// What a solver remembers from step to step.
pub trait SolverState<const D: usize>: Clone + Debug + Default {
    /// What a saved state must hold, in words, for the error message.
    const KEEPS: &'static str;

    /// As plain numbers and tensors.
    fn save(&self) -> SavedState<D>;

    /// From what [`SolverState::save`] gave; `None` if it is not of this kind.
    fn load(saved: SavedState<D>) -> Option<Self>;

    /// What the run has cost each sample, where samples choose their own steps.
    fn tally(&self) -> Option<&Tally> {
        None
    }
}

/// Nothing is remembered.
impl<const D: usize> SolverState<D> for () {
    const KEEPS: &'static str = "nothing";

    fn save(&self) -> SavedState<D> {
        SavedState { times: vec![], tensors: vec![] }
    }

    fn load(saved: SavedState<D>) -> Option<Self> {
        (saved.times.is_empty() && saved.tensors.is_empty()).then_some(())
    }
}

/// A solver with its state, whichever solver it is: what a name chosen at run time becomes.
pub trait Stepper<const D: usize>: Debug {
    /// The step t → s.
    fn step(&mut self, context: &mut StepContext<'_, D>, x: Tensor<D>, t: f64, s: f64) -> Advance<D>;

    /// The state, to write down.
    fn save(&self) -> SavedState<D>;

    /// Goes on from a state that was written down.
    ///
    /// # Errors
    /// If it is another solver's.
    fn load(&mut self, saved: SavedState<D>) -> Result<(), DiffusionError>;

    /// What the run has cost each sample, where samples choose their own steps.
    fn tally(&self) -> Option<&Tally>;
}

/// A solver at the start of its run. `name` is what an error calls it.
pub(crate) fn start<const D: usize, S>(solver: S, name: &'static str) -> Box<dyn Stepper<D>>
where
    S: Solver<D> + 'static,
    S::State: 'static,
{
    let state = solver.init();
    Box::new(Run { solver, state, name })
}

#[derive(Debug)]
struct Run<S, T> {
    solver: S,
    state: T,
    name: &'static str,
}

impl<const D: usize, S: Solver<D>> Stepper<D> for Run<S, S::State> {
    fn step(&mut self, context: &mut StepContext<'_, D>, x: Tensor<D>, t: f64, s: f64) -> Advance<D> {
        self.solver.step(context, &mut self.state, x, t, s)
    }

    fn save(&self) -> SavedState<D> {
        self.state.save()
    }

    fn load(&mut self, saved: SavedState<D>) -> Result<(), DiffusionError> {
        let (found, times) = (saved.tensors.len(), saved.times.len());
        let expected = S::State::KEEPS;
        self.state = S::State::load(saved).ok_or(DiffusionError::State {
            solver: self.name,
            found,
            times,
            expected,
        })?;
        Ok(())
    }

    fn tally(&self) -> Option<&Tally> {
        self.state.tally()
    }
}
