//! What a training run is made from, and the learning rate at each step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TrainingError, exact};

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls along half a cosine to `floor` of its value at step `horizon`, and stays there.
    Cosine {
        /// The share of the learning rate that is left at the end: from 0 to 1.
        #[serde(with = "exact")]
        floor: f64,
        /// The step at which the floor is reached; where it is absent, the `steps` that the run is begun with.
        /// A run that is resumed with more steps keeps its horizon, and makes the steps beyond it at the floor:
        /// what was trained so far was trained for that horizon.
        #[serde(default)]
        horizon: Option<usize>,
    },
}

/// What a training run is made from.
///
/// Two runs with equal configurations (and equal data and first weights) give equal losses and weights, bit for
/// bit on one machine, however often they are stopped and resumed. Fields that a resumed run may change say so.
///
/// ```
/// use kiln_training::TrainerConfig;
/// let config = TrainerConfig { steps: 2_000, warmup_steps: 100, ..TrainerConfig::default() };
/// assert_eq!(config.learning_rate_at(49), 0.5 * config.learning_rate);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainerConfig {
    /// The number of steps of the whole run. May change on resume, down to the steps already made.
    pub steps: usize,
    /// Samples in a step.
    pub batch_size: usize,
    /// The learning rate after the warm-up.
    #[serde(with = "exact")]
    pub learning_rate: f64,
    /// Steps in which the learning rate rises linearly from 0; 0 for none.
    pub warmup_steps: usize,
    /// The learning rate after the warm-up.
    pub schedule: Schedule,
    /// The decoupled weight decay of AdamW.
    #[serde(with = "exact")]
    pub weight_decay: f64,
    /// The global norm that gradients are clipped to; absent: not clipped.
    #[serde(with = "exact::option")]
    pub clip_norm: Option<f64>,
    /// The decay of the moving average of the weights, once warmed up.
    #[serde(with = "exact")]
    pub ema_decay: f64,
    /// The seed of everything drawn in training.
    pub seed: u64,
    /// Steps between checkpoints; one is also written at the end, and when the run is stopped. May change on resume.
    pub checkpoint_every: usize,
    /// Steps between calls of [`Observer::on_sample`](crate::Observer::on_sample), which is called after the last
    /// step too; absent: never. May change on resume.
    pub sample_every: Option<usize>,
    /// Steps between calls of [`Observer::on_step`](crate::Observer::on_step). May change on resume.
    pub log_every: usize,
    /// What is trained on what: the model's own configuration, the data set. The trainer does not read it; it is
    /// kept in the checkpoint, and a run that is resumed must have the same.
    pub task: Value,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            steps: 10_000,
            batch_size: 64,
            learning_rate: 1e-3,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 1e-2,
            clip_norm: Some(1.0),
            ema_decay: 0.9999,
            seed: 0,
            checkpoint_every: 1_000,
            sample_every: None,
            log_every: 1,
            task: Value::Null,
        }
    }
}

/// The fields that do not change what the steps compute.
const MAY_CHANGE: [&str; 4] = ["steps", "checkpoint_every", "sample_every", "log_every"];

impl TrainerConfig {
    /// The learning rate of a step, counted from 0. With s the step, W the warm-up and H the horizon:
    ///
    /// ```text
    /// s < W:   learning_rate · (s + 1) / W
    /// else:    learning_rate                                             Constant
    ///          learning_rate · (floor + (1 - floor) (1 + cos(π p)) / 2)  Cosine, p = min(1, (s - W) / (H - W))
    /// ```
    #[must_use]
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine { floor, horizon } => {
                let length = horizon.unwrap_or(self.steps).saturating_sub(self.warmup_steps).max(1);
                let progress = ((step - self.warmup_steps) as f64 / length as f64).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * progress).cos())
            }
        };
        self.learning_rate * share
    }

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TrainingError::Config`] with the first field that is not.
    pub fn validate(&self) -> Result<(), TrainingError> {
        let fail = |field: &'static str, message: String| Err(TrainingError::Config { field, message });
        for (field, value) in [
            ("steps", self.steps),
            ("batch_size", self.batch_size),
            ("checkpoint_every", self.checkpoint_every),
            ("log_every", self.log_every),
            ("sample_every", self.sample_every.unwrap_or(1)),
        ] {
            if value == 0 {
                return fail(field, "must be at least 1, and is 0".to_owned());
            }
        }
        for (field, value) in
            [("learning_rate", self.learning_rate), ("clip_norm", self.clip_norm.unwrap_or(1.0))]
        {
            if !(value > 0.0 && value.is_finite()) {
                return fail(field, format!("must be a positive number, and is {value}"));
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return fail("weight_decay", format!("must be 0 or more, and is {}", self.weight_decay));
        }
        if !(0.0..=1.0).contains(&self.ema_decay) {
            return fail("ema_decay", format!("must be from 0 to 1, and is {}", self.ema_decay));
        }
        if let Schedule::Cosine { floor, horizon } = self.schedule {
            if !(0.0..=1.0).contains(&floor) {
                return fail("schedule.floor", format!("must be from 0 to 1, and is {floor}"));
            }
            if horizon.is_some_and(|horizon| horizon <= self.warmup_steps) {
                let warmup = self.warmup_steps;
                return fail("schedule.horizon", format!("must lie beyond the warm-up of {warmup} steps"));
            }
        }
        Ok(())
    }

    /// The configuration with the cosine's horizon written out.
    pub(crate) fn with_horizon(mut self, default: usize) -> Self {
        if let Schedule::Cosine { horizon, .. } = &mut self.schedule {
            horizon.get_or_insert(default);
        }
        self
    }

    /// The step at which the cosine reaches its floor, if it says so.
    pub(crate) fn horizon(&self) -> Option<usize> {
        match self.schedule {
            Schedule::Constant => None,
            Schedule::Cosine { horizon, .. } => horizon,
        }
    }

    /// The first field that differs from the `saved` configuration and must not.
    pub(crate) fn difference(&self, saved: &Self) -> Option<Difference> {
        let (mut saved, mut given) = (through_text(saved), through_text(self));
        for config in [&mut saved, &mut given] {
            if let Value::Object(fields) = config {
                fields.retain(|field, _| !MAY_CHANGE.contains(&field.as_str()));
            }
        }
        difference("", &saved, &given)
    }
}

/// As read back from a file, so that numbers compare as they were written.
fn through_text(config: &TrainerConfig) -> Value {
    serde_json::to_string(config)
        .and_then(|text| serde_json::from_str(&text))
        .expect("a configuration is plain data")
}

/// A field that differs between two configurations, with both values as JSON.
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) saved: Value,
    pub(crate) given: Value,
}

fn difference(field: &str, saved: &Value, given: &Value) -> Option<Difference> {
    match (saved, given) {
        (Value::Object(saved), Value::Object(given)) => saved.keys().chain(given.keys()).find_map(|key| {
            let inner = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or(Value::Null);
            difference(&inner, &value(saved), &value(given))
        }),
        _ if saved == given => None,
        _ => Some(Difference { field: field.to_owned(), saved: saved.clone(), given: given.clone() }),
    }
}
