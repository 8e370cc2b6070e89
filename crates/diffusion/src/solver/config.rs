//! Solvers by name: in a file, on a command line, in a table.

use serde::{Deserialize, Serialize};

use super::{
    Ancestral, Clock, Consistency, Corrector, DormandPrince, DpmSolver, Euler, FinalOrder, Heun, Integrand,
    LinearMultistep, Midpoint, Nodes, Pndm, Predictor, PredictorCorrector, SingleStep, Stepper,
    StochasticAdams, Stochasticity, Trajectory, UniPc, Variance, start,
};
use crate::error::require;
use crate::{DiffusionError, Process};

/// A solver with its options, as a file names it.
///
/// ```
/// use kiln_diffusion::{Clock, SolverConfig};
///
/// let config: SolverConfig = serde_json::from_str(r#"{"type": "heun", "clock": "angle"}"#)?;
/// assert_eq!(config, SolverConfig::Heun { clock: Clock::Angle });
/// assert_eq!(SolverConfig::named("ddim")?, SolverConfig::ddim());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SolverConfig {
    /// [`Ancestral`].
    Ancestral {
        /// 0 for DDIM, 1 for DDPM.
        eta: f64,
        /// The variance of what is drawn.
        #[serde(default)]
        variance: Variance,
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
    /// [`Midpoint`].
    Midpoint(Midpoint),
    /// [`DpmSolver`], multistep; without options DPM-Solver++(2M).
    #[serde(alias = "dpmpp_2m")]
    DpmSolver(DpmSolver),
    /// [`SingleStep`].
    SingleStep(SingleStep),
    /// [`UniPc`].
    UniPc(UniPc),
    /// [`StochasticAdams`]: SA-Solver.
    StochasticAdams(StochasticAdams),
    /// [`LinearMultistep`]: LMS and DEIS.
    LinearMultistep(LinearMultistep),
    /// [`Pndm`].
    Pndm(Pndm),
    /// [`Consistency`]: consistency models and LCM.
    Consistency(Consistency),
    /// [`Trajectory`]: TCD.
    Trajectory(Trajectory),
    /// [`DormandPrince`].
    DormandPrince(DormandPrince),
    /// [`PredictorCorrector`]: the reverse stochastic equation.
    PredictorCorrector(PredictorCorrector),
}

impl SolverConfig {
    /// DDPM's ancestral sampling.
    #[must_use]
    pub const fn ddpm() -> Self {
        Self::Ancestral { eta: 1.0, variance: Variance::Posterior }
    }

