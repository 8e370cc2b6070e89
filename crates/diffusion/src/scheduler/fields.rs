//! The fields of every `scheduler_config.json`, as they stand there.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::DiffusionError;

/// `beta_schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BetaName {
    Linear,
    ScaledLinear,
    #[serde(rename = "squaredcos_cap_v2")]
    Cosine,
    Sigmoid,
}

/// `prediction_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PredictionName {
    Epsilon,
    Sample,
    VPrediction,
    FlowPrediction,
}

/// `timestep_spacing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

/// `final_sigmas_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FinalSigma {
    #[default]
    Zero,
    SigmaMin,
}

/// `variance_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VarianceName {
    FixedSmall,
    FixedSmallLog,
    FixedLarge,
    LearnedRange,
}

/// `algorithm_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Algorithm {
    #[serde(rename = "dpmsolver")]
    DpmSolver,
    #[serde(rename = "dpmsolver++")]
    DpmSolverPlusPlus,
    #[serde(rename = "sde-dpmsolver")]
    SdeDpmSolver,
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmSolverPlusPlus,
    #[serde(rename = "deis")]
    Deis,
    #[serde(rename = "data_prediction")]
    DataPrediction,
    #[serde(rename = "noise_prediction")]
    NoisePrediction,
}

/// `solver_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SolverType {
    Midpoint,
    Heun,
    Bh1,
    Bh2,
    Logrho,
}

/// `interpolation_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Interpolation {
    #[default]
    Linear,
    LogLinear,
}

/// `timestep_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TimestepType {
    #[default]
    Discrete,
    Continuous,
}

/// `time_shift_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TimeShift {
    #[default]
    Exponential,
    Linear,
}

/// `sigma_schedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SigmaSchedule {
    #[default]
    Karras,
    Exponential,
}

/// All of them; what is absent takes the default of its class.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    #[serde(rename = "_class_name")]
    pub(super) class: String,
    pub(super) num_train_timesteps: Option<usize>,
    pub(super) beta_start: Option<f64>,
    pub(super) beta_end: Option<f64>,
    pub(super) beta_schedule: Option<BetaName>,
    pub(super) beta_min: Option<f64>,
    pub(super) beta_max: Option<f64>,
    pub(super) sampling_eps: Option<f64>,
    pub(super) snr: Option<f64>,
    pub(super) correct_steps: Option<usize>,
    pub(super) trained_betas: Option<Vec<f64>>,
    pub(super) rescale_betas_zero_snr: Option<bool>,
    pub(super) prediction_type: Option<PredictionName>,
    pub(super) timestep_spacing: Option<Spacing>,
    pub(super) timestep_type: Option<TimestepType>,
    pub(super) interpolation_type: Option<Interpolation>,
    pub(super) steps_offset: Option<usize>,
    pub(super) set_alpha_to_one: Option<bool>,
    pub(super) skip_prk_steps: Option<bool>,
    pub(super) clip_sample: Option<bool>,
    pub(super) clip_denoised: Option<bool>,
    pub(super) s_noise: Option<f64>,
    pub(super) clip_sample_range: Option<f64>,
    pub(super) thresholding: Option<bool>,
    pub(super) dynamic_thresholding_ratio: Option<f64>,
    pub(super) sample_max_value: Option<f64>,
    pub(super) variance_type: Option<VarianceName>,
    pub(super) solver_order: Option<usize>,
    pub(super) predictor_order: Option<usize>,
    pub(super) corrector_order: Option<usize>,
    pub(super) algorithm_type: Option<Algorithm>,
    pub(super) solver_type: Option<SolverType>,
    pub(super) lower_order_final: Option<bool>,
    pub(super) euler_at_final: Option<bool>,
    pub(super) predict_x0: Option<bool>,
    pub(super) disable_corrector: Option<Vec<usize>>,
    pub(super) solver_p: Option<Value>,
    pub(super) final_sigmas_type: Option<FinalSigma>,
    pub(super) lambda_min_clipped: Option<f64>,
    pub(super) use_karras_sigmas: Option<bool>,
    pub(super) use_exponential_sigmas: Option<bool>,
    pub(super) use_beta_sigmas: Option<bool>,
    pub(super) use_lu_lambdas: Option<bool>,
    pub(super) use_flow_sigmas: Option<bool>,
    pub(super) flow_shift: Option<f64>,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) sigma_data: Option<f64>,
    pub(super) sigma_schedule: Option<SigmaSchedule>,
    pub(super) rho: Option<f64>,
    pub(super) shift: Option<f64>,
    pub(super) shift_terminal: Option<f64>,
    pub(super) use_dynamic_shifting: Option<bool>,
    pub(super) time_shift_type: Option<TimeShift>,
    pub(super) invert_sigmas: Option<bool>,
    pub(super) stochastic_sampling: Option<bool>,
    pub(super) original_inference_steps: Option<usize>,
    pub(super) timestep_scaling: Option<f64>,
}

/// The fields of a config's text.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DiffusionError> {
    let object: Map<String, Value> = serde_json::from_str(&without_infinities(text))
        .map_err(|error| config("_class_name", format!("the text is no JSON object: {error}")))?;
    serde_json::from_value(Value::Object(object.clone())).map_err(|error| {
        // serde does not say which field it was in; each can be tried alone.
        object
            .into_iter()
            .find_map(|(field, value)| {
                let alone = Map::from_iter([(field.clone(), value)]);
                let reason = serde_json::from_value::<T>(Value::Object(alone)).err()?.to_string();
                Some(config(&field, reason))
            })
            .unwrap_or_else(|| config("_class_name", error.to_string()))
    })
}

pub(super) fn config(field: &str, problem: impl Into<String>) -> DiffusionError {
    DiffusionError::Config { field: field.to_owned(), problem: problem.into() }
}

/// Python writes `Infinity`, `-Infinity` and `NaN`, which JSON has not; no field needs them, so they are read as absent.
fn without_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quoted = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if !quoted
            && let Some(word) = ["-Infinity", "Infinity", "NaN"].iter().find(|word| rest.starts_with(**word))
        {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let mut step = first.len_utf8();
        if first == '"' {
            quoted = !quoted;
        } else if first == '\\' && quoted {
            step += rest[1..].chars().next().map_or(0, char::len_utf8);
        }
        out.push_str(&rest[..step]);
        rest = &rest[step..];
    }
    out
}
