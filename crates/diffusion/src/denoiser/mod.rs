//! Denoisers: from a noisy sample and its time to an estimate of the data and the noise in it.

mod classifier;
mod clipped;
mod dynamic;
mod exact;
mod guidance;
mod guided;
mod network;

use burn::tensor::Tensor;

use crate::Law;
use crate::blend::{blend, scale};

pub use classifier::ClassifierGuided;
pub use clipped::Clipped;
pub use dynamic::Dynamic;
pub use exact::GaussianMixture;
pub use guidance::{Base, Guidance, Interval, Projection};
pub use guided::{Contrast, Guided};
pub use network::Network;

/// What `x = alpha data + sigma noise` is thought to be made of.
#[derive(Clone, Debug)]
pub struct Estimate<const D: usize> {
    /// The clean sample.
    pub data: Tensor<D>,
    /// The standard normal noise.
    pub noise: Tensor<D>,
}

impl<const D: usize> Estimate<D> {
    /// The sample of this data and noise at another time: DDIM's step there.
    #[must_use]
    pub fn at(&self, law: &Law) -> Tensor<D> {
        blend([law.alpha, law.sigma], self.data.clone(), self.noise.clone())
    }

    /// The first and the second half of a batch, as when two conditions went through a network as one batch.
    ///
    /// # Panics
    /// If the batch is odd.
    #[must_use]
    pub fn halves(self) -> [Self; 2] {
        let batch = self.data.dims()[0];
        assert!(batch.is_multiple_of(2), "a batch of {batch} has no halves");
        [0, batch / 2].map(|start| Self {
            data: self.data.clone().narrow(0, start, batch / 2),
            noise: self.noise.clone().narrow(0, start, batch / 2),
        })
    }
}

/// Anything that takes `x_t` apart: a closure, a [`Network`], or a wrapper of another denoiser.
///
/// Guidance, clipping and control are wrappers that are denoisers themselves, so that a solver sees one kind of thing.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_diffusion::{Denoiser, Estimate};
///
/// /// Takes any x for pure noise.
/// fn sceptic(x: Tensor<2>, _t: f64) -> Estimate<2> {
///     Estimate { data: x.zeros_like(), noise: x }
/// }
/// fn needs(_: &dyn Denoiser<2>) {}
/// needs(&sceptic);
/// ```
pub trait Denoiser<const D: usize> {
    /// The estimate at time t.
    ///
    /// # Shapes
    /// - `x`, and both parts of the estimate: `[batch, ...]`.
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D>;

    /// The estimate, and how wide the posterior is between its least (-1) and its greatest (1) logarithm, if the network says so.
    ///
    /// # Shapes
    /// - all: `[batch, ...]`.
    fn denoise_with_spread(&self, x: Tensor<D>, t: f64) -> (Estimate<D>, Option<Tensor<D>>) {
        (self.denoise(x, t), None)
    }

    /// The estimate where each sample has a time of its own. A denoiser that can be told one time alone is asked for the whole batch at each of
    /// them, since it may know what stands in which row: [`Network`] and the wrappers do better.
    ///
    /// # Shapes
    /// - `x`, and both parts of the estimate: `[batch, ...]`; one time a sample.
    ///
    /// # Panics
    /// If there is not one time a sample.
    fn denoise_each(&self, x: Tensor<D>, times: &[f64]) -> Estimate<D> {
        by_time(x, times, |x, t| self.denoise(x, t))
    }

    /// The gradient of the logarithm of x's density at t, whose law is given: what Langevin's dynamics follow. `-eps / sigma` of the estimate, unless that
    /// stands for more than the score ([`NonlinearSde`](crate::NonlinearSde)).
    ///
    /// # Shapes
    /// - both: `[batch, ...]`.
    fn score(&self, x: Tensor<D>, t: f64, law: &Law) -> Tensor<D> {
        scale(-1.0 / law.sigma, self.denoise(x, t).noise)
    }
}

impl<const D: usize, F: Fn(Tensor<D>, f64) -> Estimate<D>> Denoiser<D> for F {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        self(x, t)
    }
}

/// Row by row from what `estimate` gives for the whole batch at the row's time; each time is asked for once.
fn by_time<const D: usize>(
    x: Tensor<D>,
    times: &[f64],
    estimate: impl Fn(Tensor<D>, f64) -> Estimate<D>,
) -> Estimate<D> {
    assert_eq!(times.len(), x.dims()[0], "one time a sample");
    if times.windows(2).all(|pair| pair[0] == pair[1]) {
        return estimate(x, times.first().copied().unwrap_or_default());
    }
    let mut found: Vec<(f64, Estimate<D>)> = vec![];
    let rows = times.iter().enumerate().map(|(row, &t)| {
        let known = found.iter().position(|(time, _)| *time == t).unwrap_or_else(|| {
            found.push((t, estimate(x.clone(), t)));
            found.len() - 1
        });
        let [data, noise] =
            [&found[known].1.data, &found[known].1.noise].map(|part| part.clone().narrow(0, row, 1));
        (data, noise)
    });
    let (data, noise) = rows.unzip();
    Estimate { data: Tensor::cat(data, 0), noise: Tensor::cat(noise, 0) }
}
