//! The score equations' own classes: variance exploding by predictor and corrector, variance preserving by Euler and Maruyama.
//!
//! Their networks tell the score (`ScoreSdeVeScheduler`, told sigma) and the noise (`ScoreSdeVpScheduler`, told t times the rungs less one). A run is that of
//! diffusers' pipelines: the last sample is the mean of the last step, without its draw.

use super::common::Result;
use super::fields::{Fields, config};
use super::{Limit, Request, Scaling, Schedule, Told};
use crate::{
    Corrector, DiffusionError, Law, Prediction, Predictor, PredictorCorrector, Process, Sampler,
    SolverConfig, VarianceExploding, VariancePreserving,
};

/// The times of a run, from 1 down to `sampling_eps`.
fn times(steps: usize, end: f64) -> Result<Vec<f64>> {
    if !(0.0..1.0).contains(&end) {
        return Err(config("sampling_eps", format!("is {end}; expected a number from 0 to below 1")));
    }
    if steps < 2 {
        return Err(DiffusionError::Grid {
            problem: "1 step: a score equation takes two or more".to_owned(),
        });
    }
    Ok((0..steps).map(|i| 1.0 + (end - 1.0) * i as f64 / (steps - 1) as f64).collect())
}

pub(super) fn variance_exploding(fields: &Fields, request: &Request) -> Result<Schedule> {
    let (low, high) = (fields.sigma_min.unwrap_or(0.01), fields.sigma_max.unwrap_or(1348.0));
    let process = VarianceExploding::new(low, high)?;
    let end = fields.sampling_eps.unwrap_or(1e-5);
    let rung = |i: usize| 1.0 - i as f64 / (request.steps - 1) as f64;
    // The network is told the level at the class's times, which end just above the rungs that it steps on.
    let told = times(request.steps, end)?;
    let told = told.iter().enumerate().map(|(i, &t)| (rung(i), process.sigma(t))).collect();
    if end * (request.steps - 1) as f64 >= 1.0 {
        let problem = format!("is {end}, which in {} steps is no longer the last rung", request.steps);
        return Err(config("sampling_eps", problem));
    }
    let solver = SolverConfig::PredictorCorrector(PredictorCorrector {
        predictor: Predictor::ReverseDiffusion,
        corrector: Corrector::LangevinOfBatch,
        corrections: fields.correct_steps.unwrap_or(1),
        signal_to_noise: fields.snr.unwrap_or(0.15),
    });
    let rungs: Vec<f64> = (0..request.steps).map(rung).collect();
    Ok(Schedule {
        sampler: Sampler::new(solver, rungs)?,
        process: Box::new(process),
        prediction: Prediction::Score,
        scaling: Scaling::Sample,
        limit: Limit::None,
        told,
        between: Told::OfProcess,
        spacing: None,
    })
}

pub(super) fn variance_preserving(fields: &Fields, request: &Request) -> Result<Schedule> {
    let equation = VariancePreserving::new(fields.beta_min.unwrap_or(0.1), fields.beta_max.unwrap_or(20.0))?;
    let end = fields.sampling_eps.unwrap_or(1e-3);
    if end == 0.0 {
        return Err(config("sampling_eps", "is 0, where the score is infinite"));
    }
    let count = request.steps as f64;
    let last_rung = fields.num_train_timesteps.unwrap_or(2000).saturating_sub(1) as f64;
    let place = |i: usize| 1.0 - i as f64 / count;
    let told = times(request.steps, end)?;
    let told = told.iter().enumerate().map(|(i, t)| (place(i), t * last_rung)).collect();
    let process = Stretched { equation, stretch: count * (1.0 - end) / (count - 1.0) };
    let solver = SolverConfig::PredictorCorrector(PredictorCorrector {
        predictor: Predictor::EulerMaruyama,
        corrector: Corrector::Langevin,
        corrections: 0,
        signal_to_noise: 0.16,
    });
    let places: Vec<f64> = (0..request.steps).map(place).chain([0.0]).collect();
    Ok(Schedule {
        sampler: Sampler::new(solver, places)?,
        process: Box::new(process),
        prediction: Prediction::Noise,
        scaling: Scaling::Sample,
        limit: Limit::None,
        told,
        between: Told::OfProcess,
        spacing: None,
    })
}

/// diffusers asks at n times `(1 - eps) / (n - 1)` apart and steps by `1 / n`. So a place u on the grid of n steps is the equation's time
/// `1 - stretch (1 - u)`, with that time's law, f and g² for a step in u.
#[derive(Debug)]
struct Stretched {
    equation: VariancePreserving,
    stretch: f64,
}

impl Stretched {
    fn time(&self, place: f64) -> f64 {
        1.0 - self.stretch * (1.0 - place)
    }
}

impl Process for Stretched {
    fn law(&self, place: f64) -> Law {
        let t = self.time(place);
        if place <= 0.0 || t <= 0.0 {
            return Law { alpha: 1.0, sigma: 0.0, alpha_dot: 0.0, sigma_dot: 0.0 };
        }
        let law = self.equation.law(t);
        Law { alpha_dot: law.alpha_dot * self.stretch, sigma_dot: law.sigma_dot * self.stretch, ..law }
    }

    fn t_min(&self) -> f64 {
        1.0 - (1.0 - self.equation.t_min()) / self.stretch
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    fn prior_std(&self) -> f64 {
        1.0
    }

    fn network_time(&self, place: f64) -> f64 {
        self.equation.network_time(self.time(place))
    }

    fn drift(&self, place: f64) -> f64 {
        -self.equation.beta(self.time(place)) / 2.0
    }

    fn diffusion_squared(&self, place: f64) -> f64 {
        self.equation.beta(self.time(place))
    }
}
