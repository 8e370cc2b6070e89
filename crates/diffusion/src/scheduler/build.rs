//! From the fields of a config to process, prediction, solver and grid.

use burn::tensor::Tensor;

use super::fields::{
    Algorithm, BetaName, Fields, FinalSigma, Interpolation, PredictionName, SigmaSchedule, SolverType,
    Spacing, TimeShift, TimestepType, VarianceName, config, parse,
};
use super::levels::{self, Rounding};
use super::{Limit, NoiseAfter, Request, Scaling, Schedule, Told};
use crate::blend::scale;
use crate::process::ByRatio;
use crate::{
    Averaged, Beginning, BetaSchedule, Boundary, Clock, Consistency, DdpmLadder, Denoiser, DiffusionError,
    DpmSolver, Dynamic, Edm, Estimate, FinalOrder, Integrand, LinearMultistep, Midpoint, Nodes, Pndm,
    Prediction, Process, RectifiedFlow, Sampler, SecondOrder, SingleStep, SolverConfig, StepFunction,
    Stochasticity, Trajectory, UniPc, Variance,
};

type Result<T> = std::result::Result<T, DiffusionError>;

/// The classes that are read, each with what reads it.
pub const SCHEDULERS: &[(&str, Reader)] = &[
    ("DDPMScheduler", Reader(ddpm)),
    ("DDIMScheduler", Reader(ddim)),
    ("PNDMScheduler", Reader(pndm)),
    ("LCMScheduler", Reader(lcm)),
    ("TCDScheduler", Reader(tcd)),
    ("EulerDiscreteScheduler", Reader(euler)),
    ("EulerAncestralDiscreteScheduler", Reader(euler_ancestral)),
    ("HeunDiscreteScheduler", Reader(heun)),
    ("KDPM2DiscreteScheduler", Reader(kdpm2)),
    ("KDPM2AncestralDiscreteScheduler", Reader(kdpm2_ancestral)),
    ("LMSDiscreteScheduler", Reader(lms)),
    ("DPMSolverMultistepScheduler", Reader(dpm_multistep)),
    ("DPMSolverSinglestepScheduler", Reader(dpm_singlestep)),
    ("DEISMultistepScheduler", Reader(deis)),
    ("UniPCMultistepScheduler", Reader(unipc)),
    ("EDMEulerScheduler", Reader(edm_euler)),
    ("EDMDPMSolverMultistepScheduler", Reader(edm_dpm)),
    ("FlowMatchEulerDiscreteScheduler", Reader(flow_euler)),
    ("FlowMatchHeunDiscreteScheduler", Reader(flow_heun)),
];

/// What reads a class.
#[derive(Clone, Copy, Debug)]
pub struct Reader(fn(&Fields, &Request) -> Result<Schedule>);

pub(super) fn read(text: &str, request: &Request) -> Result<Schedule> {
    let fields: Fields = parse(text)?;
    crate::error::require("the number of steps", "at least 1", request.steps as f64, request.steps >= 1)?;
    if let Some(eta) = request.eta {
        crate::error::require("eta", "from 0 to 1", eta, (0.0..=1.0).contains(&eta))?;
    }
    let Some((_, reader)) = SCHEDULERS.iter().find(|(class, _)| *class == fields.class) else {
        return Err(DiffusionError::Unknown {
            what: "scheduler",
            name: fields.class,
            known: SCHEDULERS.iter().map(|(class, _)| *class).collect::<Vec<_>>().join(", "),
        });
    };
    (reader.0)(&fields, request)
}

/// Defaults that differ between classes.
struct Defaults {
    betas: (f64, f64, BetaName),
    clip: bool,
}

const DDPM: Defaults = Defaults { betas: (1e-4, 0.02, BetaName::Linear), clip: true };
const PLAIN: Defaults = Defaults { clip: false, ..DDPM };
const STABLE: Defaults = Defaults { betas: (0.000_85, 0.012, BetaName::Linear), clip: false };
const LATENT: Defaults = Defaults { betas: (0.000_85, 0.012, BetaName::ScaledLinear), clip: false };

/// Where a variance-preserving ladder whose last rung is pure noise ends, in alpha_bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terminal {
    /// At 0.
    Noise,
    /// Just above: the noise ratio must stay finite.
    Almost,
}

