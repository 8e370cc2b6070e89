//! Classes that step from rung to rung of a ladder: DDPM, DDIM, PNDM, LCM, TCD.

use super::common::{DDPM, Defaults, LATENT, PLAIN, Result, Terminal, ladder, limit, prediction};
use super::fields::{Fields, PredictionName, Spacing, VarianceName, config};
use super::levels::{self, Rounding};
use super::{Limit, NoiseAfter, Request, Scaling, Schedule, Told};
use crate::{
    Averaged, Beginning, Boundary, Consistency, DdpmLadder, DiffusionError, Pndm, Process, Sampler,
    SolverConfig, Trajectory, Variance,
};

/// A process, the steps on it, and what the network is told at each.
type Walk = (Box<dyn Process>, Sampler, Vec<(f64, f64)>);

/// A schedule on rungs: `rungs` are those asked at, each step goes to the rung `next` gives.
pub(super) fn on_rungs(
    ladder: DdpmLadder,
    solver: SolverConfig,
    rungs: &[f64],
    next: impl Fn(usize) -> Option<f64>,
    last: f64,
) -> Result<Walk> {
    let count = ladder.rungs().unwrap_or(1) as f64;
    let time = |rung: f64| (rung + 1.0) / count;
    if let Some(rung) = rungs.iter().find(|rung| !(0.0..count).contains(*rung)) {
        return Err(config("steps_offset", format!("leads to rung {rung} of a ladder of {count}")));
    }
    let jumps = rungs.iter().enumerate().map(|(i, &rung)| [time(rung), next(i).map_or(last, time)]).collect();
    let told = rungs.iter().map(|&rung| (time(rung), rung)).collect();
    Ok((Box::new(ladder), Sampler::with_jumps(solver, jumps)?, told))
}

/// The rungs of a run, no more than there are.
pub(super) fn rungs_of(
    fields: &Fields,
    spacing: Spacing,
    steps: usize,
    count: usize,
    rounding: Rounding,
) -> Result<Vec<f64>> {
    rungs_below(fields, spacing, steps, [count, count], rounding)
}

/// The rungs of a run on a ladder of so many, those from the second number on left out.
pub(super) fn rungs_below(
    fields: &Fields,
    spacing: Spacing,
    steps: usize,
    [count, end]: [usize; 2],
    rounding: Rounding,
) -> Result<Vec<f64>> {
    let most = if rounding == Rounding::OneMore && spacing == Spacing::Leading { end - 1 } else { end };
    if steps > most {
        return Err(DiffusionError::Grid { problem: format!("{steps} steps on a ladder of {end} rungs") });
    }
    let spacing = fields.timestep_spacing.unwrap_or(spacing);
    Ok(levels::rungs(spacing, [count, end], steps, fields.steps_offset.unwrap_or(0), rounding))
}

pub(super) fn ddpm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let ladder = ladder(fields, &DDPM, Terminal::Noise)?;
    let variance = match fields.variance_type.unwrap_or(VarianceName::FixedSmall) {
        VarianceName::FixedSmall | VarianceName::FixedSmallLog => Variance::Posterior,
        VarianceName::FixedLarge => Variance::Transition,
        VarianceName::LearnedRange => Variance::Learned,
    };
    let count = ladder.rungs().unwrap_or(1);
    let rungs = rungs_of(fields, Spacing::Leading, request.steps, count, Rounding::Whole)?;
    let solver = SolverConfig::Ancestral { eta: 1.0, variance };
    let (process, sampler, told) = on_rungs(ladder, solver, &rungs, |i| rungs.get(i + 1).copied(), 0.0)?;
    Ok(Schedule {
        process,
        prediction: prediction(fields)?,
        sampler,
        scaling: Scaling::Sample,
        limit: limit(fields, &DDPM, NoiseAfter::Remade)?,
        told,
        between: Told::Rung,
        spacing: None,
    })
}

/// DDIM and PNDM go down by a stride of their own, whatever the next rung is; beyond the first rung lies the data, or the first rung again.
pub(super) fn by_stride(
    fields: &Fields,
    defaults: &Defaults,
    request: &Request,
    solver: SolverConfig,
    to_the_data: bool,
) -> Result<Schedule> {
    let ladder = ladder(fields, defaults, Terminal::Noise)?;
    let count = ladder.rungs().unwrap_or(1);
    let rungs = rungs_of(fields, Spacing::Leading, request.steps, count, Rounding::Whole)?;
    let stride = (count / request.steps) as f64;
    let last = if to_the_data { 0.0 } else { ladder.time(0) };
    let next = |i: usize| Some(rungs[i] - stride).filter(|rung: &f64| *rung >= 0.0);
    let (process, sampler, told) = on_rungs(ladder, solver, &rungs, next, last)?;
    Ok(Schedule {
        process,
        prediction: prediction(fields)?,
        sampler,
        scaling: Scaling::Sample,
        limit: limit(fields, defaults, NoiseAfter::Kept)?,
        told,
        between: Told::Rung,
        spacing: None,
    })
}

pub(super) fn ddim(fields: &Fields, request: &Request) -> Result<Schedule> {
    let solver = SolverConfig::Ancestral { eta: request.eta.unwrap_or(0.0), variance: Variance::Posterior };
    by_stride(fields, &DDPM, request, solver, fields.set_alpha_to_one.unwrap_or(true))
}

