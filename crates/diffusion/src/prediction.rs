//! Predictions: what a network's output means, and what it is trained towards.
//!
//! Every parametrisation of the field is linear. With `x = alpha x_0 + sigma eps`, an output `o` is a combination of (x_0, eps), and
//! (x_0, eps) are combinations of (x, o); the table in [`Prediction::coefficients`] is all there is to know:
//!
//! | prediction | output | source |
//! |---|---|---|
//! | noise | `eps` | Ho et al. 2020 |
//! | sample | `x_0` | Ho et al. 2020 |
//! | v | `alpha eps - sigma x_0` | Salimans, Ho 2022 |
//! | score | `-eps / sigma` | Song, Ermon 2019 |
//! | velocity | `alpha' x_0 + sigma' eps` | Lipman et al. 2023; for rectified flow `eps - x_0` |
//! | EDM | `(sigma x_0 / s - alpha s eps) / m`, `m² = sigma² + alpha² s²` | Karras et al. 2022, table 1, s = sigma_data |
//! | EDM v | `(alpha s eps - sigma x_0 / s) / m`: EDM's with the sign of v, which it is for s = 1 | CosXL's networks |
//! | consistency | `(x_0 - c_skip x / alpha) / c_out`, see below | Song et al. 2023, appendix C |
//!
//! A consistency model's output is EDM's, but that the network is the identity at the least noise ratio f, and not at 0: with r = sigma / alpha,
//! `x_0 = c_skip x / alpha + c_out o`, `c_skip = s² / ((r - f)² + s²)`, `c_out = s (r - f) / sqrt(r² + s²)`.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::blend::{blend, blend_each};
use crate::{DiffusionError, Estimate, Law, Process};

/// What the output of a network means.
///
/// ```
/// use kiln_diffusion::{Prediction, Process, RectifiedFlow};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// // At t = 1 a rectified flow is pure noise; its velocity still tells the data.
/// let law = RectifiedFlow.law(1.0);
/// let x = Tensor::<1>::from_floats([0.5], &device);
/// let velocity = Tensor::from_floats([0.2], &device); // eps - x_0
/// let estimate = Prediction::Velocity.estimate(velocity, x, &law);
/// assert!((estimate.data.into_scalar::<f32>() - 0.3).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Prediction {
    /// The noise, eps.
    Noise,
    /// The data, x_0.
    Sample,
    /// `alpha eps - sigma x_0`.
    V,
    /// The gradient of the log density, `-eps / sigma`.
    Score,
    /// The derivative of x_t in time, `alpha' x_0 + sigma' eps`.
    Velocity,
    /// EDM's preconditioned output, of variance 1 for data of variance `sigma_data²`. Its network's input is scaled, see
    /// [`Prediction::input_scale`].
    Edm {
        /// The standard deviation of the data.
        sigma_data: f64,
    },
    /// EDM's preconditioned output with the other sign, as networks have it that learned v before.
    EdmV {
        /// The standard deviation of the data.
        sigma_data: f64,
    },
    /// A consistency model's, EDM's preconditioned output with the identity at `sigma_floor`. Its network's input is scaled as EDM's.
    Consistency {
        /// The standard deviation of the data.
        sigma_data: f64,
        /// The least noise ratio that the network was trained with.
        sigma_floor: f64,
    },
}

/// Data, noise and output as combinations of two others, at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Coefficients {
    /// Data from (x, output).
    pub(crate) data: [f64; 2],
    /// Noise from (x, output).
    pub(crate) noise: [f64; 2],
    /// Output from (data, noise).
    pub(crate) output: [f64; 2],
}

/// Divisors are held above this: at a pole the estimate is large, not infinite.
const FLOOR: f64 = 1e-8;

