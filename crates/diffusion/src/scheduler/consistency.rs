//! Consistency models, sampled in a few steps over Karras's levels.

use super::common::Result;
use super::fields::{Fields, config};
use super::on_levels::on_levels;
use super::{Limit, NoiseAfter, Request, Scaling, Schedule};
use crate::{Consistency, DiffusionError, Edm, Prediction, SolverConfig};

pub(super) fn consistency_models(fields: &Fields, request: &Request) -> Result<Schedule> {
    let count = fields.num_train_timesteps.unwrap_or(40);
    if request.steps > count || count < 2 {
        let problem = format!("{} steps, where the network was trained at {count} levels", request.steps);
        return Err(DiffusionError::Grid { problem });
    }
    if fields.s_noise.is_some_and(|factor| factor != 1.0) {
        return Err(config("s_noise", "is not 1, which is not supported"));
    }
    let (min, max) = (fields.sigma_min.unwrap_or(0.002), fields.sigma_max.unwrap_or(80.0));
    let rho = fields.rho.unwrap_or(7.0);
    crate::error::require("rho", "above 0", rho, rho > 0.0)?;
    let stride = count / request.steps;
    let level = |i: usize| {
        let p = (i * stride) as f64 / (count - 1) as f64;
        (max.powf(1.0 / rho) + p * (min.powf(1.0 / rho) - max.powf(1.0 / rho))).powf(rho).clamp(min, max)
    };
    let mut sigmas: Vec<f64> = (0..request.steps).map(level).collect();
    let told = sigmas.iter().map(|sigma| 250.0 * sigma.ln()).collect();
    sigmas.push(min);
    let sigma_data = fields.sigma_data.unwrap_or(0.5);
    crate::error::require("sigma_data", "above 0", sigma_data, sigma_data > 0.0)?;
    let prediction = Prediction::Consistency { sigma_data, sigma_floor: min };
    let solver = SolverConfig::Consistency(Consistency { boundary: None, sigma_floor: min });
    let process = Box::new(Edm::new(min, max)?);
    let mut schedule = on_levels(process, prediction, solver, &sigmas, told, Scaling::Sample)?;
    if fields.clip_denoised.unwrap_or(true) {
        schedule.limit = Limit::Clip { range: 1.0, noise: NoiseAfter::Kept };
    }
    Ok(schedule)
}