/// DDIM from rung to rung upwards: the network is told the rung that a step goes to, as diffusers does.
pub(super) fn ddim_inverse(fields: &Fields, request: &Request) -> Result<Schedule> {
    if fields.timestep_spacing == Some(Spacing::Linspace) {
        return Err(config("timestep_spacing", "is linspace; expected leading or trailing"));
    }
    let ladder = ladder(fields, &DDPM, Terminal::Noise)?;
    let count = ladder.rungs().unwrap_or(1);
    let mut rungs = rungs_of(fields, Spacing::Leading, request.steps, count, Rounding::Whole)?;
    rungs.reverse();
    let stride = (count / request.steps) as f64;
    let time = |rung: f64| (rung + 1.0) / count as f64;
    // Beyond the first rung lies the data, or the first rung once more: a hair's breadth off, as another rung is told there.
    let to_the_data = fields.set_alpha_to_one.unwrap_or(true);
    let beyond = if to_the_data { 0.0 } else { ladder.time(0) * (1.0 - 1e-9) };
    let from = |rung: f64| if rung >= stride { time(rung - stride) } else { beyond };
    let jumps: Vec<_> = rungs.iter().map(|&rung| [from(rung), time(rung)]).collect();
    let told = jumps.iter().zip(&rungs).map(|([from, _], rung)| (*from, *rung)).collect();
    let solver = SolverConfig::Ancestral { eta: 0.0, variance: Variance::Posterior };
    Ok(Schedule {
        process: Box::new(ladder),
        prediction: prediction(fields)?,
        sampler: Sampler::with_jumps(solver, jumps)?,
        scaling: Scaling::Sample,
        limit: limit(fields, &DDPM, NoiseAfter::Kept)?,
        told,
        between: Told::Rung,
        spacing: None,
    })
}

pub(super) fn pndm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let beginning =
        if fields.skip_prk_steps.unwrap_or(false) { Beginning::Improved } else { Beginning::RungeKutta };
    let averaged = match fields.prediction_type.unwrap_or(PredictionName::Epsilon) {
        PredictionName::VPrediction => Averaged::V,
        _ => Averaged::Noise,
    };
    let solver = SolverConfig::Pndm(Pndm { beginning, averaged });
    let count = fields.num_train_timesteps.unwrap_or(1000);
    let spacing = fields.timestep_spacing.unwrap_or(Spacing::Leading);
    // diffusers steps by the stride and asks at the next rung, which are not the same then.
    if spacing != Spacing::Leading && !count.is_multiple_of(request.steps) {
        let problem =
            format!("is {spacing:?}, and {} steps do not divide {count} rungs evenly", request.steps);
        return Err(config("timestep_spacing", problem));
    }
    if spacing == Spacing::Linspace && request.steps > 1 {
        return Err(config(
            "timestep_spacing",
            "is linspace, whose rungs are not the stride apart that PNDM steps by",
        ));
    }
    by_stride(fields, &PLAIN, request, solver, fields.set_alpha_to_one.unwrap_or(false))
}

/// Rungs of the few steps that a distilled network takes: some of those that it was distilled at.
pub(super) fn distilled_rungs(fields: &Fields, request: &Request, count: usize) -> Result<Vec<f64>> {
    let original = fields.original_inference_steps.unwrap_or(50);
    if original == 0 || original > count {
        return Err(config(
            "original_inference_steps",
            format!("is {original} on a ladder of {count} rungs"),
        ));
    }
    if request.steps > original {
        return Err(DiffusionError::Grid {
            problem: format!("{} steps, where the network was distilled at {original}", request.steps),
        });
    }
    let stride = count / original;
    let index = |i: usize| i * original / request.steps;
    Ok((0..request.steps).map(|i| ((original - index(i)) * stride - 1) as f64).collect())
}

pub(super) fn distilled(
    fields: &Fields,
    request: &Request,
    solver: SolverConfig,
    last: impl Fn(&DdpmLadder) -> f64,
) -> Result<Schedule> {
    let ladder = ladder(fields, &LATENT, Terminal::Noise)?;
    let rungs = distilled_rungs(fields, request, ladder.rungs().unwrap_or(1))?;
    let last = last(&ladder);
    let (process, sampler, told) = on_rungs(ladder, solver, &rungs, |i| rungs.get(i + 1).copied(), last)?;
    Ok(Schedule {
        process,
        prediction: prediction(fields)?,
        sampler,
        scaling: Scaling::Sample,
        limit: limit(fields, &LATENT, NoiseAfter::Kept)?,
        told,
        between: Told::Rung,
        spacing: None,
    })
}

pub(super) fn lcm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let timestep_scaling = fields.timestep_scaling.unwrap_or(10.0);
    let boundary = Some(Boundary { sigma_data: 0.5, timestep_scaling });
    distilled(fields, request, SolverConfig::Consistency(Consistency { boundary, sigma_floor: 0.0 }), |_| 0.0)
}

pub(super) fn tcd(fields: &Fields, request: &Request) -> Result<Schedule> {
    let gamma = request.eta.unwrap_or(0.3);
    let solver = SolverConfig::Trajectory(Trajectory { gamma });
    // diffusers' class has the fields of clipping, and does not clip.
    Ok(Schedule { limit: Limit::None, ..distilled(fields, request, solver, |ladder| ladder.time(0))? })
}
