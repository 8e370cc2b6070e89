//! Classifier-free guidance: away from what the network would draw anyway.
//!
//! ```text
//! guided = unconditional + scale (conditional - unconditional)
//! ```
//!
//! In the convention of diffusers and Stable Diffusion: scale 1 is the conditional estimate, 0 the unconditional one (the w of Ho and Salimans is
//! scale - 1). A negative prompt is no rule of its own: its estimate stands in the place of the unconditional one.
//!
//! Source: Ho, Salimans, "Classifier-free diffusion guidance", 2022; rescaling, intervals and projection as [`Guidance`] says.

use std::cell::RefCell;
use std::fmt;

use burn::tensor::Tensor;

use super::guidance::Guidance;
use super::{Denoiser, Estimate, by_time};
use crate::blend::blend;
use crate::{DiffusionError, Law, Prediction, Process};

/// What a network thinks with and without its condition.
#[derive(Clone, Debug)]
pub struct Contrast<const D: usize> {
    /// With the condition.
    pub conditional: Estimate<D>,
    /// Without it, or with the negative one: what to go away from.
    pub unconditional: Estimate<D>,
    /// How wide the posterior is with the condition, if the network says so: guidance leaves it as it is.
    pub spread: Option<Tensor<D>>,
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

/// Both estimates, where each sample has a time of its own.
type ContrastEach<'a, const D: usize> = dyn Fn(Tensor<D>, &[f64]) -> Contrast<D> + 'a;

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
///     Contrast { conditional, unconditional, spread: None }
/// });
/// guided.denoise(Tensor::zeros([4, 2], &Device::flex()), 0.5);
/// ```
pub struct Guided<'a, const D: usize, F> {
    guidance: Guidance,
    /// Where the interval lies, and what projection and rescaling act on. Plain guidance needs neither.
    frame: Option<(&'a dyn Process, Prediction)>,
    contrast: F,
    alone: Option<Box<dyn Denoiser<D> + 'a>>,
    each: Option<Box<ContrastEach<'a, D>>>,
    /// The last difference of projected guidance, with its own momentum.
    momentum: RefCell<Option<Tensor<D>>>,
}

impl<'a, const D: usize, F: Fn(Tensor<D>, f64) -> Contrast<D>> Guided<'a, D, F> {
    /// Plain guidance of this scale over a closure `(x, t) → Contrast`.
    pub const fn new(scale: f64, contrast: F) -> Self {
        Self {
            guidance: Guidance::new(scale),
            frame: None,
            contrast,
            alone: None,
            each: None,
            momentum: RefCell::new(None),
        }
    }

    /// Guidance with all its choices; projection and rescaling act on what `prediction` says.
    ///
    /// # Errors
    /// As [`Guidance::check`].
    pub fn by(
        guidance: Guidance,
        process: &'a dyn Process,
        prediction: Prediction,
        contrast: F,
    ) -> Result<Self, DiffusionError> {
        guidance.check()?;
        let frame = Some((process, prediction));
        Ok(Self { guidance, frame, contrast, alone: None, each: None, momentum: RefCell::new(None) })
    }

    /// What gives the conditional estimate outside the interval: half the work there. Without it the closure is asked for both, and its unconditional
    /// estimate dropped.
    #[must_use]
    pub fn with_alone(self, conditional: impl Denoiser<D> + 'a) -> Self {
        Self { alone: Some(Box::new(conditional)), ..self }
    }

    /// What gives both estimates where each sample has a time of its own, as solvers with a step of their own for each ask. Without it the closure is asked
    /// for the whole batch at each of the times.
    #[must_use]
    pub fn with_each(self, contrast: impl Fn(Tensor<D>, &[f64]) -> Contrast<D> + 'a) -> Self {
        Self { each: Some(Box::new(contrast)), ..self }
    }

    /// What projected guidance remembers of its steps, to write down when a run is put aside.
    pub fn momentum(&self) -> Option<Tensor<D>> {
        self.momentum.borrow().clone()
    }

    /// Goes on from what was written down; `None` for a run's beginning. A guided denoiser with momentum serves one run at a time.
    pub fn set_momentum(&self, momentum: Option<Tensor<D>>) {
        self.momentum.replace(momentum);
    }

    /// Projection and rescaling, on what the network says.
    fn guide_outputs(
        &self,
        contrast: &Contrast<D>,
        x: Tensor<D>,
        law: &Law,
        prediction: Prediction,
    ) -> Estimate<D> {
        let conditional = prediction.output(&contrast.conditional, law);
        let unconditional = prediction.output(&contrast.unconditional, law);
        let difference = conditional.clone() - unconditional.clone();
        let difference = match self.guidance.projection {
            None => difference,
            Some(projection) => {
                let gathered = projection.gather(difference, self.momentum.take());
                self.momentum.replace(Some(gathered.clone()));
                gathered
            }
        };
        prediction.estimate(self.guidance.add(difference, &conditional, unconditional), x, law)
    }
}

impl<const D: usize, F: Fn(Tensor<D>, f64) -> Contrast<D>> Denoiser<D> for Guided<'_, D, F> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        self.denoise_with_spread(x, t).0
    }

    fn denoise_with_spread(&self, x: Tensor<D>, t: f64) -> (Estimate<D>, Option<Tensor<D>>) {
        let Some((process, prediction)) = self.frame else {
            let mut contrast = (self.contrast)(x, t);
            let spread = contrast.spread.take();
            return (contrast.guide(self.guidance.scale), spread);
        };
        if self.guidance.interval.is_some_and(|interval| !interval.holds(process, t)) {
            return match &self.alone {
                Some(alone) => alone.denoise_with_spread(x, t),
                None => {
                    let Contrast { conditional, spread, .. } = (self.contrast)(x, t);
                    (conditional, spread)
                }
            };
        }
        let mut contrast = (self.contrast)(x.clone(), t);
        let spread = contrast.spread.take();
        let estimate = match self.guidance {
            Guidance { projection: None, rescale: 0.0, scale, .. } => contrast.guide(scale),
            _ => self.guide_outputs(&contrast, x, &process.law(t), prediction),
        };
        (estimate, spread)
    }

    fn denoise_each(&self, x: Tensor<D>, times: &[f64]) -> Estimate<D> {
        let plain = self.guidance.projection.is_none()
            && self.guidance.rescale == 0.0
            && self.guidance.interval.is_none();
        match &self.each {
            Some(each) if plain => each(x, times).guide(self.guidance.scale),
            _ => by_time(x, times, |x, t| self.denoise(x, t)),
        }
    }
}

impl<const D: usize, F> fmt::Debug for Guided<'_, D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guided").field("guidance", &self.guidance).finish_non_exhaustive()
    }
}
