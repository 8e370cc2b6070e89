//! What a path holds: one network, or a pipeline of several, wherever and in whatever layout they are stored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Checkpoint;

/// One network: its `config.json` and its weights, under the names of diffusers or transformers.
#[derive(Clone, Debug)]
pub struct StoredModel {
    /// The JSON of its config.
    pub config: String,
    /// Its weights.
    pub weights: Checkpoint,
}

/// The parts of a pipeline.
#[derive(Clone, Debug)]
pub struct StoredPipeline {
    /// The pipeline's class, as in `model_index.json`.
    pub class: String,
    /// Its networks by the name of their part: `unet`, `vae`, `text_encoder`, ...
    pub models: BTreeMap<String, StoredModel>,
    /// The folders of its parts without weights: `scheduler`, `tokenizer`, ...
    pub folders: BTreeMap<String, PathBuf>,
}

/// What a path holds.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a program")]
pub enum Contents {
    /// One network.
    Model(StoredModel),
    /// A pipeline.
    Pipeline(StoredPipeline),
    /// A scheduler's config alone.
    Scheduler(String),
    /// Tensors of no layout that is known here.
    Tensors(Checkpoint),
}