fn ladder(fields: &Fields, defaults: &Defaults, terminal: Terminal) -> Result<DdpmLadder> {
    let count = fields.num_train_timesteps.unwrap_or(1000);
    if !(2..=1_000_000).contains(&count) {
        return Err(config("num_train_timesteps", format!("is {count}; expected from 2 to 1,000,000")));
    }
    let (start, end, name) = defaults.betas;
    let (beta_start, beta_end) = (fields.beta_start.unwrap_or(start), fields.beta_end.unwrap_or(end));
    let betas = match &fields.trained_betas {
        Some(betas) if betas.len() != count => {
            return Err(config("trained_betas", format!("has {} entries for {count} rungs", betas.len())));
        }
        Some(betas) => betas.clone(),
        None => match fields.beta_schedule.unwrap_or(name) {
            BetaName::Linear => BetaSchedule::Linear { beta_start, beta_end },
            BetaName::ScaledLinear => BetaSchedule::ScaledLinear { beta_start, beta_end },
            BetaName::Cosine => BetaSchedule::Cosine,
            BetaName::Sigmoid => BetaSchedule::Sigmoid { beta_start, beta_end },
        }
        .betas(count),
    };
    let ladder = DdpmLadder::from_betas(&betas)?;
    Ok(match (fields.rescale_betas_zero_snr.unwrap_or(false), terminal) {
        (false, _) => ladder,
        (true, Terminal::Noise) => ladder.with_zero_terminal_snr(0.0),
        (true, Terminal::Almost) => ladder.with_zero_terminal_snr(2.0_f64.powi(-24)),
    })
}

fn prediction(fields: &Fields) -> Result<Prediction> {
    Ok(match fields.prediction_type.unwrap_or(PredictionName::Epsilon) {
        PredictionName::Epsilon => Prediction::Noise,
        PredictionName::Sample => Prediction::Sample,
        PredictionName::VPrediction => Prediction::V,
        PredictionName::FlowPrediction if fields.use_flow_sigmas == Some(true) => Prediction::Velocity,
        PredictionName::FlowPrediction => {
            return Err(config("prediction_type", "is flow_prediction, which needs use_flow_sigmas"));
        }
    })
}

fn limit(fields: &Fields, defaults: &Defaults, noise: NoiseAfter) -> Result<Limit> {
    if fields.thresholding.unwrap_or(false) {
        let ratio = fields.dynamic_thresholding_ratio.unwrap_or(0.995);
        return Ok(Limit::Threshold(Dynamic::new(ratio, fields.sample_max_value.unwrap_or(1.0))?, noise));
    }
    let range = fields.clip_sample_range.unwrap_or(1.0);
    if !(range > 0.0 && range.is_finite()) {
        return Err(config("clip_sample_range", format!("is {range}; expected a number above 0")));
    }
    Ok(if fields.clip_sample.unwrap_or(defaults.clip) { Limit::Clip { range, noise } } else { Limit::None })
}

/// A schedule on rungs: `rungs` are those asked at, each step goes to the rung `next` gives.
fn on_rungs(
    ladder: DdpmLadder,
    solver: SolverConfig,
    rungs: &[f64],
    next: impl Fn(usize) -> Option<f64>,
    last: f64,
) -> Result<(Box<dyn Process>, Sampler, Vec<(f64, f64)>)> {
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
fn rungs_of(
    fields: &Fields,
    spacing: Spacing,
    steps: usize,
    count: usize,
    rounding: Rounding,
) -> Result<Vec<f64>> {
    let most = if rounding == Rounding::OneMore && spacing == Spacing::Leading { count - 1 } else { count };
    if steps > most {
        return Err(DiffusionError::Grid { problem: format!("{steps} steps on a ladder of {count} rungs") });
    }
    let spacing = fields.timestep_spacing.unwrap_or(spacing);
    Ok(levels::rungs(spacing, count, steps, fields.steps_offset.unwrap_or(0), rounding))
}

fn ddpm(fields: &Fields, request: &Request) -> Result<Schedule> {
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
    })
}

/// DDIM and PNDM go down by a stride of their own, whatever the next rung is; beyond the first rung lies the data, or the first rung again.
fn by_stride(
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
    })
}

fn ddim(fields: &Fields, request: &Request) -> Result<Schedule> {
    let solver = SolverConfig::Ancestral { eta: request.eta.unwrap_or(0.0), variance: Variance::Posterior };
    by_stride(fields, &DDPM, request, solver, fields.set_alpha_to_one.unwrap_or(true))
}

