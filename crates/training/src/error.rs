//! What can go wrong in a run.

use std::path::PathBuf;

use kiln_checkpoint::CheckpointError;
use kiln_optim::StateError;
use serde_json::Value;

use crate::observer::BoxError;

/// What ends a run, or keeps it from beginning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A field of the configuration is out of its range.
    #[error("the training configuration's {field} {message}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The model has no parameter to train.
    #[error("the model has no parameters: there is nothing to train")]
    NoParameters,
    /// A run is begun in a folder that holds one already.
    #[error("{} holds a run already (step {step}): resume it, or choose another folder", .dir.display())]
    AlreadyStarted {
        /// The folder.
        dir: PathBuf,
        /// The newest checkpoint's step.
        step: usize,
    },
    /// There is nothing to resume.
    #[error("{} holds no checkpoint (checkpoint-*.safetensors): there is nothing to resume", .dir.display())]
    NothingToResume {
        /// The folder.
        dir: PathBuf,
    },
    /// A file or folder can't be read or written.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A checkpoint can't be written, or can't be read: it is cut short, damaged, or no such file.
    #[error("{source}{}", instead(.previous))]
    Checkpoint {
        /// What is wrong with which file.
        source: Box<CheckpointError>,
        /// The whole checkpoint before it, if there is one.
        previous: Option<PathBuf>,
    },
    /// A file is a readable safetensors file, but no checkpoint of a run.
    #[error("{} is no checkpoint of a training run: {message}{}", .path.display(), instead(.previous))]
    NotARun {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        message: String,
        /// The checkpoint before it, if there is one.
        previous: Option<PathBuf>,
    },
    /// A checkpoint's tensors do not fit the model.
    #[error("{} does not fit the model: its {part}'s {source}", .path.display())]
    State {
        /// The checkpoint.
        path: PathBuf,
        /// Which part of the state: model, average or optimizer.
        part: &'static str,
        /// What does not fit.
        source: Box<StateError>,
    },
    /// A run is resumed with another configuration.
    #[error(
        "{} was trained with {field} = {saved}, and is resumed with {given}: give the same, or train anew",
        .path.display()
    )]
    ConfigChanged {
        /// The checkpoint.
        path: PathBuf,
        /// The field, with dots into nested ones.
        field: String,
        /// Its value in the checkpoint.
        saved: Value,
        /// Its value now.
        given: Value,
    },
    /// The loss or the gradients are no longer finite; the weights were not touched by this step.
    #[error(
        "in step {step} the {quantity} is {value}: training has diverged. Train anew with a lower learning_rate \
         (in this step {learning_rate}), a longer warm-up or a smaller clip_norm{}",
        kept(.last_checkpoint)
    )]
    Diverged {
        /// The step, counted from 1.
        step: usize,
        /// What is not finite: the loss, or the norm of the gradients.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// The step's learning rate.
        learning_rate: f64,
        /// The last checkpoint, which is kept.
        last_checkpoint: Option<PathBuf>,
    },
    /// A device of another machine went away in the step.
    #[error("in step {step} a remote device went away: {reason}{}", kept(.last_checkpoint))]
    DeviceLost {
        /// The step, counted from 1.
        step: usize,
        /// What Burn said.
        reason: String,
        /// The last checkpoint, which is kept.
        last_checkpoint: Option<PathBuf>,
    },
    /// The step's closure failed.
    #[error("step {step}: {source}")]
    Step {
        /// The step, counted from 1.
        step: usize,
        /// Its error.
        source: BoxError,
    },
    /// The observer failed.
    #[error("after step {step}: {source}")]
    Observer {
        /// The number of steps made.
        step: usize,
        /// Its error.
        source: BoxError,
    },
}

fn instead(previous: &Option<PathBuf>) -> String {
    match previous {
        Some(path) => format!("; delete it to go on from {}", path.display()),
        None => String::new(),
    }
}

fn kept(last: &Option<PathBuf>) -> String {
    match last {
        Some(path) => format!("; the last checkpoint, {}, is kept", path.display()),
        None => String::new(),
    }
}
