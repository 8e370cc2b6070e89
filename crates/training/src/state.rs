//! The whole state of a run in one file, and the folder that such files live in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::TensorData;
use kiln_checkpoint::{Checkpoint, CheckpointError, save_tensors};
use kiln_optim::weights::{weights_of, with_weights};
use kiln_optim::{StateDict, StateError};

use crate::{TrainerConfig, TrainingError};

/// What a checkpoint of a run holds: step, configuration, weights, averaged weights and the optimizer's moments.
///
/// A checkpoint is a safetensors file. Its tensors are named `model.PATH`, `average.PATH` and
/// `optimizer.PATH.first_moment` (and `second_moment`), raw, with the field names of the module as paths; everything
/// else is in its metadata.
#[derive(Debug)]
pub struct TrainingState {
    path: PathBuf,
    checkpoint: Checkpoint,
    step: usize,
    updates: usize,
    config: TrainerConfig,
    /// The numbers of the optimizer's state.
    scalars: BTreeMap<String, f64>,
}

const FORMAT: (&str, &str) = ("format", "kiln training checkpoint 1");
const MODEL: &str = "model.";
const AVERAGE: &str = "average.";
const OPTIMIZER: &str = "optimizer.";

impl TrainingState {
    /// The newest checkpoint in a run's folder.
    ///
    /// # Errors
    ///
    /// [`TrainingError::NothingToResume`] where there is none; where the newest is damaged, those of
    /// [`open`](Self::open), and the message names the one before it.
    pub fn latest(dir: impl AsRef<Path>) -> Result<Self, TrainingError> {
        let dir = dir.as_ref();
        let mut checkpoints = list(dir)?;
        let Some((_, path)) = checkpoints.pop() else {
            return Err(TrainingError::NothingToResume { dir: dir.to_owned() });
        };
        let previous = checkpoints.pop().map(|(_, path)| path);
        Self::open(&path).map_err(|error| match error {
            // Deleting a file that can't be reached helps no one.
            TrainingError::Checkpoint { source, .. } if !matches!(*source, CheckpointError::Io { .. }) => {
                TrainingError::Checkpoint { source, previous }
            }
            TrainingError::NotARun { path, message, .. } => {
                TrainingError::NotARun { path, message, previous }
            }
            other => other,
        })
    }

    /// The checkpoint in the file `path`. The tensors are read when they are asked for.
    ///
    /// # Errors
    ///
    /// [`TrainingError::Checkpoint`] where it can't be read, is cut short or damaged, [`TrainingError::NotARun`] where
    /// it is a file of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TrainingError> {
        let path = path.as_ref();
        let checkpoint = Checkpoint::open(path).map_err(unreadable)?;
        let not_a_run =
            |message: String| TrainingError::NotARun { path: path.to_owned(), message, previous: None };
        let entry = |key: &str| {
            let value = checkpoint.metadata().get(key);
            value.ok_or_else(|| not_a_run(format!("its metadata has no entry \"{key}\"")))
        };
        let (key, format) = FORMAT;
        let found = entry(key)?;
        if found != format {
            return Err(not_a_run(format!("its {key} is \"{found}\", not \"{format}\"")));
        }
        let (step, updates) = (entry("step")?, entry("average_updates")?);
        let (config, scalars) = (entry("config")?, entry("optimizer")?);
        let malformed = |key: &'static str| {
            move |error: serde_json::Error| not_a_run(format!("its metadata's entry \"{key}\": {error}"))
        };
        Ok(Self {
            path: path.to_owned(),
            step: serde_json::from_str(step).map_err(malformed("step"))?,
            updates: serde_json::from_str(updates).map_err(malformed("average_updates"))?,
            config: serde_json::from_str(config).map_err(malformed("config"))?,
            scalars: serde_json::from_str(scalars).map_err(malformed("optimizer"))?,
            checkpoint,
        })
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of steps made.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// The run's configuration, with the horizon of its schedule written out.
    #[must_use]
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The number of updates that the average has had.
    pub(crate) fn updates(&self) -> usize {
        self.updates
    }

    /// `model` with the averaged weights: what is used once training is over.
    ///
    /// # Errors
    ///
    /// [`TrainingError::State`] where they do not fit, [`TrainingError::Checkpoint`] where they can't be read.
    pub fn averaged<M: Module>(&self, model: M) -> Result<M, TrainingError> {
        self.load(model, AVERAGE, "average")
    }

    /// `model` with the weights that are trained.
    pub(crate) fn trained<M: Module>(&self, model: M) -> Result<M, TrainingError> {
        self.load(model, MODEL, "model")
    }

    /// The optimizer's state.
    pub(crate) fn optimizer(&self) -> Result<StateDict, TrainingError> {
        Ok(StateDict { tensors: self.part(OPTIMIZER)?, scalars: self.scalars.clone() })
    }

    pub(crate) fn misfit(&self, part: &'static str, source: StateError) -> TrainingError {
        TrainingError::State { path: self.path.clone(), part, source: Box::new(source) }
    }

    fn load<M: Module>(&self, model: M, prefix: &str, part: &'static str) -> Result<M, TrainingError> {
        let _span = tracing::info_span!("load", path = %self.path.display(), part).entered();
        with_weights(model, self.part(prefix)?).map_err(|source| self.misfit(part, source))
    }

    fn part(&self, prefix: &str) -> Result<BTreeMap<String, TensorData>, TrainingError> {
        let part = self.checkpoint.part(prefix);
        let names = part.tensors().map(|(name, _)| name.to_owned());
        names.map(|name| Ok((name.clone(), part.tensor(&name).map_err(unreadable)?))).collect()
    }
}