fn pndm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let beginning =
        if fields.skip_prk_steps.unwrap_or(false) { Beginning::Improved } else { Beginning::RungeKutta };
    let averaged = match fields.prediction_type.unwrap_or(PredictionName::Epsilon) {
        PredictionName::VPrediction => Averaged::V,
        _ => Averaged::Noise,
    };
    let solver = SolverConfig::Pndm(Pndm { beginning, averaged });
    by_stride(fields, &PLAIN, request, solver, fields.set_alpha_to_one.unwrap_or(false))
}

/// Rungs of the few steps that a distilled network takes: some of those that it was distilled at.
fn distilled_rungs(fields: &Fields, request: &Request, count: usize) -> Result<Vec<f64>> {
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

fn distilled(
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
    })
}

fn lcm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let timestep_scaling = fields.timestep_scaling.unwrap_or(10.0);
    let boundary = Some(Boundary { sigma_data: 0.5, timestep_scaling });
    distilled(fields, request, SolverConfig::Consistency(Consistency { boundary, sigma_floor: 0.0 }), |_| 0.0)
}

fn tcd(fields: &Fields, request: &Request) -> Result<Schedule> {
    let gamma = request.eta.unwrap_or(0.3);
    distilled(fields, request, SolverConfig::Trajectory(Trajectory { gamma }), |ladder| ladder.time(0))
}

/// A schedule on noise levels, each of which the network knows by a number; the last level is where the run ends.
fn on_levels(
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
    let jumps = times.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    let sampler = Sampler::with_jumps(solver, jumps)?;
    let between = if process.rungs().is_some() { Told::Rung } else { Told::OfProcess };
    Ok(Schedule { process, prediction, sampler, scaling, limit: Limit::None, told, between })
}

/// k-diffusion's samplers on a ladder: rungs may be fractional, levels lie between rungs on a straight line.
fn k_diffusion(
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
    let (min, max) = (sigmas[sigmas.len() - 1], sigmas[0]);
    let last = match fields.final_sigmas_type.unwrap_or_default() {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => table[0],
    };
    if let Some(respaced) = levels::respaced(fields, min, max, request.steps)? {
        sigmas = respaced;
        told = sigmas.iter().map(|&sigma| levels::rung_in(&logs, sigma)).collect();
        sigmas.push(last);
    } else if fields.interpolation_type == Some(Interpolation::LogLinear) {
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

fn euler(fields: &Fields, request: &Request) -> Result<Schedule> {
    k_diffusion(fields, &PLAIN, request, SolverConfig::Euler { clock: Clock::NoiseRatio })
}

fn euler_ancestral(fields: &Fields, request: &Request) -> Result<Schedule> {
    k_diffusion(fields, &PLAIN, request, SolverConfig::ddpm())
}

fn heun(fields: &Fields, request: &Request) -> Result<Schedule> {
    k_diffusion(fields, &STABLE, request, SolverConfig::Heun { clock: Clock::NoiseRatio })
}

fn kdpm2(fields: &Fields, request: &Request) -> Result<Schedule> {
    midpoint(fields, request, 0.0)
}

fn kdpm2_ancestral(fields: &Fields, request: &Request) -> Result<Schedule> {
    midpoint(fields, request, 1.0)
}

fn midpoint(fields: &Fields, request: &Request, eta: f64) -> Result<Schedule> {
    let mut schedule = k_diffusion(fields, &STABLE, request, SolverConfig::Midpoint(Midpoint { eta }))?;
    if fields.use_karras_sigmas == Some(true) {
        schedule.told.iter_mut().for_each(|(_, rung)| *rung = rung.round_ties_even());
    }
    Ok(schedule)
}

fn lms(fields: &Fields, request: &Request) -> Result<Schedule> {
    let rule = LinearMultistep { order: 4, nodes: Nodes::NoiseRatio, final_order: FinalOrder::Kept };
    k_diffusion(fields, &PLAIN, request, SolverConfig::LinearMultistep(rule))
}

/// Whether levels from Karras's formula (and its kin) are told as whole rungs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldRungs {
    Whole,
    WholeButForCosine,
}

/// Where a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastLevel {
    /// As `final_sigmas_type` says.
    AsAsked,
    /// At the ladder's least level: its logarithm is needed.
    Least,
}

