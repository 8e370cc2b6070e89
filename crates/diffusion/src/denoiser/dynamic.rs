//! Dynamic thresholding: the data estimate is pressed into the range that most of it keeps by itself.
//!
//! ```text
//! s = clamp(quantile(|data|, ratio), 1, greatest) of each sample,   data ← clamp(data, -s, s) / s
//! ```
//!
//! Source: Saharia et al. 2022 (Imagen), section 2.3.

use burn::tensor::Tensor;

use crate::DiffusionError;
use crate::error::require;

/// Dynamic thresholding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dynamic {
    ratio: f64,
    greatest: f64,
}

impl Dynamic {
    /// The quantile `ratio`, in `(0, 1]` (Imagen: 0.995), and the greatest bound, from 1.
    ///
    /// # Errors
    /// If they are out of range.
    pub fn new(ratio: f64, greatest: f64) -> Result<Self, DiffusionError> {
        require(
            "the ratio of dynamic thresholding",
            "above 0, at most 1",
            ratio,
            0.0 < ratio && ratio <= 1.0,
        )?;
        require("the greatest bound of dynamic thresholding", "at least 1", greatest, greatest >= 1.0)?;
        Ok(Self { ratio, greatest })
    }

    /// `[batch, ...]`, each sample by its own quantile (linear between two values).
    #[must_use]
    pub fn apply<const D: usize>(self, data: Tensor<D>) -> Tensor<D> {
        let batch = data.dims()[0];
        let size = data.dims().iter().product::<usize>() / batch.max(1);
        let sorted = data.clone().abs().reshape([batch, size]).sort(1);
        let place = self.ratio * (size.saturating_sub(1)) as f64;
        let low = place.floor() as usize;
        let high = (low + 1).min(size.saturating_sub(1));
        let share = place - low as f64;
        let at = |index: usize| sorted.clone().narrow(1, index, 1);
        let bound = at(low) * (1.0 - share) + at(high) * share;
        let mut shape = [1; D];
        shape[0] = batch;
        let bound: Tensor<D> = bound.clamp(1.0, self.greatest).reshape(shape);
        data.max_pair(-bound.clone()).min_pair(bound.clone()) / bound
    }
}