    /// DDIM.
    #[must_use]
    pub const fn ddim() -> Self {
        Self::Ancestral { eta: 0.0, variance: Variance::Posterior }
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
        Self::DpmSolver(DPMPP_2M)
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
            Self::Ancestral { eta, .. } => share("eta of the ancestral solver", eta),
            Self::Midpoint(Midpoint { eta }) => share("eta of the midpoint solver", eta),
            Self::Trajectory(Trajectory { gamma }) => share("gamma of the trajectory solver", gamma),
            Self::DpmSolver(rule) => {
                order("the order of DPM-Solver", rule.order)?;
                let mixed =
                    rule.integrand == Integrand::Noise && rule.stochasticity == Stochasticity::Stochastic;
                let fits = rule.order <= 2 || !mixed;
                require("the order of DPM-Solver", "1 or 2 for stochastic noise", rule.order as f64, fits)
                    .map(drop)
            }
            Self::SingleStep(SingleStep { rule }) => {
                order("the order of DPM-Solver", rule.order)?;
                let fits = rule.order <= 2 || rule.stochasticity == Stochasticity::Deterministic;
                require("the order of DPM-Solver", "1 or 2 in stochastic blocks", rule.order as f64, fits)
                    .map(drop)
            }
            Self::UniPc(rule) => order("the order of UniPC", rule.order),
            Self::StochasticAdams(rule) => {
                let fits = |order: usize, least: usize| (least..=4).contains(&order);
                let (predictor, corrector) = (rule.predictor_order, rule.corrector_order);
                let what = "the order of SA-Solver's predictor";
                require(what, "from 1 to 4", predictor as f64, fits(predictor, 1))?;
                let what = "the order of SA-Solver's corrector";
                require(what, "from 0 to 4", corrector as f64, fits(corrector, 0))?;
                let fits = rule.tau >= 0.0 && rule.tau.is_finite();
                require("tau of SA-Solver", "a number from 0", rule.tau, fits).map(drop)
            }
            Self::LinearMultistep(rule) => {
                let fits = (1..=8).contains(&rule.order);
                require("the order of the multistep rule", "from 1 to 8", rule.order as f64, fits).map(drop)
            }
            Self::Consistency(Consistency { boundary, sigma_floor }) => {
                require("sigma_floor", "0 or more", sigma_floor, sigma_floor >= 0.0)?;
                let data = boundary.map_or(1.0, |boundary| boundary.sigma_data);
                require("sigma_data of the boundary", "above 0", data, data > 0.0).map(drop)
            }
            Self::PredictorCorrector(PredictorCorrector {
                signal_to_noise, predictor, corrections, ..
            }) => {
                let what = "the signal-to-noise ratio of the corrector";
                require(what, "above 0", signal_to_noise, signal_to_noise > 0.0)?;
                let fits = predictor != Predictor::Identity || corrections > 0;
                let what = "the number of corrections";
                require(what, "at least 1 where nothing else is done", corrections as f64, fits).map(drop)
            }
            Self::DormandPrince(rule) => rule.tolerance.map_or(Ok(()), super::Tolerance::check),
            Self::Euler { .. } | Self::Heun { .. } | Self::Pndm(_) => Ok(()),
        }
    }

    /// Whether a run can start at t: a clock that shows the noise ratio stands at infinity where alpha is 0.
    pub(crate) fn check_start(self, process: &dyn Process, t: f64) -> Result<(), DiffusionError> {
        if let Self::PredictorCorrector(PredictorCorrector { predictor: Predictor::EulerMaruyama, .. }) = self
            && !process.drift(t).is_finite()
        {
            let problem =
                format!("at t = {t} the drift is infinite; start later, or step by reverse diffusion");
            return Err(DiffusionError::Grid { problem });
        }
        if let Self::PredictorCorrector(PredictorCorrector { predictor: Predictor::Identity, .. }) = self
            && process.alpha(t) == 0.0
        {
            let problem = format!("at t = {t} there is no data to anneal towards: alpha is 0; start later");
            return Err(DiffusionError::Grid { problem });
        }
        let (Self::Euler { clock } | Self::Heun { clock } | Self::DormandPrince(DormandPrince { clock, .. })) =
            self
        else {
            return Ok(());
        };
        let clock = if clock == Clock::OfProcess { process.clock() } else { clock };
        if clock == Clock::NoiseRatio && process.alpha(t) == 0.0 {
            let problem =
                format!("at t = {t} the noise ratio is infinite; start later, or step in time or angle");
            return Err(DiffusionError::Grid { problem });
        }
        Ok(())
    }

    /// Whether samples are corrected at each level, before or without a step to the next.
    pub(crate) const fn corrects(self) -> bool {
        matches!(self, Self::PredictorCorrector(PredictorCorrector { corrections: 1.., .. }))
    }

    /// The solver at the start of a run.
    ///
    /// # Errors
    /// As [`SolverConfig::check`].
    pub fn start<const D: usize>(self) -> Result<Box<dyn Stepper<D>>, DiffusionError> {
        self.check()?;
        Ok(match self {
            Self::Ancestral { eta, variance } => start(Ancestral { eta, variance }, "ancestral"),
            Self::Euler { clock } => start(Euler { clock }, "euler"),
            Self::Heun { clock } => start(Heun { clock }, "heun"),
            Self::Midpoint(rule) => start(rule, "midpoint"),
            Self::DpmSolver(rule) => start(rule, "DPM-Solver"),
            Self::SingleStep(rule) => start(rule, "singlestep DPM-Solver"),
            Self::UniPc(rule) => start(rule, "UniPC"),
            Self::StochasticAdams(rule) => start(rule, "SA-Solver"),
            Self::LinearMultistep(rule) => start(rule, "the linear multistep rule"),
            Self::Pndm(rule) => start(rule, "PNDM"),
            Self::Consistency(rule) => start(rule, "consistency"),
            Self::Trajectory(rule) => start(rule, "trajectory"),
            Self::DormandPrince(rule) => start(rule, "Dormand and Prince's rule"),
            Self::PredictorCorrector(rule) => start(rule, "predictor and corrector"),
        })
    }
}

