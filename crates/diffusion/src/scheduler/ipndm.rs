//! IPNDM: PNDM without a beginning, on a process of its own.
//!
//! ```text
//! sigma = sin²(pi t / 2),   alpha = sqrt(1 - sigma²),   t from 1 to 0
//! ```

use std::f64::consts::{FRAC_PI_2, PI};

use super::common::Result;
use super::fields::{Fields, config};
use super::{Limit, Request, Scaling, Schedule, Told};
use crate::{Averaged, Beginning, Clock, Law, Pndm, Prediction, Process, Sampler, SolverConfig};

/// See the [module](self). The network is told the angle of (alpha, sigma), in quarter turns.
#[derive(Clone, Copy, Debug)]
struct SquaredSine;

impl Process for SquaredSine {
    fn law(&self, t: f64) -> Law {
        let sigma = (FRAC_PI_2 * t).sin().powi(2);
        let alpha = (1.0 - sigma * sigma).max(0.0).sqrt();
        let sigma_dot = FRAC_PI_2 * (PI * t).sin();
        Law { alpha, sigma, alpha_dot: -sigma * sigma_dot / alpha.max(1e-8), sigma_dot }
    }

    fn t_min(&self) -> f64 {
        0.0
    }

    fn t_max(&self) -> f64 {
        1.0
    }

    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }

    fn network_time(&self, t: f64) -> f64 {
        let law = self.law(t);
        law.sigma.atan2(law.alpha) / FRAC_PI_2
    }

    fn clock(&self) -> Clock {
        Clock::Time
    }
}

pub(super) fn ipndm(fields: &Fields, request: &Request) -> Result<Schedule> {
    if fields.trained_betas.is_some() {
        return Err(config("trained_betas", "is given, which is not supported for IPNDM"));
    }
    let time = |i: usize| 1.0 - i as f64 / request.steps as f64;
    let jumps: Vec<_> = (0..request.steps).map(|i| [time(i), time(i + 1)]).collect();
    let told = jumps.iter().map(|[t, _]| (*t, SquaredSine.network_time(*t))).collect();
    let solver = SolverConfig::Pndm(Pndm { beginning: Beginning::Lowered, averaged: Averaged::Noise });
    Ok(Schedule {
        process: Box::new(SquaredSine),
        prediction: Prediction::V,
        sampler: Sampler::with_jumps(solver, jumps)?,
        scaling: Scaling::Sample,
        limit: Limit::None,
        told,
        between: Told::OfProcess,
        spacing: None,
    })
}
