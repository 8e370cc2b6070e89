//! Another solver for the model of a `scheduler_config.json`: diffusers' `OtherScheduler.from_config(scheduler.config)`.

use serde_json::{Map, Value, json};

use super::fields::{self, config};
use crate::{DiffusionError, SOLVERS};

/// The scheduler of a name in [`SOLVERS`], and what its config must say for that solver.
fn class_of(name: &str) -> Option<(&'static str, Value)> {
    Some(match name {
        "ddpm" => ("DDPMScheduler", json!({})),
        "ddim" => ("DDIMScheduler", json!({})),
        "euler" => ("EulerDiscreteScheduler", json!({})),
        "heun" => ("HeunDiscreteScheduler", json!({})),
        "dpm2" => ("KDPM2DiscreteScheduler", json!({})),
        "dpm2-ancestral" => ("KDPM2AncestralDiscreteScheduler", json!({})),
        "dpmpp-2m" => {
            ("DPMSolverMultistepScheduler", json!({"algorithm_type": "dpmsolver++", "solver_order": 2}))
        }
        "dpmpp-3m" => {
            ("DPMSolverMultistepScheduler", json!({"algorithm_type": "dpmsolver++", "solver_order": 3}))
        }
        "dpmpp-2m-sde" => {
            ("DPMSolverMultistepScheduler", json!({"algorithm_type": "sde-dpmsolver++", "solver_order": 2}))
        }
        "dpmpp-2s" => {
            ("DPMSolverSinglestepScheduler", json!({"algorithm_type": "dpmsolver++", "solver_order": 2}))
        }
        "unipc" => ("UniPCMultistepScheduler", json!({})),
        "sa-solver" => ("SASolverScheduler", json!({})),
        "deis" => ("DEISMultistepScheduler", json!({})),
        "lms" => ("LMSDiscreteScheduler", json!({})),
        "pndm" => ("PNDMScheduler", json!({"skip_prk_steps": true})),
        "lcm" => ("LCMScheduler", json!({})),
        "tcd" => ("TCDScheduler", json!({})),
        _ => return None,
    })
}

/// Fields that mean the solver, and not the model.
const OF_SOLVER: &[&str] = &[
    "algorithm_type",
    "solver_order",
    "solver_type",
    "euler_at_final",
    "lower_order_final",
    "variance_type",
];

/// The config of the same model for the solver of this name.
///
/// # Errors
/// [`DiffusionError::Unknown`] for a name that no scheduler has; [`DiffusionError::Config`] for a text that is no config, or a solver that a rectified
/// flow can't take.
pub fn with_solver(text: &str, name: &str) -> Result<String, DiffusionError> {
    let fields: fields::Fields = fields::parse(text)?;
    let mut object: Map<String, Value> = fields::parse(text)?;
    let Some((mut class, options)) = class_of(name) else {
        let known: Vec<_> =
            SOLVERS.iter().map(|entry| entry.name).filter(|name| class_of(name).is_some()).collect();
        let name = name.to_owned();
        return Err(DiffusionError::Unknown { what: "solver of schedulers", name, known: known.join(", ") });
    };
    object.retain(|field, _| !OF_SOLVER.contains(&field.as_str()));
    if let Value::Object(options) = options {
        object.extend(options);
    }
    if fields.class.starts_with("FlowMatch") {
        match name {
            "euler" => class = "FlowMatchEulerDiscreteScheduler",
            "heun" => class = "FlowMatchHeunDiscreteScheduler",
            "dpmpp-2m" | "dpmpp-3m" | "dpmpp-2m-sde" | "dpmpp-2s" | "unipc" | "sa-solver" | "deis" => {
                object.insert("use_flow_sigmas".to_owned(), true.into());
                object.insert("prediction_type".to_owned(), "flow_prediction".into());
                object.insert("flow_shift".to_owned(), fields.shift.unwrap_or(1.0).into());
            }
            _ => {
                return Err(config("_class_name", format!("is a rectified flow's, which {name} is not for")));
            }
        }
    }
    object.insert("_class_name".to_owned(), class.into());
    Ok(Value::Object(object).to_string())
}
