//! Bits per dimension: a density of real numbers as the length of a code for whole ones.
//!
//! Pictures are whole numbers k from 0 to `levels - 1`; a density is of real x in `[low, high]`. Uniform dequantisation spreads each level over its own cell,
//!
//! ```text
//! x = low + (high - low) (k + u) / levels,   u uniform on [0, 1)
//! ```
//!
//! and by Jensen's inequality the mean of `ln (p(x) cell^d)`, `cell = (high - low) / levels`, is at most the log-probability of k. So, for d coordinates,
//!
//! ```text
//! bits per dimension = -ln p(x) / (d ln 2) - log2(cell)
//! ```
//!
//! is an upper bound of the code's length: the offset is `log2(levels) - log2(high - low)`, that is 8 for levels of 256 in `[0, 1]`, 7 in `[-1, 1]`. It stands here and nowhere
//! else.
//!
//! Source: Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016, section 3.1; Song et al. 2021, appendix D.2.

use std::f64::consts::LN_2;
use std::ops::RangeInclusive;

use burn::tensor::Tensor;
use kiln_backend::noise::{NoiseKey, uniform};

use crate::error::require;
use crate::{DiffusionError, LogDensity};

/// Whole levels in a range of real numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantisation {
    levels: u32,
    range: RangeInclusive<f64>,
}

impl Default for Quantisation {
    /// 8 bits in `[-1, 1]`.
    fn default() -> Self {
        Self { levels: 256, range: -1.0..=1.0 }
    }
}

/// How long a code the model is for data.
#[derive(Clone, Debug, PartialEq)]
pub struct BitsPerDim {
    /// Of each sample.
    pub each: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The mean's standard error over the samples, with what dequantisation and probes add to their spread; `None` for one sample.
    pub standard_error: Option<f64>,
    /// Evaluations of the denoiser, on the whole batch.
    pub evaluations: usize,
}

impl Quantisation {
    /// That many levels in a range.
    ///
    /// # Errors
    /// For fewer than two levels, or a range without width.
    pub fn new(levels: u32, range: RangeInclusive<f64>) -> Result<Self, DiffusionError> {
        require("the number of levels", "at least 2", f64::from(levels), levels >= 2)?;
        let width = range.end() - range.start();
        require("the width of the levels' range", "above 0", width, width > 0.0)?;
        Ok(Self { levels, range })
    }

    /// The width of a level's cell.
    #[must_use]
    pub fn cell(&self) -> f64 {
        (self.range.end() - self.range.start()) / f64::from(self.levels)
    }

    /// Whole levels spread over their cells.
    ///
    /// # Shapes
    /// - `levels`: `[batch, ...]`, whole numbers from 0; row i draws as sample `key.sample + i`.
    #[must_use]
    pub fn dequantise<const D: usize>(&self, levels: Tensor<D>, key: NoiseKey) -> Tensor<D> {
        let within = uniform(levels.dims(), key, &levels.device()).cast(levels.dtype());
        (levels + within) * self.cell() + *self.range.start()
    }

    /// Densities of dequantised data as bits per dimension.
    #[must_use]
    pub fn bits_per_dim(&self, density: &LogDensity) -> BitsPerDim {
        let offset = -self.cell().log2();
        let each: Vec<f64> =
            density.nats.iter().map(|nats| -nats / (density.coordinates as f64 * LN_2) + offset).collect();
        let count = each.len() as f64;
        let mean = each.iter().sum::<f64>() / count;
        let squares: f64 = each.iter().map(|bits| (bits - mean).powi(2)).sum();
        let standard_error = (each.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        BitsPerDim { each, mean, standard_error, evaluations: density.evaluations }
    }
}