fn share(what: &'static str, value: f64) -> Result<(), DiffusionError> {
    require(what, "from 0 to 1", value, (0.0..=1.0).contains(&value)).map(drop)
}

fn order(what: &'static str, value: usize) -> Result<(), DiffusionError> {
    require(what, "from 1 to 3", value as f64, (1..=3).contains(&value)).map(drop)
}

const DPMPP_2M: DpmSolver = DpmSolver {
    order: 2,
    integrand: Integrand::Data,
    second_order: super::SecondOrder::Midpoint,
    stochasticity: Stochasticity::Deterministic,
    final_order: FinalOrder::Kept,
};

/// What a solver solves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolverKind {
    /// The probability-flow equation: a start has one end.
    Deterministic,
    /// The reverse stochastic equation: noise is drawn at every step.
    Stochastic,
    /// Neither: it needs a network that was trained to go to the data in one step.
    Consistency,
}

/// One row of [`SOLVERS`].
#[derive(Clone, Copy, Debug)]
pub struct SolverEntry {
    /// The name on a command line.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What it solves.
    pub kind: SolverKind,
    /// The order of convergence: the error falls as steps^-order (for a solver that draws noise, that of its mean).
    pub order: u32,
    /// Evaluations of the denoiser a step, but for the steps that a solver begins or ends with.
    pub evaluations: u32,
    /// The solver with its usual options.
    pub config: SolverConfig,
}

