//! Flow matching's classes.

use super::common::{PLAIN, Result, limit};
use super::fields::{Fields, TimeShift, config};
use super::levels;
use super::{NoiseAfter, Request, Scaling, Schedule, Told};
use crate::{Clock, Consistency, Prediction, RectifiedFlow, Sampler, SolverConfig};

/// The levels of flow matching: even, shifted, stretched, or spaced anew.
pub(super) fn flow_levels(fields: &Fields, request: &Request, count: usize) -> Result<Vec<f64>> {
    let shift = fields.shift.unwrap_or(1.0);
    crate::error::require("shift", "above 0", shift, shift > 0.0)?;
    let dynamic = fields.use_dynamic_shifting.unwrap_or(false);
    let moved = |t: f64, shift: f64| shift * t / (1.0 + (shift - 1.0) * t);
    // The range that is spaced evenly is shifted already, as the config's own table of levels is.
    let least = if dynamic { 1.0 / count as f64 } else { moved(1.0 / count as f64, shift) };
    let even = (0..request.steps)
        .map(|i| 1.0 + (least - 1.0) * i as f64 / request.steps.saturating_sub(1).max(1) as f64);
    let mut sigmas: Vec<f64> = if dynamic {
        let mu =
            request.mu.ok_or_else(|| config("use_dynamic_shifting", "needs mu, which the call must give"))?;
        let by = match fields.time_shift_type.unwrap_or_default() {
            TimeShift::Exponential => mu.exp(),
            TimeShift::Linear => mu,
        };
        even.map(|t| moved(t, by)).collect()
    } else {
        even.map(|t| moved(t, shift)).collect()
    };
    if let Some(terminal) = fields.shift_terminal.filter(|terminal| *terminal != 0.0) {
        crate::error::require(
            "shift_terminal",
            "above 0 and below 1",
            terminal,
            0.0 < terminal && terminal < 1.0,
        )?;
        let stretch = (1.0 - sigmas[sigmas.len() - 1]) / (1.0 - terminal);
        sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / stretch);
    }
    let (max, min) = (sigmas[0], sigmas[sigmas.len() - 1]);
    Ok(levels::respaced(fields, min, max, request.steps)?.unwrap_or(sigmas))
}

pub(super) fn on_flow(
    fields: &Fields,
    sigmas: &[f64],
    told: Vec<f64>,
    solver: SolverConfig,
    count: usize,
) -> Result<Schedule> {
    let jumps = sigmas.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    Ok(Schedule {
        process: Box::new(RectifiedFlow),
        prediction: Prediction::Velocity,
        sampler: Sampler::with_jumps(solver, jumps)?,
        scaling: Scaling::Sample,
        limit: limit(fields, &PLAIN, NoiseAfter::Remade)?,
        told: std::iter::zip(sigmas.iter().copied(), told).collect(),
        between: Told::Times(count),
        spacing: None,
    })
}

pub(super) fn flow(fields: &Fields, request: &Request, solver: SolverConfig) -> Result<Schedule> {
    let count = fields.num_train_timesteps.unwrap_or(1000);
    crate::error::require("num_train_timesteps", "at least 1", count as f64, count >= 1)?;
    let mut sigmas = flow_levels(fields, request, count)?;
    // From the data to the noise.
    let inverted = fields.invert_sigmas == Some(true);
    if inverted {
        sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - *sigma);
    }
    let told = sigmas.iter().map(|sigma| sigma * count as f64).collect();
    sigmas.push(if inverted { 1.0 } else { 0.0 });
    on_flow(fields, &sigmas, told, solver, count)
}

pub(super) fn flow_euler(fields: &Fields, request: &Request) -> Result<Schedule> {
    if fields.stochastic_sampling == Some(true) && fields.invert_sigmas == Some(true) {
        return Err(config(
            "invert_sigmas",
            "is true, and so is stochastic_sampling, which would end in noise",
        ));
    }
    let solver = if fields.stochastic_sampling == Some(true) {
        SolverConfig::Consistency(Consistency { boundary: None, sigma_floor: 0.0 })
    } else {
        SolverConfig::Euler { clock: Clock::Time }
    };
    flow(fields, request, solver)
}

pub(super) fn flow_heun(fields: &Fields, request: &Request) -> Result<Schedule> {
    flow(fields, request, SolverConfig::Heun { clock: Clock::Time })
}