fn unreadable(source: CheckpointError) -> TrainingError {
    TrainingError::Checkpoint { source: Box::new(source), previous: None }
}

/// What [`save`] writes.
pub(crate) struct Snapshot<'a, M> {
    pub(crate) step: usize,
    pub(crate) updates: usize,
    pub(crate) config: &'a TrainerConfig,
    pub(crate) model: &'a M,
    pub(crate) average: &'a M,
    pub(crate) optimizer: StateDict,
}

/// Writes a checkpoint, whole or not at all, and removes all but the one before it.
pub(crate) fn save<M: Module>(dir: &Path, snapshot: Snapshot<'_, M>) -> Result<PathBuf, TrainingError> {
    let Snapshot { step, updates, config, model, average, optimizer } = snapshot;
    let path = dir.join(format!("checkpoint-{step:08}.safetensors"));
    let _span = tracing::info_span!("checkpoint", path = %path.display()).entered();
    let json = |value: Result<String, serde_json::Error>| value.expect("plain data");
    let metadata = BTreeMap::from([
        (FORMAT.0.to_owned(), FORMAT.1.to_owned()),
        ("step".to_owned(), step.to_string()),
        ("average_updates".to_owned(), updates.to_string()),
        ("config".to_owned(), json(serde_json::to_string(config))),
        ("optimizer".to_owned(), json(serde_json::to_string(&optimizer.scalars))),
    ]);
    let mut tensors = BTreeMap::new();
    for (prefix, part) in
        [(MODEL, weights_of(model)), (AVERAGE, weights_of(average)), (OPTIMIZER, optimizer.tensors)]
    {
        tensors.extend(part.into_iter().map(|(name, data)| (format!("{prefix}{name}"), data)));
    }
    save_tensors(tensors, &metadata, &path).map_err(unreadable)?;
    let mut others = list(dir)?;
    others.retain(|(other, _)| *other < step);
    others.pop();
    for (_, path) in others {
        std::fs::remove_file(&path).map_err(|source| TrainingError::Io { action: "remove", path, source })?;
    }
    Ok(path)
}

/// The checkpoints of a folder with their steps, oldest first; none where there is no such folder.
pub(crate) fn list(dir: &Path) -> Result<Vec<(usize, PathBuf)>, TrainingError> {
    let fail = |source| TrainingError::Io { action: "read", path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut checkpoints = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name
            .and_then(|name| name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok());
        if let Some(step) = step {
            checkpoints.push((step, path));
        }
    }
    checkpoints.sort();
    Ok(checkpoints)
}
