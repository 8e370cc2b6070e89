//! Solvers by name: in a file, on a command line, in a table.

use serde::{Deserialize, Serialize};

use super::{Ancestral, Clock, DpmSolverPlusPlus2M, Euler, Heun, Stepper, start};
use crate::error::require;
use crate::{DiffusionError, Process};

/// A solver with its options, as a file names it.
///
/// ```
/// use kiln_diffusion::{Clock, SolverConfig};
///
/// let config: SolverConfig = serde_json::from_str(r#"{"type": "heun", "clock": "angle"}"#)?;
/// assert_eq!(config, SolverConfig::Heun { clock: Clock::Angle });
/// assert_eq!(SolverConfig::named("ddim")?, SolverConfig::Ancestral { eta: 0.0 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SolverConfig {
    /// [`Ancestral`].
    Ancestral {
        /// 0 for DDIM, 1 for DDPM.
        eta: f64,
    },
    /// [`Euler`].
    Euler {
        /// The variable it steps in.
        #[serde(default)]
        clock: Clock,
    },
    /// [`Heun`].
    Heun {
        /// The variable it steps in.
        #[serde(default)]
        clock: Clock,
    },
    /// [`DpmSolverPlusPlus2M`].
    #[serde(rename = "dpmpp_2m")]
    DpmSolverPlusPlus2M {},
}

impl SolverConfig {
    /// DDPM's ancestral sampling.
    #[must_use]
    pub const fn ddpm() -> Self {
        Self::Ancestral { eta: 1.0 }
    }

    /// DDIM.
    #[must_use]
    pub const fn ddim() -> Self {
        Self::Ancestral { eta: 0.0 }
    }

    /// Euler's rule, in the process's own clock.
    #[must_use]
    pub const fn euler() -> Self {
        Self::Euler { clock: Clock::OfProcess }
    }

    /// Heun's rule, in the process's own clock.
    #[must_use]
    pub const fn heun() -> Self {
        Self::Heun { clock: Clock::OfProcess }
    }

    /// DPM-Solver++(2M).
    #[must_use]
    pub const fn dpmpp_2m() -> Self {
        Self::DpmSolverPlusPlus2M {}
    }

    /// The solver of a name in [`SOLVERS`].
    ///
    /// # Errors
    /// If the table has no such name; the message lists those it has.
    pub fn named(name: &str) -> Result<Self, DiffusionError> {
        let entry = SOLVERS.iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.config).ok_or_else(|| DiffusionError::Unknown {
            what: "solver",
            name: name.to_owned(),
            known: SOLVERS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether the options are in range.
    ///
    /// # Errors
    /// If eta is not in `[0, 1]`.
    pub fn check(self) -> Result<(), DiffusionError> {
        match self {
            Self::Ancestral { eta } => {
                require("eta of the ancestral solver", "from 0 to 1", eta, (0.0..=1.0).contains(&eta))
                    .map(drop)
            }
            Self::Euler { .. } | Self::Heun { .. } | Self::DpmSolverPlusPlus2M {} => Ok(()),
        }
    }

    /// Whether a run can start at t: a clock that shows the noise ratio stands at infinity where alpha is 0.
    pub(crate) fn check_start(self, process: &dyn Process, t: f64) -> Result<(), DiffusionError> {
        let (Self::Euler { clock } | Self::Heun { clock }) = self else { return Ok(()) };
        let clock = if clock == Clock::OfProcess { process.clock() } else { clock };
        if clock == Clock::NoiseRatio && process.alpha(t) == 0.0 {
            let problem =
                format!("at t = {t} the noise ratio is infinite; start later, or step in time or angle");
            return Err(DiffusionError::Grid { problem });
        }
        Ok(())
    }

    /// The solver at the start of a run.
    ///
    /// # Errors
    /// As [`SolverConfig::check`].
    pub fn start<const D: usize>(self) -> Result<Box<dyn Stepper<D>>, DiffusionError> {
        self.check()?;
        Ok(match self {
            Self::Ancestral { eta } => start(Ancestral { eta }, "ancestral"),
            Self::Euler { clock } => start(Euler { clock }, "euler"),
            Self::Heun { clock } => start(Heun { clock }, "heun"),
            Self::DpmSolverPlusPlus2M {} => start(DpmSolverPlusPlus2M, "dpmpp-2m"),
        })
    }
}

/// One row of [`SOLVERS`].
#[derive(Clone, Copy, Debug)]
pub struct SolverEntry {
    /// The name on a command line.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The order of convergence: the error falls as steps^-order (for a solver that draws noise, that of its mean).
    pub order: u32,
    /// Evaluations of the denoiser a step.
    pub evaluations: u32,
    /// The solver with its usual options.
    pub config: SolverConfig,
}

/// Every solver, for help texts, tests and docs.
pub const SOLVERS: &[SolverEntry] = &[
    SolverEntry {
        name: "ddpm",
        help: "ancestral sampling with fresh noise at every step (Ho et al. 2020)",
        order: 1,
        evaluations: 1,
        config: SolverConfig::ddpm(),
    },
    SolverEntry {
        name: "ddim",
        help: "the same without fresh noise (Song et al. 2021)",
        order: 1,
        evaluations: 1,
        config: SolverConfig::ddim(),
    },
    SolverEntry {
        name: "euler",
        help: "Euler's rule for the probability-flow equation",
        order: 1,
        evaluations: 1,
        config: SolverConfig::euler(),
    },
    SolverEntry {
        name: "heun",
        help: "Heun's rule, two evaluations a step (Karras et al. 2022)",
        order: 2,
        evaluations: 2,
        config: SolverConfig::heun(),
    },
    SolverEntry {
        name: "dpmpp-2m",
        help: "DPM-Solver++(2M), a multistep exponential integrator (Lu et al. 2022)",
        order: 2,
        evaluations: 1,
        config: SolverConfig::dpmpp_2m(),
    },
];
