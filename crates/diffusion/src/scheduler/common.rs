//! What the readers of all classes share: defaults, the ladder, the prediction, clipping.

use super::fields::{BetaName, Fields, PredictionName, config};
use super::{Limit, NoiseAfter};
use crate::{BetaSchedule, DdpmLadder, DiffusionError, Dynamic, Prediction};

pub(super) type Result<T> = std::result::Result<T, DiffusionError>;

/// Defaults that differ between classes.
pub(super) struct Defaults {
    pub(super) betas: (f64, f64, BetaName),
    pub(super) clip: bool,
}

pub(super) const DDPM: Defaults = Defaults { betas: (1e-4, 0.02, BetaName::Linear), clip: true };
pub(super) const PLAIN: Defaults = Defaults { clip: false, ..DDPM };
pub(super) const STABLE: Defaults = Defaults { betas: (0.000_85, 0.012, BetaName::Linear), clip: false };
pub(super) const LATENT: Defaults =
    Defaults { betas: (0.000_85, 0.012, BetaName::ScaledLinear), clip: false };

/// Where a variance-preserving ladder whose last rung is pure noise ends, in alpha_bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    /// At 0.
    Noise,
    /// Just above: the noise ratio must stay finite.
    Almost,
}

pub(super) fn ladder(fields: &Fields, defaults: &Defaults, terminal: Terminal) -> Result<DdpmLadder> {
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

pub(super) fn prediction(fields: &Fields) -> Result<Prediction> {
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

pub(super) fn limit(fields: &Fields, defaults: &Defaults, noise: NoiseAfter) -> Result<Limit> {
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
