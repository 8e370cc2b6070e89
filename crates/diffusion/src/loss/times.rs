//! How training times are drawn: where on the way from data to noise a network is asked most.
//!
//! A number u, uniform on (0, 1], becomes a share of the way from data (0) to noise (1):
//!
//! | name | share | source |
//! |---|---|---|
//! | uniform | `u` | Ho et al. 2020 |
//! | logit-normal | `1 / (1 + exp(-(mean + std z)))`, z standard normal | Esser et al. 2024, equation 19 |
//! | mode | `1 - u - scale (cos²(pi u / 2) - 1 + u)` | Esser et al. 2024, equation 20 |
//! | cosmap | `1 - 1 / (tan(pi u / 2) + 1)`, of density `2 / (pi - 2 pi t + 2 pi t²)` | Esser et al. 2024, equation 21 |
//! | log-normal | that of the noise level `sigma / alpha = exp(mean + std z)` | Karras et al. 2022, table 1 |
//!
//! The share is then moved towards the noise for pictures larger than those that the density was chosen for (Esser et al. 2024, equation 23),
//!
//! ```text
//! share ← shift share / (1 + (shift - 1) share),   shift = sqrt(m / n) for m pixels in place of n
//! ```
//!
//! and stretched over the process's range, or put on the rung above it.

use std::f64::consts::FRAC_PI_2;

use kiln_backend::noise::{NoiseKey, normal_values, uniform_values};
use serde::{Deserialize, Serialize};

use crate::error::require;
use crate::{DiffusionError, Process};

/// How training times are drawn, by the table of the module's formulas.
///
/// ```
/// use kiln_backend::noise::NoiseKey;
/// use kiln_diffusion::{RectifiedFlow, TimeSampling};
///
/// let times = TimeSampling::LogitNormal { mean: 0.0, std: 1.0 }.draw(&RectifiedFlow, 1000, NoiseKey::new(0));
/// let middle = times.iter().filter(|&&t| 0.25 < t && t < 0.75).count();
/// assert!(middle > 650, "more in the middle than half of them: {middle}");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TimeSampling {
    /// Even: over the rungs of a ladder, else over the process's range.
    #[default]
    Uniform,
    /// The logistic function of a normal: more in the middle (Esser et al. 2024, equation 19).
    LogitNormal {
        /// Mean of the normal; above 0: more noise.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// A density with its mode in the middle (above 0) or at the ends (below), positive everywhere (Esser et al. 2024, equation 20).
    Mode {
        /// From -1 to `2 / (pi - 2)`; 0 is uniform. SD3 tried 1.29 with success.
        scale: f64,
    },
    /// The density under which a rectified flow has the log-SNR of the cosine schedule (Esser et al. 2024, equation 21).
    CosMap,
    /// The noise level `sigma / alpha` is log-normal: EDM's, with -1.2 and 1.2 (Karras et al. 2022, table 1). Levels beyond the process's range are
    /// held at its ends.
    LogNormal {
        /// Mean of the level's logarithm.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
}

impl TimeSampling {
    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// For a `std` that is not above 0, a `mean` that is not finite, or a mode's `scale` under which two u give one time.
    pub fn check(self) -> Result<(), DiffusionError> {
        match self {
            Self::Uniform | Self::CosMap => Ok(()),
            Self::LogitNormal { mean, std } => {
                require("mean of the logit-normal times", "finite", mean, true)?;
                require("std of the logit-normal times", "above 0", std, std > 0.0).map(drop)
            }
            Self::LogNormal { mean, std } => {
                require("mean of the log-normal noise levels", "finite", mean, true)?;
                require("std of the log-normal noise levels", "above 0", std, std > 0.0).map(drop)
            }
            Self::Mode { scale } => {
                let greatest = 1.0 / (FRAC_PI_2 - 1.0);
                require(
                    "scale of the mode times",
                    "from -1 to 2 / (pi - 2) = 1.7519",
                    scale,
                    (-1.0..=greatest).contains(&scale),
                )
                .map(drop)
            }
        }
    }

    /// One time a sample: that of row i depends on (seed, `sample + i`, step) alone.
    #[must_use]
    pub fn draw(self, process: &dyn Process, batch: usize, key: NoiseKey) -> Vec<f64> {
        self.draw_shifted(process, batch, 1.0, key)
    }

    /// The same with the shares of the way shifted, see [`resolution_shift`]; 1 leaves them.
    #[must_use]
    pub fn draw_shifted(self, process: &dyn Process, batch: usize, shift: f64, key: NoiseKey) -> Vec<f64> {
        (0..batch as u64)
            .map(|row| key.at_sample(key.sample.wrapping_add(row)))
            .map(|key| self.draw_one(process, shift, key))
            .collect()
    }

    fn draw_one(self, process: &dyn Process, shift: f64, key: NoiseKey) -> f64 {
        let normal = || f64::from(normal_values(1, key)[0]);
        let (low, high) = (process.t_min(), process.t_max());
        let share = match self {
            // In (0, 1]: where the range's ends are the data and the noise, the noise is drawn and the data is not.
            Self::Uniform | Self::CosMap => self.share(1.0 - f64::from(uniform_values(1, key)[0])),
            Self::Mode { .. } => self.share(f64::from(uniform_values(1, key)[0])),
            Self::LogitNormal { .. } => self.share(normal()),
            Self::LogNormal { .. } => {
                let time = process.time_at_log_snr(-2.0 * self.share(normal()).ln());
                // Of a ladder the rungs are (0, 1]; its first time is a rung already.
                if process.rungs().is_some() { time } else { (time - low) / (high - low) }
            }
        };
        let share = shift * share / (1.0 + (shift - 1.0) * share);
        process.rungs().map_or_else(
            || low + (high - low) * share,
            |rungs| (share * rungs as f64).ceil().clamp(1.0, rungs as f64) / rungs as f64,
        )
    }

    /// The share of the way from data to noise that u stands for, by the formulas. For the two that come from a normal, u is that normal;
    /// and for the log-normal the noise level is given, whose place on the way depends on the process.
    #[must_use]
    pub fn share(self, u: f64) -> f64 {
        match self {
            Self::Uniform => u,
            Self::LogitNormal { mean, std } => 1.0 / (1.0 + (-(mean + std * u)).exp()),
            Self::Mode { scale } => 1.0 - u - scale * ((FRAC_PI_2 * u).cos().powi(2) - 1.0 + u),
            Self::CosMap => 1.0 - 1.0 / ((FRAC_PI_2 * u).tan() + 1.0),
            Self::LogNormal { mean, std } => (mean + std * u).exp(),
        }
    }
}

/// The shift for pictures of `pixels` (or tokens) where times were chosen for `base` of them: `sqrt(pixels / base)`.
///
/// A picture of more pixels takes more noise to be hidden as well. Source: Esser et al. 2024, section 5.3.2; SD3 samples with 3.
///
/// ```
/// assert_eq!(kiln_diffusion::resolution_shift(1024 * 1024, 256 * 256), 4.0);
/// ```
#[must_use]
pub fn resolution_shift(pixels: usize, base: usize) -> f64 {
    (pixels as f64 / base as f64).sqrt()
}
