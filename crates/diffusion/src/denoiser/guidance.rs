//! How two estimates become one: the choices of classifier-free guidance, as data.
//!
//! With `c` and `u` what the network says with and without the condition, and all sums over a sample's own coordinates:
//!
//! ```text
//! guided = u + scale d,   d = c - u                                                         plain
//! d ← d + momentum d_before,   d ← d min(1, threshold / |d|),                               projected
//! d ← d - (1 - eta) (d·c / |c|²) c
//! guided ← rescale (std(c) / std(guided)) guided + (1 - rescale) guided                     rescaled
//! guided = c outside the interval of noise levels                                           only in between
//! ```
//!
//! The plain rule is linear, so it is one and the same for noise, data or velocity. Projection and rescaling are not: they act on what the network says
//! ([`Prediction`](crate::Prediction)), as in diffusers; the paper of APG projects the data, which is [`Prediction::Sample`](crate::Prediction::Sample).
//!
//! Sources: Ho, Salimans 2022 (plain); Lin, Liu, Li, Yang 2024, section 3.4 (rescale); Kynkäänniemi et al. 2024 (interval); Sadat, Hilliges, Weber 2024,
//! algorithm 1 (adaptive projected guidance, APG).

use std::ops::RangeInclusive;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::require;
use crate::{DiffusionError, Process};

/// The choices of classifier-free guidance.
///
/// ```
/// use kiln_diffusion::{Guidance, Interval};
///
/// // Kynkäänniemi et al.'s interval for EDM2 on ImageNet, in noise levels.
/// let guidance = Guidance { interval: Some(Interval::NoiseLevels { from: 0.19, to: 1.61 }), ..Guidance::new(2.0) };
/// guidance.check()?;
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guidance {
    /// 1 is the conditional estimate, 0 the unconditional one.
    pub scale: f64,
    /// The share of the result that is brought to the standard deviation of the conditional output, in `[0, 1]`; diffusers' `guidance_rescale`.
    #[serde(default)]
    pub rescale: f64,
    /// Adaptive projected guidance.
    #[serde(default)]
    pub projection: Option<Projection>,
    /// Where guidance is on; everywhere if not given.
    #[serde(default)]
    pub interval: Option<Interval>,
}

impl Guidance {
    /// Plain guidance of this scale, everywhere.
    #[must_use]
    pub const fn new(scale: f64) -> Self {
        Self { scale, rescale: 0.0, projection: None, interval: None }
    }

    /// The guided output of a network, of what it says with and without the condition, both `[batch, ...]`: the interval and projection's momentum,
    /// which take a run's course, are [`Guided`](crate::Guided)'s.
    #[must_use]
    pub fn guide<const D: usize>(&self, conditional: &Tensor<D>, unconditional: Tensor<D>) -> Tensor<D> {
        let difference = conditional.clone() - unconditional.clone();
        self.add(difference, conditional, unconditional)
    }

    /// As [`guide`](Self::guide), of a difference that may hold momentum.
    pub(super) fn add<const D: usize>(
        &self,
        difference: Tensor<D>,
        conditional: &Tensor<D>,
        unconditional: Tensor<D>,
    ) -> Tensor<D> {
        let output = match self.projection {
            None => unconditional + difference * self.scale,
            Some(projection) => {
                let difference = projection.apply(difference, conditional);
                match projection.base {
                    Base::Unconditional => unconditional + difference * self.scale,
                    Base::Conditional => conditional.clone() + difference * (self.scale - 1.0),
                }
            }
        };
        match self.rescale {
            0.0 => output,
            share => rescaled(output, conditional, share),
        }
    }

    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// For a scale that is not finite, a rescale outside `[0, 1]`, a threshold not above 0, or an interval that holds nothing.
    pub fn check(&self) -> Result<(), DiffusionError> {
        require("the scale of guidance", "finite", self.scale, true)?;
        require("rescale of guidance", "from 0 to 1", self.rescale, (0.0..=1.0).contains(&self.rescale))?;
        if let Some(projection) = self.projection {
            require("momentum of projected guidance", "finite", projection.momentum, true)?;
            require("eta of projected guidance", "finite", projection.eta, true)?;
            let threshold = projection.threshold.unwrap_or(1.0);
            require("threshold of projected guidance", "above 0", threshold, threshold > 0.0)?;
        }
        if let Some(interval) = self.interval {
            let range = interval.range();
            let width = range.end() - range.start();
            require("the width of the guidance interval", "at least 0", width, width >= 0.0)?;
        }
        Ok(())
    }
}

