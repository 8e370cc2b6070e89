//! diffusers' `scheduler_config.json`, read as what it stands for here.
//!
//! A scheduler there is a process, a prediction, a solver, a grid and some clipping in one class. [`Schedule::read`] takes them apart:
//!
//! | class | solver | grid |
//! |---|---|---|
//! | `DDPMScheduler`, `DDIMScheduler` | [`Ancestral`](crate::Ancestral), eta 1 or 0 | rungs of the ladder |
//! | `DDIMInverseScheduler` | the same, eta 0 | rungs, upwards |
//! | `PNDMScheduler` | [`Pndm`](crate::Pndm) | rungs |
//! | `IPNDMScheduler` | the same | even in t |
//! | `EulerDiscreteScheduler`, `EDMEulerScheduler`, `FlowMatchEulerDiscreteScheduler` | [`Euler`](crate::Euler) | noise levels |
//! | `EulerAncestralDiscreteScheduler` | [`Ancestral`](crate::Ancestral), eta 1: the same rule | noise levels |
//! | `HeunDiscreteScheduler`, `FlowMatchHeunDiscreteScheduler` | [`Heun`](crate::Heun) | noise levels |
//! | `KDPM2DiscreteScheduler`, `KDPM2AncestralDiscreteScheduler` | [`Midpoint`](crate::Midpoint) | noise levels |
//! | `LMSDiscreteScheduler`, `DEISMultistepScheduler` | [`LinearMultistep`](crate::LinearMultistep) | noise levels |
//! | `DPMSolverMultistepScheduler`, `EDMDPMSolverMultistepScheduler` | [`DpmSolver`](crate::DpmSolver) | noise levels |
//! | `DPMSolverSinglestepScheduler` | [`SingleStep`](crate::SingleStep) | noise levels |
//! | `UniPCMultistepScheduler` | [`UniPc`](crate::UniPc) | noise levels |
//! | `SASolverScheduler` | [`StochasticAdams`](crate::StochasticAdams) | noise levels |
//! | `LCMScheduler`, `TCDScheduler` | [`Consistency`](crate::Consistency), [`Trajectory`](crate::Trajectory) | rungs |
//! | `CMStochasticIterativeScheduler` | [`Consistency`](crate::Consistency) | noise levels |
//! | `ScoreSdeVeScheduler`, `ScoreSdeVpScheduler` | [`PredictorCorrector`](crate::PredictorCorrector) | even in t |
//!
//! Half of these classes keep samples as `x / alpha` (k-diffusion's variables), half as x: [`Schedule::scaling`] says which, for whoever has to
//! exchange samples with them. The arithmetic here is in x throughout.

mod build;
mod common;
mod consistency;
mod fields;
mod flow;
mod integrators;
mod ipndm;
mod levels;
mod named;
mod on_levels;
mod on_rungs;
mod score_sde;

use crate::{Denoiser, DiffusionError, Dynamic, Prediction, Process, Sampler};

pub use build::SCHEDULERS;
pub use named::with_solver;

/// A scheduler's config with a number of steps: everything that sampling needs beside the network.
#[derive(Debug)]
pub struct Schedule {
    /// The law of state.
    pub process: Box<dyn Process>,
    /// What the network's output means.
    pub prediction: Prediction,
    /// The solver on its grid.
    pub sampler: Sampler,
    /// The variables that diffusers keeps samples in.
    pub scaling: Scaling,
    /// What becomes of the data estimate.
    pub limit: Limit,
    /// The times of the grid at which the network is asked, with what it is told there.
    pub(crate) told: Vec<(f64, f64)>,
    pub(crate) between: Told,
    spacing: Option<fields::Spacing>,
}

/// The variables that samples are exchanged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// x itself.
    Sample,
    /// x / alpha.
    NoiseRatio,
}

/// What becomes of the data estimate before it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Nothing.
    None,
    /// Clamped to `[-range, range]`.
    Clip {
        /// The bound.
        range: f64,
        /// What the noise estimate is then.
        noise: NoiseAfter,
    },
    /// Clamped to a quantile of its own, and divided by it.
    Threshold(Dynamic, NoiseAfter),
}

/// The noise estimate after the data was clipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseAfter {
    /// Made again, so that both still make up x.
    Remade,
    /// As the network gave it.
    Kept,
}