/// The exponential integrators: whole rungs from a grid with one more, or levels spaced anew over the whole ladder.
fn integrator(
    fields: &Fields,
    request: &Request,
    spacing: Option<Spacing>,
    told_rungs: ToldRungs,
    last: LastLevel,
    solver: SolverConfig,
) -> Result<Schedule> {
    let steps = request.steps;
    if fields.use_flow_sigmas == Some(true) {
        return flow_integrator(fields, request, solver);
    }
    if fields.lambda_min_clipped.is_some() {
        return Err(config("lambda_min_clipped", "is a number; only -Infinity is supported"));
    }
    if fields.use_lu_lambdas == Some(true) {
        return Err(config("use_lu_lambdas", "is true, which is not supported"));
    }
    let ladder = ladder(fields, &PLAIN, Terminal::Almost)?;
    let count = ladder.rungs().unwrap_or(1);
    let table = levels::of_ladder(&ladder);
    let logs: Vec<f64> = table.iter().map(|&level| f64::from((level as f32).ln())).collect();
    let mut spaced = fields.clone();
    spaced.timestep_spacing = spacing.or(fields.timestep_spacing);
    let mut told = rungs_of(&spaced, Spacing::Linspace, steps, count, Rounding::OneMore)?;
    let mut sigmas: Vec<f64> = told.iter().map(|&rung| levels::at_rung(&table, rung)).collect();
    if let Some(respaced) = levels::respaced(fields, table[0], table[count - 1], steps)? {
        sigmas = respaced;
        told = sigmas.iter().map(|&sigma| levels::rung_in(&logs, sigma)).collect();
        let cosine = fields.beta_schedule == Some(BetaName::Cosine);
        if fields.use_karras_sigmas == Some(true) && !(told_rungs == ToldRungs::WholeButForCosine && cosine) {
            told.iter_mut().for_each(|rung| *rung = rung.round_ties_even());
        }
        // They are kept as whole numbers, cut off.
        told.iter_mut().for_each(|rung| *rung = rung.floor());
    }
    sigmas.push(match (last, fields.final_sigmas_type.unwrap_or_default()) {
        (LastLevel::AsAsked, FinalSigma::Zero) => 0.0,
        (LastLevel::AsAsked, FinalSigma::SigmaMin) | (LastLevel::Least, _) => table[0],
    });
    let mut schedule =
        on_levels(Box::new(ladder), prediction(fields)?, solver, &sigmas, told, Scaling::Sample)?;
    schedule.limit = limit(fields, &PLAIN, NoiseAfter::Remade)?;
    Ok(schedule)
}

/// The same on a rectified flow. UniPC starts from pure noise (but for a millionth, as its logarithm is needed), the others one rung below.
fn flow_integrator(fields: &Fields, request: &Request, solver: SolverConfig) -> Result<Schedule> {
    let count = fields.num_train_timesteps.unwrap_or(1000);
    let (shift, steps) = (fields.flow_shift.unwrap_or(1.0), request.steps as f64);
    crate::error::require("flow_shift", "above 0", shift, shift > 0.0)?;
    if matches!(solver, SolverConfig::LinearMultistep(_)) {
        return Err(config("use_flow_sigmas", "is true, which is not supported for DEIS"));
    }
    let least = 1.0 / count as f64;
    let even = |i: usize| match solver {
        SolverConfig::UniPc(_) => 1.0 + (least - 1.0) * i as f64 / steps,
        _ => (1.0 - least) * (1.0 - i as f64 / steps),
    };
    let mut sigmas: Vec<f64> = (0..request.steps)
        .map(even)
        .map(|t| (shift * t / (1.0 + (shift - 1.0) * t)).min(1.0 - 1e-6))
        .collect();
    let told = sigmas.iter().map(|sigma| (sigma * count as f64).floor()).collect();
    sigmas.push(match fields.final_sigmas_type.unwrap_or_default() {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => {
            return Err(config("final_sigmas_type", "is sigma_min, which a flow has not"));
        }
    });
    on_flow(fields, &sigmas, told, solver, count)
}

fn final_order(fields: &Fields, steps: usize) -> FinalOrder {
    if fields.lower_order_final.unwrap_or(true) && steps < 15 {
        FinalOrder::Lowered
    } else if fields.euler_at_final.unwrap_or(false) {
        FinalOrder::Euler
    } else {
        FinalOrder::Kept
    }
}