/// Adaptive projected guidance: of the difference, the part along the conditional output saturates colours and is turned down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// What is left of the part along the conditional output; the paper's 0, and 1 to keep it all.
    #[serde(default)]
    pub eta: f64,
    /// How much of the differences before is added; below 0 (the paper's -0.5) it pushes away from them. 0: none.
    #[serde(default)]
    pub momentum: f64,
    /// The greatest norm of the difference; the paper's r, diffusers' `adaptive_projected_guidance_rescale`.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// What the difference is added to.
    #[serde(default)]
    pub base: Base,
}

/// What the guided difference is added to. The same thing for plain guidance, not for a projected difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// `u + scale d`: diffusers' choice.
    #[default]
    Unconditional,
    /// `c + (scale - 1) d`: the paper's (in diffusers, `use_original_formulation` with a scale one less).
    Conditional,
}

/// Where guidance is on, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Interval {
    /// Between two times of the process.
    Times {
        /// The earlier, nearer to the data.
        from: f64,
        /// The later.
        to: f64,
    },
    /// Between two noise levels `sigma / alpha`, as the paper states them.
    NoiseLevels {
        /// The lower.
        from: f64,
        /// The higher.
        to: f64,
    },
}

impl Interval {
    const fn range(self) -> RangeInclusive<f64> {
        match self {
            Self::Times { from, to } | Self::NoiseLevels { from, to } => from..=to,
        }
    }

    /// Whether guidance is on at t.
    #[must_use]
    pub fn holds(self, process: &dyn Process, t: f64) -> bool {
        let place = match self {
            Self::Times { .. } => t,
            Self::NoiseLevels { .. } => process.law(t).noise_ratio(),
        };
        self.range().contains(&place)
    }
}

/// A sum over each sample's own coordinates, shaped `[batch, 1, ...]`.
fn sum_each<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (1..D).fold(x, Tensor::sum_dim)
}

/// The norm of a conditional output is held above this.
const LEAST_NORM: f64 = 1e-12;

impl Projection {
    /// The difference with its momentum: to be kept for the next one.
    pub(super) fn gather<const D: usize>(
        self,
        difference: Tensor<D>,
        before: Option<Tensor<D>>,
    ) -> Tensor<D> {
        match before {
            Some(before) if self.momentum != 0.0 => difference + before * self.momentum,
            _ => difference,
        }
    }

    /// The difference, shortened and turned off the conditional output.
    fn apply<const D: usize>(self, difference: Tensor<D>, conditional: &Tensor<D>) -> Tensor<D> {
        let difference = match self.threshold {
            Some(threshold) => {
                let norm = sum_each(difference.clone().square()).sqrt();
                // In place of threshold / norm, which is infinite for no difference.
                difference * (norm.clamp_min(threshold).recip() * threshold)
            }
            None => difference,
        };
        if self.eta == 1.0 {
            return difference;
        }
        let direction =
            conditional.clone() / sum_each(conditional.clone().square()).sqrt().clamp_min(LEAST_NORM);
        let along = sum_each(difference.clone() * direction.clone()) * direction;
        difference - along * (1.0 - self.eta)
    }
}

/// `output` with a share of it brought to the standard deviation of `conditional`, sample by sample (with n - 1 in place of n: their quotient is
/// the same).
fn rescaled<const D: usize>(output: Tensor<D>, conditional: &Tensor<D>, share: f64) -> Tensor<D> {
    let deviation = |x: Tensor<D>| {
        let size = x.dims().iter().skip(1).product::<usize>() as f64;
        let mean = sum_each(x.clone()) / size;
        sum_each((x - mean).square()).sqrt()
    };
    let ratio = deviation(conditional.clone()) / deviation(output.clone());
    output * (ratio * share + (1.0 - share))
}
