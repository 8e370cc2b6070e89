//! k-diffusion's classes, which step from noise level to noise level.

use super::common::{Defaults, PLAIN, Result, STABLE, Terminal, ladder, limit, prediction};
use super::fields::{Fields, FinalSigma, Interpolation, Spacing, TimestepType};
use super::levels::{self, Rounding};
use super::on_rungs::rungs_of;
use super::{Limit, NoiseAfter, Request, Scaling, Schedule, Told};
use crate::process::ByRatio;
use crate::{
    Clock, FinalOrder, LinearMultistep, Midpoint, Nodes, Prediction, Process, Sampler, SolverConfig,
};

/// A schedule on noise levels, each of which the network knows by a number; the last level is where the run ends.
pub(super) fn on_levels(
    process: Box<dyn Process>,
    prediction: Prediction,
    solver: SolverConfig,
    sigmas: &[f64],
    told: Vec<f64>,
    scaling: Scaling,
) -> Result<Schedule> {
    let time = |sigma: f64| match process.clean_time() {
        Some(clean) if sigma == 0.0 => clean,
        _ => process.time_at_log_snr(-2.0 * sigma.ln()),
    };
    let times: Vec<f64> = sigmas.iter().map(|&sigma| time(sigma)).collect();
    let told = std::iter::zip(times.iter().copied(), told).collect();
    // The last level of a spacing may be the one that the run ends at, but for rounding.
    let step = |pair: &[f64]| {
        let same = (pair[1] - pair[0]).abs() <= 1e-9 * pair[0];
        [pair[0], if same { pair[0] } else { pair[1] }]
    };
    let jumps = times.windows(2).map(step).collect();
    let sampler = Sampler::with_jumps(solver, jumps)?;
    let between = if process.rungs().is_some() { Told::Rung } else { Told::OfProcess };
    Ok(Schedule { process, prediction, sampler, scaling, limit: Limit::None, told, between, spacing: None })
}

/// k-diffusion's samplers on a ladder: rungs may be fractional, levels lie between rungs on a straight line.
pub(super) fn k_diffusion(
    fields: &Fields,
    defaults: &Defaults,
    request: &Request,
    solver: SolverConfig,
) -> Result<Schedule> {
    let ladder = ladder(fields, defaults, Terminal::Almost)?;
    let count = ladder.rungs().unwrap_or(1);
    let table = levels::of_ladder(&ladder);
    let logs: Vec<f64> = table.iter().map(|level| level.ln()).collect();
    let mut told = rungs_of(fields, Spacing::Linspace, request.steps, count, Rounding::Fractional)?;
    let mut sigmas: Vec<f64> = told.iter().map(|&rung| levels::at_rung(&table, rung)).collect();
    let log_linear = fields.interpolation_type == Some(Interpolation::LogLinear);
    // The range that levels are spaced anew in.
    let (min, max) = match log_linear {
        true => (table[0], table[count - 1]),
        false => (sigmas[sigmas.len() - 1], sigmas[0]),
    };
    let last = match fields.final_sigmas_type.unwrap_or_default() {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => table[0],
    };
    if let Some(respaced) = levels::respaced(fields, min, max, request.steps)? {
        sigmas = respaced;
        told = sigmas.iter().map(|&sigma| levels::rung_in(&logs, sigma)).collect();
        sigmas.push(last);
    } else if log_linear {
        sigmas = levels::exponential(table[0], table[count - 1], request.steps + 1);
    } else {
        sigmas.push(last);
    }
    let meaning = prediction(fields)?;
    let process: Box<dyn Process> =
        if fields.timestep_type == Some(TimestepType::Continuous) && meaning == Prediction::V {
            told = sigmas.iter().take(request.steps).map(|sigma| sigma.ln() / 4.0).collect();
            // Its levels may lie beyond the ladder's.
            Box::new(ByRatio { range: [sigmas[request.steps - 1], sigmas[0]] })
        } else {
            Box::new(ladder)
        };
    let mut schedule = on_levels(process, meaning, solver, &sigmas, told, Scaling::NoiseRatio)?;
    schedule.limit = limit(fields, defaults, NoiseAfter::Remade)?;
    Ok(schedule)
}

pub(super) fn euler(fields: &Fields, request: &Request) -> Result<Schedule> {
    k_diffusion(fields, &PLAIN, request, SolverConfig::Euler { clock: Clock::NoiseRatio })
}

pub(super) fn euler_ancestral(fields: &Fields, request: &Request) -> Result<Schedule> {
    k_diffusion(fields, &PLAIN, request, SolverConfig::ddpm())
}

pub(super) fn heun(fields: &Fields, request: &Request) -> Result<Schedule> {
    k_diffusion(fields, &STABLE, request, SolverConfig::Heun { clock: Clock::NoiseRatio })
}

pub(super) fn kdpm2(fields: &Fields, request: &Request) -> Result<Schedule> {
    midpoint(fields, request, 0.0)
}

pub(super) fn kdpm2_ancestral(fields: &Fields, request: &Request) -> Result<Schedule> {
    midpoint(fields, request, 1.0)
}

pub(super) fn midpoint(fields: &Fields, request: &Request, eta: f64) -> Result<Schedule> {
    let mut schedule = k_diffusion(fields, &STABLE, request, SolverConfig::Midpoint(Midpoint { eta }))?;
    if fields.use_karras_sigmas == Some(true) {
        schedule.told.iter_mut().for_each(|(_, rung)| *rung = rung.round_ties_even());
    }
    Ok(schedule)
}

pub(super) fn lms(fields: &Fields, request: &Request) -> Result<Schedule> {
    let rule = LinearMultistep { order: 4, nodes: Nodes::NoiseRatio, final_order: FinalOrder::Kept };
    k_diffusion(fields, &PLAIN, request, SolverConfig::LinearMultistep(rule))
}
