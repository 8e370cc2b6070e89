//! The exponential integrators: DPM-Solver, DEIS, UniPC; on a ladder, on a flow, and on EDM's levels.

use super::common::{PLAIN, Result, Terminal, ladder, limit, prediction};
use super::fields::{
    Algorithm, BetaName, Fields, FinalSigma, PredictionName, SigmaSchedule, SolverType, Spacing, config,
};
use super::flow::on_flow;
use super::levels::{self, Rounding};
use super::on_levels::on_levels;
use super::on_rungs::rungs_below;
use super::{NoiseAfter, Request, Scaling, Schedule};
use crate::{
    Clock, DpmSolver, Edm, FinalOrder, Integrand, LinearMultistep, Nodes, Prediction, Process, SecondOrder,
    SingleStep, SolverConfig, StepFunction, StochasticAdams, Stochasticity, UniPc,
};

/// Whether levels from Karras's formula (and its kin) are told as whole rungs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToldRungs {
    Whole,
    WholeButForCosine,
}

/// Where a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastLevel {
    /// As `final_sigmas_type` says.
    AsAsked,
    /// At the least level: its logarithm is needed.
    Least,
}

/// The exponential integrators: whole rungs from a grid with one more, or levels spaced anew over the whole ladder.
pub(super) fn integrator(
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
    let ladder = ladder(fields, &PLAIN, Terminal::Almost)?;
    let count = ladder.rungs().unwrap_or(1);
    let table = levels::of_ladder(&ladder);
    let logs: Vec<f64> = table.iter().map(|&level| f64::from((level as f32).ln())).collect();
    let mut spaced = fields.clone();
    spaced.timestep_spacing = spacing.or(fields.timestep_spacing);
    // Rungs whose ln(alpha / sigma) is below the least one asked for are left out: the noisiest.
    let clipped = |least: f64| logs.iter().filter(|log| -**log < least).count();
    let end = count - fields.lambda_min_clipped.map_or(0, clipped);
    if end < 2 {
        return Err(config("lambda_min_clipped", "leaves no rungs"));
    }
    let mut told = rungs_below(&spaced, Spacing::Linspace, steps, [count, end], Rounding::OneMore)?;
    let mut sigmas: Vec<f64> = told.iter().map(|&rung| levels::at_rung(&table, rung)).collect();
    let mut least = table[0];
    if let Some(respaced) = levels::respaced(fields, table[0], table[count - 1], steps)? {
        sigmas = respaced;
        least = sigmas[sigmas.len() - 1];
        told = sigmas.iter().map(|&sigma| levels::rung_in(&logs, sigma)).collect();
        let cosine = fields.beta_schedule == Some(BetaName::Cosine);
        let whole = fields.use_karras_sigmas == Some(true) || fields.use_lu_lambdas == Some(true);
        if whole && !(told_rungs == ToldRungs::WholeButForCosine && cosine) {
            told.iter_mut().for_each(|rung| *rung = rung.round_ties_even());
        }
        // They are kept as whole numbers, cut off.
        told.iter_mut().for_each(|rung| *rung = rung.floor());
    }
    sigmas.push(match (last, fields.final_sigmas_type.unwrap_or_default()) {
        (LastLevel::AsAsked, FinalSigma::Zero) => 0.0,
        (LastLevel::AsAsked, FinalSigma::SigmaMin) | (LastLevel::Least, _) => least,
    });
    let mut schedule =
        on_levels(Box::new(ladder), prediction(fields)?, solver, &sigmas, told, Scaling::Sample)?;
    schedule.limit = limit(fields, &PLAIN, NoiseAfter::Remade)?;
    Ok(schedule)
}

/// The same on a rectified flow. UniPC starts from pure noise (but for a millionth, as its logarithm is needed), the others one rung below.
pub(super) fn flow_integrator(fields: &Fields, request: &Request, solver: SolverConfig) -> Result<Schedule> {
    let count = fields.num_train_timesteps.unwrap_or(1000);
    let (shift, steps) = (fields.flow_shift.unwrap_or(1.0), request.steps as f64);
    crate::error::require("flow_shift", "above 0", shift, shift > 0.0)?;
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
        // These need the logarithm of where they go: they stay where they are.
        _ if matches!(solver, SolverConfig::LinearMultistep(_) | SolverConfig::StochasticAdams(_)) => {
            sigmas[sigmas.len() - 1]
        }
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => {
            return Err(config("final_sigmas_type", "is sigma_min, which a flow has not"));
        }
    });
    on_flow(fields, &sigmas, told, solver, count)
}

pub(super) fn final_order(fields: &Fields, steps: usize) -> FinalOrder {
    if fields.lower_order_final.unwrap_or(true) && steps < 15 {
        FinalOrder::Lowered
    } else if fields.euler_at_final.unwrap_or(false) {
        FinalOrder::Euler
    } else {
        FinalOrder::Kept
    }
}

