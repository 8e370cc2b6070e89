//! What multistep solvers remember: estimates of the steps before.

use burn::tensor::Tensor;

use super::{SavedState, SolverState};

/// Tensors of earlier steps with their times, the newest last.
#[derive(Clone, Debug)]
pub struct History<const D: usize>(Vec<(f64, Tensor<D>)>);

impl<const D: usize> Default for History<D> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<const D: usize> History<D> {
    /// Adds the newest, and forgets all but `keep` of them.
    pub(super) fn push(&mut self, t: f64, tensor: Tensor<D>, keep: usize) {
        self.0.push((t, tensor));
        self.0.drain(..self.0.len().saturating_sub(keep));
    }

    /// The newest first, at most `count`.
    pub(super) fn newest(&self, count: usize) -> Vec<(f64, Tensor<D>)> {
        self.0.iter().rev().take(count).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<const D: usize> SolverState<D> for History<D> {
    const KEEPS: &'static str = "the estimates of the steps before, each with its time";

    fn save(&self) -> SavedState<D> {
        let (times, tensors) = self.0.iter().cloned().unzip();
        SavedState { times, tensors }
    }

    fn load(SavedState { times, tensors }: SavedState<D>) -> Option<Self> {
        (times.len() == tensors.len()).then(|| Self(std::iter::zip(times, tensors).collect()))
    }
}
