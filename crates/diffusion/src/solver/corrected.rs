//! What multistep rules with a corrector remember: beside the estimates, where the last step set out from, since it is made again.

use burn::tensor::Tensor;

use super::{History, SavedState, SolverState};

/// The order that the last step is corrected in, what it set out from, and the estimates of the steps before.
#[derive(Clone, Debug)]
pub struct Corrected<const D: usize> {
    /// 0 where it is not corrected.
    pub(super) order: usize,
    pub(super) before: Option<Tensor<D>>,
    pub(super) estimates: History<D>,
}

impl<const D: usize> Default for Corrected<D> {
    fn default() -> Self {
        Self { order: 0, before: None, estimates: History::default() }
    }
}

impl<const D: usize> SolverState<D> for Corrected<D> {
    const KEEPS: &'static str =
        "the order of the last step, what it set out from, and the estimates with their times";

    fn save(&self) -> SavedState<D> {
        let SavedState { times, tensors } = self.estimates.save();
        SavedState {
            times: std::iter::once(self.order as f64).chain(times).collect(),
            tensors: self.before.iter().cloned().chain(tensors).collect(),
        }
    }

    fn load(SavedState { times, tensors }: SavedState<D>) -> Option<Self> {
        let (order, times) = times.split_first()?;
        let mut tensors = tensors.into_iter();
        let before = tensors.next();
        let estimates = SavedState { times: times.to_vec(), tensors: tensors.collect() };
        Some(Self { order: *order as usize, before, estimates: History::load(estimates)? })
    }
}