/// Every solver, for help texts, tests and docs.
pub const SOLVERS: &[SolverEntry] = &[
    entry(
        "ddpm",
        1,
        1,
        SolverConfig::ddpm(),
        "ancestral sampling with fresh noise at every step (Ho et al. 2020)",
    ),
    entry("ddim", 1, 1, SolverConfig::ddim(), "the same without fresh noise (Song et al. 2021)"),
    entry("euler", 1, 1, SolverConfig::euler(), "Euler's rule for the probability-flow equation"),
    entry("heun", 2, 2, SolverConfig::heun(), "Heun's rule, two evaluations a step (Karras et al. 2022)"),
    entry(
        "dpm2",
        2,
        2,
        SolverConfig::Midpoint(Midpoint { eta: 0.0 }),
        "the midpoint rule in the noise ratio",
    ),
    entry(
        "dpm2-ancestral",
        1,
        2,
        SolverConfig::Midpoint(Midpoint { eta: 1.0 }),
        "the midpoint rule with fresh noise at every step",
    ),
    entry(
        "dpmpp-2m",
        2,
        1,
        SolverConfig::dpmpp_2m(),
        "DPM-Solver++(2M), a multistep exponential integrator (Lu et al. 2022)",
    ),
    entry(
        "dpmpp-3m",
        2,
        1,
        SolverConfig::DpmSolver(DpmSolver { order: 3, ..DPMPP_2M }),
        "DPM-Solver++(3M), with a memory of two steps",
    ),
    entry(
        "dpmpp-2m-sde",
        1,
        1,
        SolverConfig::DpmSolver(DpmSolver { stochasticity: Stochasticity::Stochastic, ..DPMPP_2M }),
        "DPM-Solver++(2M) for the stochastic equation",
    ),
    entry(
        "dpmpp-2s",
        2,
        1,
        SolverConfig::SingleStep(SingleStep { rule: DPMPP_2M }),
        "DPM-Solver++(2S), in blocks of two evaluations",
    ),
    entry(
        "unipc",
        3,
        1,
        SolverConfig::UniPc(UniPc {
            order: 2,
            integrand: Integrand::Data,
            step_function: super::StepFunction::Bh2,
            uncorrected: 0,
            final_order: FinalOrder::Kept,
        }),
        "UniPC, predictor and corrector (Zhao et al. 2023)",
    ),
    entry(
        "sa-solver",
        1,
        1,
        SolverConfig::StochasticAdams(StochasticAdams::DEFAULT),
        "SA-Solver, stochastic Adams predictor and corrector (Xue et al. 2023)",
    ),
    entry(
        "deis",
        3,
        1,
        SolverConfig::LinearMultistep(LinearMultistep {
            order: 3,
            nodes: Nodes::LogNoiseRatio,
            final_order: FinalOrder::Kept,
        }),
        "DEIS, multistep in the logarithm of the noise ratio (Zhang, Chen 2023)",
    ),
    entry(
        "lms",
        4,
        1,
        SolverConfig::LinearMultistep(LinearMultistep {
            order: 4,
            nodes: Nodes::NoiseRatio,
            final_order: FinalOrder::Kept,
        }),
        "Adams and Bashforth's rule in the noise ratio",
    ),
    entry(
        "pndm",
        2,
        1,
        SolverConfig::Pndm(Pndm {
            beginning: super::Beginning::RungeKutta,
            averaged: super::Averaged::Noise,
        }),
        "PNDM: DDIM's step with the noise of several steps (Liu et al. 2022)",
    ),
    entry(
        "pc",
        1,
        2,
        SolverConfig::PredictorCorrector(PredictorCorrector {
            predictor: Predictor::ReverseDiffusion,
            corrector: Corrector::Langevin,
            corrections: 1,
            signal_to_noise: 0.16,
        }),
        "predictor and corrector: reverse diffusion after one step of Langevin's dynamics (Song et al. 2021)",
    ),
    entry(
        "langevin",
        1,
        5,
        // `PredictorCorrector::annealed_langevin(5, 0.062)`: NCSNv2's epsilon for CIFAR-10.
        SolverConfig::PredictorCorrector(PredictorCorrector {
            predictor: Predictor::Identity,
            corrector: Corrector::Annealed,
            corrections: 5,
            signal_to_noise: 0.1245,
        }),
        "annealed Langevin dynamics, five steps at each level of noise (Song, Ermon 2019, 2020)",
    ),
    entry(
        "dopri5",
        5,
        6,
        SolverConfig::DormandPrince(DormandPrince {
            clock: Clock::OfProcess,
            tolerance: Some(super::Tolerance::of(1e-5)),
        }),
        "Dormand and Prince's rule; each sample takes the steps that its error asks for, between those of the grid",
    ),
    entry(
        "lcm",
        1,
        1,
        SolverConfig::Consistency(Consistency {
            boundary: Some(super::Boundary { sigma_data: 0.5, timestep_scaling: 10.0 }),
            sigma_floor: 0.0,
        }),
        "for networks distilled to go to the data in a few steps (Luo et al. 2023)",
    ),
    entry(
        "tcd",
        1,
        1,
        SolverConfig::Trajectory(Trajectory { gamma: 0.3 }),
        "for networks distilled along trajectories (Zheng et al. 2024)",
    ),
    entry(
        "consistency",
        1,
        1,
        SolverConfig::Consistency(Consistency { boundary: None, sigma_floor: 0.0 }),
        "for consistency models: to the data, then back to less noise (Song et al. 2023)",
    ),
];

const fn entry(
    name: &'static str,
    order: u32,
    evaluations: u32,
    config: SolverConfig,
    help: &'static str,
) -> SolverEntry {
    let kind = match config {
        SolverConfig::Ancestral { eta, .. } | SolverConfig::Midpoint(Midpoint { eta }) if eta > 0.0 => {
            SolverKind::Stochastic
        }
        SolverConfig::DpmSolver(DpmSolver { stochasticity: Stochasticity::Stochastic, .. }) => {
            SolverKind::Stochastic
        }
        SolverConfig::PredictorCorrector(_) => SolverKind::Stochastic,
        SolverConfig::StochasticAdams(StochasticAdams { tau, .. }) if tau > 0.0 => SolverKind::Stochastic,
        SolverConfig::Consistency(_) | SolverConfig::Trajectory(_) => SolverKind::Consistency,
        _ => SolverKind::Deterministic,
    };
    SolverEntry { name, help, kind, order, evaluations, config }
}