/// `solver_order`, `algorithm_type` and `solver_type` of DPM-Solver.
fn dpm_rule(fields: &Fields, final_order: FinalOrder) -> Result<DpmSolver> {
    let (integrand, stochasticity) = match fields.algorithm_type.unwrap_or(Algorithm::DpmSolverPlusPlus) {
        Algorithm::DpmSolver => (Integrand::Noise, Stochasticity::Deterministic),
        Algorithm::DpmSolverPlusPlus | Algorithm::Deis => (Integrand::Data, Stochasticity::Deterministic),
        Algorithm::SdeDpmSolver => (Integrand::Noise, Stochasticity::Stochastic),
        Algorithm::SdeDpmSolverPlusPlus => (Integrand::Data, Stochasticity::Stochastic),
    };
    let second_order = match fields.solver_type.unwrap_or(SolverType::Midpoint) {
        SolverType::Heun => SecondOrder::Heun,
        SolverType::Midpoint | SolverType::Bh1 | SolverType::Bh2 | SolverType::Logrho => {
            SecondOrder::Midpoint
        }
    };
    if fields.variance_type.is_some() {
        return Err(config("variance_type", "is set; a learned variance is read by DDPMScheduler only"));
    }
    let rule = DpmSolver {
        order: fields.solver_order.unwrap_or(2),
        integrand,
        second_order,
        stochasticity,
        final_order,
    };
    SolverConfig::DpmSolver(rule).check()?;
    Ok(rule)
}

fn dpm_multistep(fields: &Fields, request: &Request) -> Result<Schedule> {
    let rule = dpm_rule(fields, final_order(fields, request.steps))?;
    integrator(
        fields,
        request,
        None,
        ToldRungs::WholeButForCosine,
        LastLevel::AsAsked,
        SolverConfig::DpmSolver(rule),
    )
}

fn dpm_singlestep(fields: &Fields, request: &Request) -> Result<Schedule> {
    let lowered = fields.lower_order_final.unwrap_or(false);
    let rule = dpm_rule(fields, if lowered { FinalOrder::Lowered } else { FinalOrder::Kept })?;
    let solver = SolverConfig::SingleStep(SingleStep { rule });
    integrator(fields, request, Some(Spacing::Linspace), ToldRungs::Whole, LastLevel::AsAsked, solver)
}

fn deis(fields: &Fields, request: &Request) -> Result<Schedule> {
    let order = fields.solver_order.unwrap_or(2);
    crate::error::require("solver_order", "from 1 to 3", order as f64, (1..=3).contains(&order))?;
    let final_order = final_order(fields, request.steps);
    let rule = LinearMultistep { order, nodes: Nodes::LogNoiseRatio, final_order };
    integrator(fields, request, None, ToldRungs::Whole, LastLevel::Least, SolverConfig::LinearMultistep(rule))
}

fn unipc(fields: &Fields, request: &Request) -> Result<Schedule> {
    if fields.solver_p.as_ref().is_some_and(|solver| !solver.is_null()) {
        return Err(config("solver_p", "is set; another predictor is not supported"));
    }
    let integrand = if fields.predict_x0.unwrap_or(true) { Integrand::Data } else { Integrand::Noise };
    let step_function = match fields.solver_type.unwrap_or(SolverType::Bh2) {
        SolverType::Bh1 => StepFunction::Bh1,
        SolverType::Bh2 | SolverType::Midpoint | SolverType::Heun | SolverType::Logrho => StepFunction::Bh2,
    };
    let uncorrected = fields.disable_corrector.iter().flatten().try_fold(0_u64, |mask, &step| {
        let bit = 1_u64.checked_shl(u32::try_from(step).unwrap_or(64));
        bit.map(|bit| mask | bit)
            .ok_or_else(|| config("disable_corrector", format!("names step {step}; at most 63")))
    })?;
    let final_order =
        if fields.lower_order_final.unwrap_or(true) { FinalOrder::Lowered } else { FinalOrder::Kept };
    let order = fields.solver_order.unwrap_or(2);
    let rule = UniPc { order, integrand, step_function, uncorrected, final_order };
    integrator(fields, request, None, ToldRungs::Whole, LastLevel::AsAsked, SolverConfig::UniPc(rule))
}

