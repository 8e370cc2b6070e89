//! Clipping: the data is known to lie in a range, so its estimate is put there.
//!
//! ```text
//! data = clamp(data_hat, low, high),   noise = (x - alpha data) / sigma
//! ```
//!
//! Source: Ho et al. 2020, reference code (`clip_denoised`); with the noise made again from the clipped data, as their posterior mean does.

use std::ops::RangeInclusive;

use burn::tensor::Tensor;

use super::{Denoiser, Estimate};
use crate::{Prediction, Process};

/// A denoiser whose data estimate stays in a range.
#[derive(Clone, Debug)]
pub struct Clipped<'a, N> {
    process: &'a dyn Process,
    inner: N,
    range: RangeInclusive<f64>,
}

impl<'a, N> Clipped<'a, N> {
    /// Keeps the data that `inner` estimates in `[-1, 1]`, the range of pictures.
    pub const fn new(process: &'a dyn Process, inner: N) -> Self {
        Self { process, inner, range: -1.0..=1.0 }
    }

    /// The same with another range.
    #[must_use]
    pub fn with_range(self, range: RangeInclusive<f64>) -> Self {
        Self { range, ..self }
    }
}

impl<N> Clipped<'_, N> {
    fn clip<const D: usize>(&self, estimate: Estimate<D>, x: Tensor<D>, t: f64) -> Estimate<D> {
        let data = estimate.data.clamp(*self.range.start(), *self.range.end());
        let law = self.process.law(t);
        if law.sigma == 0.0 {
            return Estimate { data, noise: estimate.noise };
        }
        Prediction::Sample.estimate(data, x, &law)
    }
}

impl<const D: usize, N: Denoiser<D>> Denoiser<D> for Clipped<'_, N> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        self.clip(self.inner.denoise(x.clone(), t), x, t)
    }

    fn denoise_with_spread(&self, x: Tensor<D>, t: f64) -> (Estimate<D>, Option<Tensor<D>>) {
        let (estimate, spread) = self.inner.denoise_with_spread(x.clone(), t);
        (self.clip(estimate, x, t), spread)
    }
}
