//! The mathematics of diffusion: processes, predictions, denoisers and solvers, with no network in it.
//!
//! Every model of the field turns data into noise by one law of state and back by one equation:
//!
//! ```text
//! x_t   = alpha(t) x_0 + sigma(t) eps,   eps ~ N(0, I)              a Process
//! dx/dt = alpha'(t) x_0_hat + sigma'(t) eps_hat                     what a Solver integrates
//! ```
//!
//! The field's zoo falls out of four small choices, each an axis with a trait or an enum of its own:
//!
//! | axis | is | here |
//! |---|---|---|
//! | [`Process`] | alpha, sigma and their derivatives, on the host in f64 | DDPM's ladder, VP, sub-VP, VE, rectified flow, EDM, a [`LinearSde`] or a [`NonlinearSde`] of one's own |
//! | [`Prediction`] | what a network's output means | noise, sample, v, score, velocity, EDM |
//! | [`Denoiser`] | `(x, t)` to an [`Estimate`] of data and noise | a closure, [`Network`], [`Guided`], [`ClassifierGuided`], [`Clipped`] |
//! | [`Solver`] | one step `t → s` | ancestral (DDPM, DDIM), Euler, Heun, DPM-Solver, UniPC, DEIS, PNDM, ... |
//!
//! A [`Sampler`] joins a solver with a grid of times and gives an iterator of steps; an [`Objective`] is the training side; [`Likelihood`],
//! [`Conditioned`] and [`follow`] are what else a trained model is good for: densities, inverse problems, straighter flows. The serde
//! enums [`ProcessConfig`], [`Prediction`] and [`SolverConfig`] name the choices in files, and the tables [`PROCESSES`] and [`SOLVERS`]
//! feed help texts, tests and docs.
//!
//! ```
//! use burn::tensor::Device;
//! use kiln_backend::noise::NoiseKey;
//! use kiln_diffusion::{GaussianMixture, RectifiedFlow, Sampler, SolverConfig, grid};
//!
//! // Data of which everything is known stands in for a network: 1 and 3, each with a spread of 0.2.
//! let process = RectifiedFlow;
//! let data = GaussianMixture::new(&process, vec![(0.5, 1.0, 0.2), (0.5, 3.0, 0.2)])?;
//! let sampler = Sampler::new(SolverConfig::dpmpp_2m(), grid::uniform(&process, 30)?)?;
//! let samples = sampler.start_keyed(&process, &data, [2000, 1], NoiseKey::new(0), &Device::flex())?.finish();
//! assert!((samples.mean().into_scalar::<f32>() - 2.0).abs() < 0.1);
//! # Ok::<(), kiln_diffusion::DiffusionError>(())
//! ```

pub mod annealing;
mod bits;
mod blend;
mod denoiser;
mod error;
mod gradient;
pub mod grid;
mod inverse;
mod law;
mod likelihood;
mod loss;
mod paused;
mod prediction;
mod probe;
mod process;
mod reflow;
mod sampling;
mod scheduler;
mod solver;

pub use bits::{BitsPerDim, Quantisation};
pub use denoiser::{
    Base, ClassifierGuided, Clipped, Contrast, Denoiser, Dynamic, Estimate, GaussianMixture, Guidance,
    Guided, Interval, Network, Projection,
};
pub use error::DiffusionError;
pub use inverse::{Conditioned, Known};
pub use law::Law;
pub use likelihood::{Divergence, Likelihood, LogDensity};
pub use loss::{
    LearnedVariance, Objective, SlicedScoreMatching, TimeSampling, TrainingPair, Weighting, perturb,
    resolution_shift, variational_bound,
};
pub use paused::{Paused, PausedError};
pub use prediction::Prediction;
pub use probe::Probe;
pub use process::{
    BetaSchedule, DdpmLadder, Edm, LinearSde, NonlinearSde, PROCESSES, Process, ProcessConfig, ProcessEntry,
    RectifiedFlow, SubVariancePreserving, VarianceExploding, VariancePreserving,
};
pub use reflow::{PairCache, PairCacheError, PairPlan, Paths, follow};
pub use sampling::{Draw, Finish, NoiseSource, Sampler, Sampling, Step, keyed_noise};
pub use scheduler::{Limit, NoiseAfter, Request, SCHEDULERS, Scaling, Schedule, with_solver};
pub use solver::{
    Advance, Ancestral, Averaged, Beginning, Block, Boundary, Clock, Consistency, Corrected, Corrector,
    DormandPrince, DpmSolver, Euler, FinalOrder, Heun, History, Integrand, LinearMultistep, Midpoint, Nodes,
    Pace, Pndm, Predictor, PredictorCorrector, SOLVERS, SavedState, SecondOrder, SingleStep, Solver,
    SolverConfig, SolverEntry, SolverKind, SolverState, StepContext, StepFunction, Stepper, StochasticAdams,
    Stochasticity, Tally, Tolerance, Trajectory, UniPc, Variance,
};

/// The README's example, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
