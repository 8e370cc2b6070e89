//! Processes by name: in a model's file, on a command line, in a table.

use serde::{Deserialize, Serialize};

use super::{
    BetaSchedule, DdpmLadder, Edm, Process, RectifiedFlow, SubVariancePreserving, VarianceExploding,
    VariancePreserving,
};
use crate::DiffusionError;

/// A process as a model's file names it.
///
/// ```
/// use kiln_diffusion::ProcessConfig;
///
/// let config: ProcessConfig = serde_json::from_str(r#"{"type": "ddpm", "schedule": "cosine"}"#)?;
/// assert_eq!(config.build()?.rungs(), Some(1000));
/// assert!(serde_json::from_str::<ProcessConfig>(r#"{"type": "rectified_flow", "beta": 1}"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProcessConfig {
    /// [`DdpmLadder`].
    Ddpm {
        /// How beta climbs.
        #[serde(default = "linear")]
        schedule: BetaSchedule,
        /// Rungs of the ladder.
        #[serde(default = "thousand")]
        rungs: usize,
    },
    /// [`VariancePreserving`].
    VariancePreserving {
        /// beta at t = 0.
        #[serde(default = "beta_min")]
        beta_min: f64,
        /// beta at t = 1.
        #[serde(default = "beta_max")]
        beta_max: f64,
    },
    /// [`SubVariancePreserving`].
    SubVariancePreserving {
        /// beta at t = 0.
        #[serde(default = "beta_min")]
        beta_min: f64,
        /// beta at t = 1.
        #[serde(default = "beta_max")]
        beta_max: f64,
    },
    /// [`VarianceExploding`].
    VarianceExploding {
        /// sigma at t = 0.
        #[serde(default = "sigma_min")]
        sigma_min: f64,
        /// sigma at t = 1.
        #[serde(default = "sigma_max")]
        sigma_max: f64,
    },
    /// [`RectifiedFlow`].
    RectifiedFlow {},
    /// [`Edm`].
    Edm {
        /// The least noise level.
        #[serde(default = "edm_min")]
        sigma_min: f64,
        /// The greatest.
        #[serde(default = "edm_max")]
        sigma_max: f64,
    },
}

fn edm_min() -> f64 {
    0.002
}

fn edm_max() -> f64 {
    80.0
}

fn linear() -> BetaSchedule {
    BetaSchedule::LINEAR
}

fn thousand() -> usize {
    1000
}

fn beta_min() -> f64 {
    0.1
}

fn beta_max() -> f64 {
    20.0
}

fn sigma_min() -> f64 {
    0.01
}

fn sigma_max() -> f64 {
    50.0
}

impl ProcessConfig {
    /// The process itself.
    ///
    /// # Errors
    /// If a parameter is out of range.
    pub fn build(self) -> Result<Box<dyn Process>, DiffusionError> {
        Ok(match self {
            Self::Ddpm { schedule, rungs } => Box::new(DdpmLadder::new(schedule, rungs)?),
            Self::VariancePreserving { beta_min, beta_max } => {
                Box::new(VariancePreserving::new(beta_min, beta_max)?)
            }
            Self::SubVariancePreserving { beta_min, beta_max } => {
                Box::new(SubVariancePreserving::new(beta_min, beta_max)?)
            }
            Self::VarianceExploding { sigma_min, sigma_max } => {
                Box::new(VarianceExploding::new(sigma_min, sigma_max)?)
            }
            Self::RectifiedFlow {} => Box::new(RectifiedFlow),
            Self::Edm { sigma_min, sigma_max } => Box::new(Edm::new(sigma_min, sigma_max)?),
        })
    }

    /// The process of a name in [`PROCESSES`], with its source's parameters.
    ///
    /// # Errors
    /// If the table has no such name; the message lists those it has.
    pub fn named(name: &str) -> Result<Self, DiffusionError> {
        let entry = PROCESSES.iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.config).ok_or_else(|| DiffusionError::Unknown {
            what: "process",
            name: name.to_owned(),
            known: PROCESSES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
        })
    }
}

/// One row of [`PROCESSES`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessEntry {
    /// The name on a command line.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its source's parameters.
    pub config: ProcessConfig,
}

/// Every process, for help texts, tests and docs.
pub const PROCESSES: &[ProcessEntry] = &[
    ProcessEntry {
        name: "ddpm",
        help: "DDPM's ladder of 1000 levels, beta linear from 1e-4 to 0.02",
        config: ProcessConfig::Ddpm { schedule: BetaSchedule::LINEAR, rungs: 1000 },
    },
    ProcessEntry {
        name: "ddpm-cosine",
        help: "DDPM's ladder of 1000 levels, alpha_bar a squared cosine",
        config: ProcessConfig::Ddpm { schedule: BetaSchedule::Cosine, rungs: 1000 },
    },
    ProcessEntry {
        name: "vp",
        help: "variance preserving in continuous time, beta linear from 0.1 to 20",
        config: ProcessConfig::VariancePreserving { beta_min: 0.1, beta_max: 20.0 },
    },
    ProcessEntry {
        name: "subvp",
        help: "variance preserving with less noise on the way",
        config: ProcessConfig::SubVariancePreserving { beta_min: 0.1, beta_max: 20.0 },
    },
    ProcessEntry {
        name: "ve",
        help: "variance exploding, sigma geometric from 0.01 to 50",
        config: ProcessConfig::VarianceExploding { sigma_min: 0.01, sigma_max: 50.0 },
    },
    ProcessEntry {
        name: "flow",
        help: "rectified flow, straight lines from noise to data",
        config: ProcessConfig::RectifiedFlow {},
    },
    ProcessEntry {
        name: "edm",
        help: "the noise level is the time, from 0.002 to 80",
        config: ProcessConfig::Edm { sigma_min: 0.002, sigma_max: 80.0 },
    },
];
