//! How squared errors of a network's output count, whatever the output means.
//!
//! Papers state a weight for errors of the noise, of the data or of the score. Since every prediction is linear in x and the output
//! ([`Prediction`]), an error e of the output is an error `b e` of any of these, and the weight of `|e|²` is `b²` times the paper's:
//!
//! | weighting | counts errors of | by | source |
//! |---|---|---|---|
//! | simple | the output | 1 | Ho et al. 2020, equation 14 |
//! | min-SNR | the data | `min(SNR, gamma)` | Hang et al. 2023, equation 8 |
//! | P2 | the noise | `1 / (k + SNR)^gamma` | Choi et al. 2022, equation 8 |
//! | score matching | the score | `sigma²` | Song, Ermon 2019, equation 6; DDPM's simple loss of the noise |
//! | likelihood | the score | `g²` | Song, Durkan, Murray, Ermon 2021, theorem 1 |
//! | EDM | the data | `(r² + s²) / (r s)²`, `r = sigma / alpha`, `s` the data's standard deviation | Karras et al. 2022, table 1 |
//!
//! with `SNR = alpha² / sigma²`. The likelihood weighting needs a finite g: a rectified flow has none at t = 1, where its weight is held finite.

use serde::{Deserialize, Serialize};

use crate::error::require;
use crate::{DiffusionError, Law, Prediction};

/// How squared errors of the output count, by the table of the module's formulas.
///
/// ```
/// use kiln_diffusion::{Prediction, Process, VariancePreserving, Weighting};
///
/// let law = VariancePreserving::default().law(0.3);
/// // Score matching over levels, said of a network that gives noise, is DDPM's simple loss.
/// assert!((Weighting::ScoreMatching.weight(Prediction::Noise, &law) - 1.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Weighting {
    /// All alike: DDPM's simple loss (Ho et al. 2020, equation 14), conditional flow matching for velocities, and for EDM's output its own
    /// weighting.
    #[default]
    Simple,
    /// `min(SNR, gamma)` for errors of the data estimate (Hang et al. 2023; gamma = 5).
    MinSnr {
        /// Where the signal-to-noise ratio stops counting.
        gamma: f64,
    },
    /// `1 / (k + SNR)^gamma` for errors of the noise: less where only detail too fine to see is learnt (Choi et al. 2022; k = 1, gamma 0.5 or 1).
    P2 {
        /// What keeps the weight finite.
        k: f64,
        /// How steeply it falls.
        gamma: f64,
    },
    /// `sigma²` for errors of the score: denoising score matching over levels (Song, Ermon 2019, equation 6).
    ScoreMatching,
    /// `g²` for errors of the score: half of it bounds the negative log-likelihood (Song et al. 2021, theorem 1).
    Likelihood,
    /// EDM's, for errors of the data (Karras et al. 2022, table 1). With EDM's prediction of this `sigma_data` it is the simple weighting.
    Edm {
        /// The standard deviation of the data.
        sigma_data: f64,
    },
}

/// The range that weights of the formulas are held in, at poles.
const RANGE: [f64; 2] = [1e-16, 1e16];

impl Weighting {
    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// For a `gamma`, `k` or `sigma_data` that is not above 0 (P2's gamma may be 0).
    pub fn check(self) -> Result<(), DiffusionError> {
        match self {
            Self::Simple | Self::ScoreMatching | Self::Likelihood => Ok(()),
            Self::MinSnr { gamma } => {
                require("gamma of the min-SNR weighting", "above 0", gamma, gamma > 0.0).map(drop)
            }
            Self::P2 { k, gamma } => {
                require("k of the P2 weighting", "above 0", k, k > 0.0)?;
                require("gamma of the P2 weighting", "at least 0", gamma, gamma >= 0.0).map(drop)
            }
            Self::Edm { sigma_data } => {
                require("sigma_data of the EDM weighting", "above 0", sigma_data, sigma_data > 0.0).map(drop)
            }
        }
    }

    /// The weight of a squared error of the output.
    #[must_use]
    pub fn weight(self, prediction: Prediction, law: &Law) -> f64 {
        let held = |value: f64| value.clamp(RANGE[0], RANGE[1]);
        let snr = held((law.alpha / law.sigma).powi(2));
        let coefficients = prediction.coefficients(law);
        // An error e of the output is an error b e of the data estimate, or of the noise; the score is -noise / sigma.
        let (of_data, of_noise) = (coefficients.data[1].powi(2), coefficients.noise[1].powi(2));
        match self {
            Self::Simple => 1.0,
            Self::MinSnr { gamma } => snr.min(gamma) * of_data,
            Self::P2 { k, gamma } => of_noise / (k + snr).powf(gamma),
            Self::ScoreMatching => of_noise,
            // g² / sigma², as a sum that has no 0 / 0.
            Self::Likelihood => {
                of_noise * held(2.0 * (law.sigma_dot / law.sigma - law.alpha_dot / law.alpha))
            }
            Self::Edm { sigma_data } => {
                let ratio = held(1.0 / snr);
                of_data * (ratio + sigma_data.powi(2)) / (ratio * sigma_data.powi(2))
            }
        }
    }
}