/// EDM's levels: Karras's or exponential, told as a quarter of their logarithm.
fn edm(fields: &Fields, request: &Request, solver: SolverConfig) -> Result<Schedule> {
    let (min, max) = (fields.sigma_min.unwrap_or(0.002), fields.sigma_max.unwrap_or(80.0));
    let sigma_data = fields.sigma_data.unwrap_or(0.5);
    let process = Edm::new(min, max)?;
    let meaning = match fields.prediction_type.unwrap_or(PredictionName::Epsilon) {
        PredictionName::Epsilon => Prediction::Edm { sigma_data },
        other => {
            return Err(config(
                "prediction_type",
                format!("is {other:?}; EDM's schedulers take epsilon here"),
            ));
        }
    };
    let rho = fields.rho.unwrap_or(7.0);
    crate::error::require("rho", "above 0", rho, rho > 0.0)?;
    let mut sigmas = match fields.sigma_schedule.unwrap_or_default() {
        SigmaSchedule::Karras => levels::karras(min, max, request.steps, rho),
        SigmaSchedule::Exponential => levels::exponential(min, max, request.steps),
    };
    let told = sigmas.iter().map(|sigma| sigma.ln() / 4.0).collect();
    sigmas.push(match fields.final_sigmas_type.unwrap_or_default() {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => sigmas[sigmas.len() - 1],
    });
    on_levels(Box::new(process), meaning, solver, &sigmas, told, Scaling::Sample)
}

fn edm_euler(fields: &Fields, request: &Request) -> Result<Schedule> {
    edm(fields, request, SolverConfig::Euler { clock: Clock::NoiseRatio })
}

fn edm_dpm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let rule = dpm_rule(fields, final_order(fields, request.steps))?;
    edm(fields, request, SolverConfig::DpmSolver(rule))
}

/// The levels of flow matching: even, shifted, stretched, or spaced anew.
fn flow_levels(fields: &Fields, request: &Request, count: usize) -> Result<Vec<f64>> {
    if fields.invert_sigmas == Some(true) {
        return Err(config("invert_sigmas", "is true, which is not supported"));
    }
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

fn on_flow(
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
    })
}

fn flow(fields: &Fields, request: &Request, solver: SolverConfig) -> Result<Schedule> {
    let count = fields.num_train_timesteps.unwrap_or(1000);
    crate::error::require("num_train_timesteps", "at least 1", count as f64, count >= 1)?;
    let mut sigmas = flow_levels(fields, request, count)?;
    let told = sigmas.iter().map(|sigma| sigma * count as f64).collect();
    sigmas.push(0.0);
    on_flow(fields, &sigmas, told, solver, count)
}

fn flow_euler(fields: &Fields, request: &Request) -> Result<Schedule> {
    let solver = if fields.stochastic_sampling == Some(true) {
        SolverConfig::Consistency(Consistency { boundary: None, sigma_floor: 0.0 })
    } else {
        SolverConfig::Euler { clock: Clock::Time }
    };
    flow(fields, request, solver)
}

fn flow_heun(fields: &Fields, request: &Request) -> Result<Schedule> {
    flow(fields, request, SolverConfig::Heun { clock: Clock::Time })
}

/// A network as a schedule sees it.
pub(super) struct Scheduled<'a, F> {
    pub(super) schedule: &'a Schedule,
    pub(super) forward: F,
}

impl<const D: usize, F: Fn(Tensor<D>, f64) -> Tensor<D>> Denoiser<D> for Scheduled<'_, F> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        self.denoise_with_spread(x, t).0
    }

    fn denoise_with_spread(&self, x: Tensor<D>, t: f64) -> (Estimate<D>, Option<Tensor<D>>) {
        let Schedule { process, prediction, limit, .. } = self.schedule;
        let law = process.law(t);
        let input = scale(prediction.input_scale(&law), x.clone());
        let output = (self.forward)(input, self.schedule.network_time(t));
        // A network that tells its variance gives it as a second half of the channels.
        let channels = if D > 1 { x.dims()[1] } else { 0 };
        let (output, spread) = if D > 1 && output.dims()[1] == 2 * channels {
            (output.clone().narrow(1, 0, channels), Some(output.narrow(1, channels, channels)))
        } else {
            (output, None)
        };
        let estimate = prediction.estimate(output, x.clone(), &law);
        let (data, noise) = match limit {
            Limit::None => return (estimate, spread),
            Limit::Clip { range, noise } => (estimate.data.clamp(-range, *range), *noise),
            Limit::Threshold(dynamic, noise) => (dynamic.apply(estimate.data), *noise),
        };
        let estimate = match noise {
            NoiseAfter::Remade if law.sigma > 0.0 => Prediction::Sample.estimate(data, x, &law),
            NoiseAfter::Remade | NoiseAfter::Kept => Estimate { data, noise: estimate.noise },
        };
        (estimate, spread)
    }
}
