//! The table of classes, and a network as a schedule sees it.

use burn::tensor::Tensor;

use super::common::Result;
use super::consistency::consistency_models;
use super::fields::{Fields, parse};
use super::flow::{flow_euler, flow_heun};
use super::integrators::{deis, dpm_multistep, dpm_singlestep, edm_dpm, edm_euler, sa_solver, unipc};
use super::ipndm::ipndm;
use super::on_levels::{euler, euler_ancestral, heun, kdpm2, kdpm2_ancestral, lms};
use super::on_rungs::{ddim, ddim_inverse, ddpm, lcm, pndm, tcd};
use super::score_sde::{variance_exploding, variance_preserving};
use super::{Limit, NoiseAfter, Request, Schedule};
use crate::blend::scale;
use crate::{Denoiser, DiffusionError, Estimate, Finish, Prediction};

/// The classes that are read, each with what reads it.
pub const SCHEDULERS: &[(&str, Reader)] = &[
    ("DDPMScheduler", Reader(ddpm)),
    ("DDIMScheduler", Reader(ddim)),
    ("DDIMInverseScheduler", Reader(ddim_inverse)),
    ("PNDMScheduler", Reader(pndm)),
    ("IPNDMScheduler", Reader(ipndm)),
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
    ("SASolverScheduler", Reader(sa_solver)),
    ("EDMEulerScheduler", Reader(edm_euler)),
    ("EDMDPMSolverMultistepScheduler", Reader(edm_dpm)),
    ("FlowMatchEulerDiscreteScheduler", Reader(flow_euler)),
    ("FlowMatchHeunDiscreteScheduler", Reader(flow_heun)),
    ("CMStochasticIterativeScheduler", Reader(consistency_models)),
    ("ScoreSdeVeScheduler", Reader(variance_exploding)),
    ("ScoreSdeVpScheduler", Reader(variance_preserving)),
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
    let schedule = (reader.0)(&fields, request)?;
    // diffusers ends where the grid does; a score equation's last step leaves out its noise.
    let finish = if schedule.prediction == Prediction::Score { Finish::Denoise } else { Finish::AtGridEnd };
    let sampler = schedule.sampler.with_finish(finish);
    Ok(Schedule { spacing: fields.timestep_spacing, sampler, ..schedule })
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
