//! Classifier guidance, and any other condition that has a likelihood: its gradient is added to the score.
//!
//! ```text
//! grad ln p(x_t | y) = grad ln p(x_t) + grad ln p(y | x_t)
//! noise = eps_hat - scale sigma g,   data = x_0_hat + scale (sigma² / alpha) g,   g = grad_x ln p(y | x_t)
//! ```
//!
//! With scale 1 and the exact likelihood this is the exact conditional process: the class-conditional sampling of Song et al. 2021 (section 5, equation 14).
//! Scales above 1 sharpen the condition (Dhariwal, Nichol 2021, algorithm 2; their algorithm 1 moves DDPM's mean by `variance g`, which is the same to
//! first order of a step). The likelihood is that of noisy x: a classifier trained on x_t and told t.

use std::fmt;

use burn::tensor::Tensor;

use super::{Denoiser, Estimate};
use crate::blend::scale;
use crate::{Process, gradient};

/// A denoiser with the gradient of a closure `(x [batch, ...], t) → ln p(y | x_t) [batch]` added, by autodiff.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_diffusion::{ClassifierGuided, Denoiser, GaussianMixture, VariancePreserving};
///
/// let process = VariancePreserving::default();
/// let data = GaussianMixture::single(&process, 0.0, 1.0)?;
/// // y = x_0 + noise was seen to be near 1; here said of x_t itself.
/// let near_one = |x: Tensor<2>, _t: f64| ((x - 1.0).square().sum_dim(1) * -0.5).squeeze_dim(1);
/// let conditional = ClassifierGuided::new(&process, data, 1.0, near_one);
/// # fn needs(_: &dyn Denoiser<2>) {}
/// # needs(&conditional);
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
pub struct ClassifierGuided<'a, N, F> {
    process: &'a dyn Process,
    inner: N,
    scale: f64,
    log_likelihood: F,
}

impl<'a, N, F> ClassifierGuided<'a, N, F> {
    /// The gradient of `log_likelihood`, times `scale`, on top of the score of `inner`.
    pub const fn new(process: &'a dyn Process, inner: N, scale: f64, log_likelihood: F) -> Self {
        Self { process, inner, scale, log_likelihood }
    }

    fn turn<const D: usize>(&self, estimate: Estimate<D>, x: &Tensor<D>, t: f64) -> Estimate<D>
    where
        F: Fn(Tensor<D>, f64) -> Tensor<1>,
    {
        let law = self.process.law(t);
        let gradient = gradient::of(x, |x| (self.log_likelihood)(x, t).sum());
        let by = self.scale * law.sigma;
        Estimate {
            data: estimate.data + scale(by * law.noise_ratio(), gradient.clone()),
            noise: estimate.noise - scale(by, gradient),
        }
    }
}

impl<const D: usize, N: Denoiser<D>, F: Fn(Tensor<D>, f64) -> Tensor<1>> Denoiser<D>
    for ClassifierGuided<'_, N, F>
{
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        self.turn(self.inner.denoise(x.clone(), t), &x, t)
    }

    fn denoise_with_spread(&self, x: Tensor<D>, t: f64) -> (Estimate<D>, Option<Tensor<D>>) {
        let (estimate, spread) = self.inner.denoise_with_spread(x.clone(), t);
        (self.turn(estimate, &x, t), spread)
    }
}

impl<N, F> fmt::Debug for ClassifierGuided<'_, N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifierGuided")
            .field("process", &self.process)
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}
