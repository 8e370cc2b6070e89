//! The scheduler of a whole model: a file holds at most its betas, and the rest is as published.

use serde_json::{Value, json};

use super::whole::Family;
use crate::{Checkpoint, CheckpointError};

/// Stable Diffusion 3's: rectified flow, its times shifted.
pub(super) fn flow() -> Value {
    json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0 })
}

/// That by which the upscaler adds noise to the small picture.
pub(super) fn low_res() -> Value {
    json!({
        "_class_name": "DDPMScheduler",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "scaled_linear",
        "clip_sample": true,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "variance_type": "fixed_small",
    })
}

/// Those of Stable Diffusion 1, 2 and XL.
///
/// Whether a network predicts the noise or the velocity v is in no tensor of Stable Diffusion 2: a file that counts its
/// steps and stopped at 875,000 is the base model, which predicts noise; any other is taken for the one that predicts v.
/// A later habit is a tensor `v_pred` that says so.
pub(super) fn of(family: Family, file: &Checkpoint) -> Result<Value, CheckpointError> {
    let mut config = json!({
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "trained_betas": null,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    });
    match family {
        Family::One => {
            config["_class_name"] = json!("PNDMScheduler");
            config["skip_prk_steps"] = json!(true);
            config["set_alpha_to_one"] = json!(false);
        }
        Family::Two => {
            config["_class_name"] = json!("DDIMScheduler");
            config["clip_sample"] = json!(false);
            config["set_alpha_to_one"] = json!(false);
            if steps(file)? != Some(875_000) {
                config["prediction_type"] = json!("v_prediction");
            }
        }
        Family::Xl => {
            config["_class_name"] = json!("EulerDiscreteScheduler");
            config["interpolation_type"] = json!("linear");
            config["use_karras_sigmas"] = json!(false);
        }
    }
    if file.info("v_pred").is_some() {
        config["prediction_type"] = json!("v_prediction");
    }
    if let Some(betas) = unlike_published(file)? {
        config["num_train_timesteps"] = json!(betas.len());
        config["trained_betas"] = json!(betas);
    }
    Ok(config)
}

/// Training steps, where the file counts them.
fn steps(file: &Checkpoint) -> Result<Option<i64>, CheckpointError> {
    const NAME: &str = "global_step";
    match file.info(NAME) {
        Some(info) if info.shape.iter().product::<usize>() == 1 => {
            Ok(file.tensor(NAME)?.iter::<i64>().next())
        }
        _ => Ok(None),
    }
}

/// The betas of the file, if they are not those that every published Stable Diffusion was trained with.
fn unlike_published(file: &Checkpoint) -> Result<Option<Vec<f64>>, CheckpointError> {
    const NAME: &str = "betas";
    /// Longer than any schedule.
    const MOST: usize = 100_000;
    if !file.info(NAME).is_some_and(|info| matches!(info.shape, [2..=MOST])) {
        return Ok(None);
    }
    let betas: Vec<f64> = file.tensor(NAME)?.iter::<f64>().collect();
    let (first, last) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let published = |i: usize| (first + (last - first) * i as f64 / 999.0).powi(2);
    // f16 has three digits.
    let same = betas.len() == 1000
        && betas.iter().enumerate().all(|(i, beta)| (beta - published(i)).abs() <= 2e-3 * published(i));
    let usable = betas.iter().all(|beta| *beta > 0.0 && *beta < 1.0);
    Ok((!same && usable).then_some(betas))
}
