//! Classifier-free guidance: away from what the network would draw anyway.
//!
//! ```text
//! guided = unconditional + scale (conditional - unconditional)
//! ```
//!
//! Source: Ho, Salimans, "Classifier-free diffusion guidance", 2022, in the convention of diffusers and Stable Diffusion: scale 1 is the
//! conditional estimate, 0 the unconditional one (the paper's w is scale - 1).

use std::fmt;

use burn::tensor::Tensor;

use super::{Denoiser, Estimate};
use crate::blend::blend;

/// What a network thinks with and without its condition.
#[derive(Clone, Debug)]
pub struct Contrast<const D: usize> {
    /// With the condition.
    pub conditional: Estimate<D>,
    /// Without it, or with the negative one.
    pub unconditional: Estimate<D>,
}

impl<const D: usize> Contrast<D> {
    /// The guided estimate. As the weights add to 1, data and noise still make up x.
    #[must_use]
    pub fn guide(self, scale: f64) -> Estimate<D> {
        let weights = [scale, 1.0 - scale];
        Estimate {
            data: blend(weights, self.conditional.data, self.unconditional.data),
            noise: blend(weights, self.conditional.noise, self.unconditional.noise),
        }
    }
}

/// A closure that gives both estimates, as one denoiser. Whether the two go through the network as one batch or as two calls is the
/// closure's affair.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_diffusion::{Contrast, Denoiser, Estimate, Guided};
///
/// # fn network(x: Tensor<2>, _t: f64) -> Estimate<2> { Estimate { data: x.clone(), noise: x } }
/// let guided = Guided::new(3.0, |x: Tensor<2>, t| {
///     let both = network(Tensor::cat(vec![x.clone(), x], 0), t);
///     let [conditional, unconditional] = both.halves();
///     Contrast { conditional, unconditional }
/// });
/// guided.denoise(Tensor::zeros([4, 2], &Device::flex()), 0.5);
/// ```
pub struct Guided<F> {
    scale: f64,
    contrast: F,
}

impl<F> Guided<F> {
    /// Guidance of this scale over a closure `(x, t) → Contrast`.
    pub const fn new(scale: f64, contrast: F) -> Self {
        Self { scale, contrast }
    }
}

impl<const D: usize, F: Fn(Tensor<D>, f64) -> Contrast<D>> Denoiser<D> for Guided<F> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        (self.contrast)(x, t).guide(self.scale)
    }
}

impl<F> fmt::Debug for Guided<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guided").field("scale", &self.scale).finish_non_exhaustive()
    }
}