/// `solver_order`, `algorithm_type` and `solver_type` of DPM-Solver.
pub(super) fn dpm_rule(fields: &Fields, final_order: FinalOrder) -> Result<DpmSolver> {
    let (integrand, stochasticity) = match fields.algorithm_type.unwrap_or(Algorithm::DpmSolverPlusPlus) {
        Algorithm::DpmSolver => (Integrand::Noise, Stochasticity::Deterministic),
        Algorithm::DpmSolverPlusPlus | Algorithm::Deis => (Integrand::Data, Stochasticity::Deterministic),
        Algorithm::SdeDpmSolver => (Integrand::Noise, Stochasticity::Stochastic),
        Algorithm::SdeDpmSolverPlusPlus => (Integrand::Data, Stochasticity::Stochastic),
        Algorithm::DataPrediction | Algorithm::NoisePrediction => {
            return Err(config("algorithm_type", "is SASolverScheduler's"));
        }
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

pub(super) fn dpm_multistep(fields: &Fields, request: &Request) -> Result<Schedule> {
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

pub(super) fn dpm_singlestep(fields: &Fields, request: &Request) -> Result<Schedule> {
    let lowered = fields.lower_order_final.unwrap_or(false);
    let rule = dpm_rule(fields, if lowered { FinalOrder::Lowered } else { FinalOrder::Kept })?;
    let solver = SolverConfig::SingleStep(SingleStep { rule });
    integrator(fields, request, Some(Spacing::Linspace), ToldRungs::Whole, LastLevel::AsAsked, solver)
}

pub(super) fn deis(fields: &Fields, request: &Request) -> Result<Schedule> {
    let order = fields.solver_order.unwrap_or(2);
    crate::error::require("solver_order", "from 1 to 3", order as f64, (1..=3).contains(&order))?;
    let final_order = final_order(fields, request.steps);
    let rule = LinearMultistep { order, nodes: Nodes::LogNoiseRatio, final_order };
    integrator(fields, request, None, ToldRungs::Whole, LastLevel::Least, SolverConfig::LinearMultistep(rule))
}

pub(super) fn unipc(fields: &Fields, request: &Request) -> Result<Schedule> {
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

/// The rungs at which `SASolverScheduler` draws noise, whole ones of a thousand or of any other number.
const SA_SOLVER_NOISY: [f64; 2] = [200.0, 800.0];

pub(super) fn sa_solver(fields: &Fields, request: &Request) -> Result<Schedule> {
    let integrand = match fields.algorithm_type {
        None | Some(Algorithm::DataPrediction) => Integrand::Data,
        Some(Algorithm::NoisePrediction) => Integrand::Noise,
        Some(_) => return Err(config("algorithm_type", "is not data_prediction or noise_prediction")),
    };
    let (flow, count) =
        (fields.use_flow_sigmas == Some(true), fields.num_train_timesteps.unwrap_or(1000) as f64);
    // The rung that a network is told is cut down to a whole one.
    let time = |rung: f64| (rung + if flow { 0.0 } else { 1.0 }) / count;
    let noisy = [time(SA_SOLVER_NOISY[0]), time(SA_SOLVER_NOISY[1] + 1.0).next_down()];
    let lowered = fields.lower_order_final.unwrap_or(true);
    let solver = SolverConfig::StochasticAdams(StochasticAdams {
        predictor_order: fields.predictor_order.unwrap_or(2),
        corrector_order: fields.corrector_order.unwrap_or(2),
        integrand,
        tau: 1.0,
        noisy_between: Some(noisy),
        final_order: if lowered { FinalOrder::Lowered } else { FinalOrder::Kept },
    });
    integrator(fields, request, None, ToldRungs::Whole, LastLevel::Least, solver)
}

/// EDM's levels: Karras's or exponential, told as a quarter of their logarithm.
pub(super) fn edm(fields: &Fields, request: &Request, solver: SolverConfig) -> Result<Schedule> {
    let (min, max) = (fields.sigma_min.unwrap_or(0.002), fields.sigma_max.unwrap_or(80.0));
    let sigma_data = fields.sigma_data.unwrap_or(0.5);
    let process = Edm::new(min, max)?;
    let meaning = match fields.prediction_type.unwrap_or(PredictionName::Epsilon) {
        PredictionName::Epsilon => Prediction::Edm { sigma_data },
        PredictionName::VPrediction => Prediction::EdmV { sigma_data },
        other => {
            return Err(config(
                "prediction_type",
                format!("is {other:?}; EDM's schedulers take epsilon and v_prediction"),
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

pub(super) fn edm_euler(fields: &Fields, request: &Request) -> Result<Schedule> {
    edm(fields, request, SolverConfig::Euler { clock: Clock::NoiseRatio })
}

pub(super) fn edm_dpm(fields: &Fields, request: &Request) -> Result<Schedule> {
    let rule = dpm_rule(fields, final_order(fields, request.steps))?;
    let mut schedule = edm(fields, request, SolverConfig::DpmSolver(rule))?;
    schedule.limit = limit(fields, &PLAIN, NoiseAfter::Remade)?;
    Ok(schedule)
}
