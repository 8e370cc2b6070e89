//! Clipping: the data is known to lie in a range, so its estimate is put there.
//!
//! ```text
//! data = clamp(data_hat, low, high),   noise = (x - alpha data) / sigma
//! ```
//!
//! Source: Ho et al. 2020, reference code (`clip_denoised`); with the noise made again from the clipped data, as their posterior mean does.

use std::ops::RangeInclusive;

use burn::tensor::{Bool, Tensor, TensorData};

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

    fn denoise_each(&self, x: Tensor<D>, times: &[f64]) -> Estimate<D> {
        let laws: Vec<_> = times.iter().map(|&t| self.process.law(t)).collect();
        let estimate = self.inner.denoise_each(x.clone(), times);
        let data = estimate.data.clamp(*self.range.start(), *self.range.end());
        // Where nothing is noise, there is nothing to make it of again.
        let clean: Vec<bool> = laws.iter().map(|law| law.sigma == 0.0).collect();
        let remade = Prediction::Sample.estimate_each(data.clone(), x, &laws).noise;
        let mut shape = [1; D];
        shape[0] = clean.len();
        let clean = Tensor::<D, Bool>::from_data(TensorData::new(clean, shape), &data.device());
        let noise = remade.mask_where(clean.expand(data.dims()), estimate.noise);
        Estimate { data, noise }
    }
}