/// What a network is told at times that are not on the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The rung, between two rungs by the logarithm of the noise ratio.
    Rung,
    /// The process's own number.
    OfProcess,
    /// t times this many.
    Times(usize),
}

impl Schedule {
    /// Reads a `scheduler_config.json` for a run of `steps` steps.
    ///
    /// # Errors
    /// [`DiffusionError::Config`] with the field that can't be read, is out of range, or asks for what is not computed here.
    pub fn read(text: &str, steps: usize) -> Result<Self, DiffusionError> {
        build::read(text, &Request { steps, ..Request::default() })
    }

    /// The class that a config names.
    ///
    /// # Errors
    /// If the text is no JSON object.
    pub fn class(text: &str) -> Result<String, DiffusionError> {
        fields::parse::<fields::Fields>(text).map(|fields| fields.class)
    }

    /// As [`Schedule::read`], with what a call may add.
    ///
    /// # Errors
    /// As [`Schedule::read`].
    pub fn read_with(text: &str, request: &Request) -> Result<Self, DiffusionError> {
        build::read(text, request)
    }

    /// The standard deviation of x that a run starts from: diffusers' `init_noise_sigma`, in x. It is that of x at the first time, or, where
    /// k-diffusion's grids reach the last rung, of its noise alone.
    #[must_use]
    pub fn starting_std(&self) -> f64 {
        let law = self.process.law(self.sampler.steps()[0][0]);
        match (self.scaling, self.prediction) {
            (Scaling::Sample, Prediction::Score | Prediction::Consistency { .. }) => law.sigma,
            (Scaling::NoiseRatio, _) if self.spacing != Some(fields::Spacing::Leading) => law.sigma,
            (Scaling::NoiseRatio, _)
            | (Scaling::Sample, Prediction::Edm { .. } | Prediction::EdmV { .. }) => {
                law.alpha.hypot(law.sigma)
            }
            (Scaling::Sample, _) => 1.0,
        }
    }

    /// The same run without its first `count` steps, as when it sets out from a picture.
    ///
    /// # Errors
    /// If no step would be left.
    pub fn skipping(mut self, count: usize) -> Result<Self, DiffusionError> {
        self.sampler = self.sampler.skipping(count)?;
        Ok(self)
    }

    /// What the network is told at t.
    #[must_use]
    pub fn network_time(&self, t: f64) -> f64 {
        if let Some((_, told)) = self.told.iter().find(|(time, _)| (time - t).abs() <= 1e-12 * t.abs()) {
            return *told;
        }
        match self.between {
            Told::OfProcess => self.process.network_time(t),
            Told::Times(count) => t * count as f64,
            Told::Rung => levels::rung_of(&*self.process, self.process.law(t).noise_ratio()),
        }
    }

    /// The time whose level diffusers means by `timestep`: that at which the network is told it on the grid, or any place on a ladder.
    #[must_use]
    pub fn time_told(&self, timestep: f64) -> Option<f64> {
        let near = |told: f64| (told - timestep).abs() <= 1e-4 * timestep.abs().max(1e-3);
        let goes_down = self.sampler.steps().iter().any(|[t, s]| s <= t);
        // Upwards, a step is told the rung that it goes to.
        if let Some((time, _)) = self.told.iter().find(|(_, told)| goes_down && near(*told)) {
            return Some(*time);
        }
        let rungs = self.process.rungs()? as f64;
        (0.0..rungs).contains(&timestep).then_some((timestep + 1.0) / rungs)
    }

    /// A closure around a network, `(input [batch, ...], time) → output [batch, ...]`, as the denoiser that this schedule means: the time is told and the
    /// input scaled as diffusers does, the output read, and the data estimate limited.
    pub fn denoiser<'a, const D: usize, F>(&'a self, forward: F) -> impl Denoiser<D> + 'a
    where
        F: Fn(burn::tensor::Tensor<D>, f64) -> burn::tensor::Tensor<D> + 'a,
    {
        build::Scheduled { schedule: self, forward }
    }
}

/// What a call adds to a config.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Steps, from 1.
    pub steps: usize,
    /// DDIM's eta, in `[0, 1]`, or TCD's gamma; `None` for the default (0 and 0.3).
    pub eta: Option<f64>,
    /// The logarithm of the shift, where the config says `use_dynamic_shifting`.
    pub mu: Option<f64>,
}

impl Default for Request {
    fn default() -> Self {
        Self { steps: 50, eta: None, mu: None }
    }
}