impl Prediction {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Sample => "sample",
            Self::V => "v",
            Self::Score => "score",
            Self::Velocity => "velocity",
            Self::Edm { .. } => "edm",
            Self::EdmV { .. } => "edm_v",
            Self::Consistency { .. } => "consistency",
        }
    }

    /// The table of this module.
    pub(crate) fn coefficients(self, law: &Law) -> Coefficients {
        let Law { alpha, sigma, alpha_dot, sigma_dot } = *law;
        let (alpha_divisor, sigma_divisor) = (alpha.max(FLOOR), sigma.max(FLOOR));
        match self {
            Self::Noise => Coefficients {
                data: [1.0 / alpha_divisor, -sigma / alpha_divisor],
                noise: [0.0, 1.0],
                output: [0.0, 1.0],
            },
            Self::Sample => Coefficients {
                data: [0.0, 1.0],
                noise: [1.0 / sigma_divisor, -alpha / sigma_divisor],
                output: [1.0, 0.0],
            },
            Self::V => {
                let square = law.norm().powi(2);
                Coefficients {
                    data: [alpha / square, -sigma / square],
                    noise: [sigma / square, alpha / square],
                    output: [-sigma, alpha],
                }
            }
            Self::Score => Coefficients {
                data: [1.0 / alpha_divisor, sigma * sigma / alpha_divisor],
                noise: [0.0, -sigma],
                output: [0.0, -1.0 / sigma_divisor],
            },
            Self::Velocity => {
                // Cramer's rule; the determinant is sigma² d(alpha / sigma) / dt turned positive, so never 0 while the SNR falls.
                let determinant = alpha * sigma_dot - sigma * alpha_dot;
                Coefficients {
                    data: [sigma_dot / determinant, -sigma / determinant],
                    noise: [-alpha_dot / determinant, alpha / determinant],
                    output: [alpha_dot, sigma_dot],
                }
            }
            Self::Edm { sigma_data } => {
                let m = sigma.hypot(alpha * sigma_data);
                let (share, square) = (alpha * sigma_data, m * m);
                Coefficients {
                    data: [share * sigma_data / square, sigma * sigma_data / m],
                    noise: [sigma / square, -share / m],
                    output: [sigma / (sigma_data * m), -share / m],
                }
            }
            Self::EdmV { sigma_data } => {
                let Coefficients { data, noise, output } = Self::Edm { sigma_data }.coefficients(law);
                Coefficients {
                    data: [data[0], -data[1]],
                    noise: [noise[0], -noise[1]],
                    output: output.map(|c| -c),
                }
            }
            Self::Consistency { sigma_data, sigma_floor } => {
                let ratio = sigma / alpha_divisor;
                let beyond = ratio - sigma_floor;
                let square = beyond * beyond + sigma_data * sigma_data;
                let kept = sigma_data * sigma_data / square;
                let of_output = sigma_data * beyond / ratio.hypot(sigma_data);
                let divisor = if of_output.abs() < FLOOR { FLOOR } else { of_output };
                Coefficients {
                    data: [kept / alpha_divisor, of_output],
                    noise: [(1.0 - kept) / sigma_divisor, -alpha * of_output / sigma_divisor],
                    output: [beyond * beyond / square / divisor, -kept * ratio / divisor],
                }
            }
        }
    }

    /// What `x_t` is multiplied by before it enters the network: EDM's `c_in`, else 1.
    #[must_use]
    pub fn input_scale(self, law: &Law) -> f64 {
        match self {
            Self::Edm { sigma_data } | Self::EdmV { sigma_data } | Self::Consistency { sigma_data, .. } => {
                1.0 / law.sigma.hypot(law.alpha * sigma_data)
            }
            Self::Noise | Self::Sample | Self::V | Self::Score | Self::Velocity => 1.0,
        }
    }

    /// The estimate that an output at `x` is.
    ///
    /// # Shapes
    /// - `output`, `x`: any, the same.
    #[must_use]
    pub fn estimate<const D: usize>(self, output: Tensor<D>, x: Tensor<D>, law: &Law) -> Estimate<D> {
        let coefficients = self.coefficients(law);
        Estimate {
            data: blend(coefficients.data, x.clone(), output.clone()),
            noise: blend(coefficients.noise, x, output),
        }
    }

    /// The estimate of a batch whose samples are at times of their own.
    ///
    /// # Shapes
    /// - `output`, `x`: `[batch, ...]`.
    ///
    /// # Panics
    /// If `laws` is not one a sample.
    #[must_use]
    pub fn estimate_each<const D: usize>(self, output: Tensor<D>, x: Tensor<D>, laws: &[Law]) -> Estimate<D> {
        let (data, noise): (Vec<_>, Vec<_>) =
            laws.iter().map(|law| self.coefficients(law)).map(|c| (c.data, c.noise)).unzip();
        Estimate { data: blend_each(&data, x.clone(), output.clone()), noise: blend_each(&noise, x, output) }
    }

    /// The output that stands for an estimate: what the network should have said, and how one prediction becomes another.
    #[must_use]
    pub fn output<const D: usize>(self, estimate: &Estimate<D>, law: &Law) -> Tensor<D> {
        blend(self.coefficients(law).output, estimate.data.clone(), estimate.noise.clone())
    }

    /// The training target of a batch whose samples are at times of their own.
    ///
    /// # Shapes
    /// - `estimate`: the true data and noise, `[batch, ...]`.
    ///
    /// # Panics
    /// If `laws` is not one a sample.
    #[must_use]
    pub fn target_each<const D: usize>(self, truth: &Estimate<D>, laws: &[Law]) -> Tensor<D> {
        let coefficients: Vec<_> = laws.iter().map(|law| self.coefficients(law).output).collect();
        blend_each(&coefficients, truth.data.clone(), truth.noise.clone())
    }

    /// Whether sampling can start where this process ends: a prediction of the noise alone says nothing of the data where alpha is 0.
    ///
    /// # Errors
    /// [`DiffusionError::Pole`] if it can't; [`DiffusionError::Parameter`] for a `sigma_data` that is not above 0.
    pub fn check(self, process: &dyn Process) -> Result<(), DiffusionError> {
        match self {
            Self::Noise | Self::Score if process.alpha(process.t_max()) <= FLOOR => {
                Err(DiffusionError::Pole { prediction: self.name(), t: process.t_max() })
            }
            Self::Edm { sigma_data } | Self::EdmV { sigma_data } | Self::Consistency { sigma_data, .. } => {
                crate::error::require("sigma_data", "above 0", sigma_data, sigma_data > 0.0).map(drop)
            }
            Self::Noise | Self::Score | Self::Sample | Self::V | Self::Velocity => Ok(()),
        }
    }
}
