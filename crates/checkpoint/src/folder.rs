//! The folders that diffusers and transformers write.
//!
//! ```text
//! pipeline   model_index.json, and a folder for each part that it names
//! model      config.json, and its weights: one file, or an index and its shards
//! scheduler  scheduler_config.json
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::{
    Checkpoint, CheckpointError, ConfigError, Contents, OpenOptions, StoredModel, StoredPipeline, config,
    shards,
};

/// A config is text of some kilobytes; the longest published (a thousand named classes) has 100.
const MAX_CONFIG: u64 = 1 << 20;

/// What a folder holds.
pub(crate) fn open(folder: &Path, options: &OpenOptions) -> Result<Contents, CheckpointError> {
    let index = folder.join("model_index.json");
    if index.is_file() {
        return pipeline(folder, &index, options).map(Contents::Pipeline);
    }
    let config = folder.join("config.json");
    if config.is_file() {
        return model(folder, &config, options).map(Contents::Model);
    }
    let scheduler = folder.join("scheduler_config.json");
    if scheduler.is_file() {
        // Not looked into here: Python writes infinities in some, which is no JSON.
        return Ok(Contents::Scheduler(read_text(&scheduler, MAX_CONFIG)?));
    }
    let reason = "holds none of model_index.json, config.json and scheduler_config.json; give the path of a file of \
                  weights, or of a folder as diffusers or transformers write them";
    Err(CheckpointError::Folder { folder: folder.display().to_string(), reason: reason.to_owned() })
}

fn model(folder: &Path, config: &Path, options: &OpenOptions) -> Result<StoredModel, CheckpointError> {
    let text = read_text(config, MAX_CONFIG)?;
    config::class_of(&text).map_err(|source| at(config, source))?;
    let weights = shards::open(folder, options)?;
    Ok(StoredModel { config: text, weights, origin: config.display().to_string() })
}

/// What a file of weights is by the config beside it, if there is one.
pub(crate) fn beside(file: &Path, weights: Checkpoint) -> Result<Contents, CheckpointError> {
    let config = file.with_file_name("config.json");
    if !config.is_file() {
        return Ok(Contents::Tensors(weights));
    }
    let text = read_text(&config, MAX_CONFIG)?;
    config::class_of(&text).map_err(|source| at(&config, source))?;
    Ok(Contents::Model(StoredModel { config: text, weights, origin: config.display().to_string() }))
}

fn pipeline(folder: &Path, index: &Path, options: &OpenOptions) -> Result<StoredPipeline, CheckpointError> {
    let fail = |reason: String| CheckpointError::Index { file: index.display().to_string(), reason };
    let text = read_text(index, MAX_CONFIG)?;
    let object: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| at(index, ConfigError::NotJson { reason: error.to_string() }))?;
    let class = match object.get("_class_name") {
        Some(Value::String(class)) => class.clone(),
        _ => return Err(fail("it names no pipeline in `_class_name`".to_owned())),
    };
    let (mut models, mut folders) = (BTreeMap::new(), BTreeMap::new());
    for (part, value) in &object {
        // Each part is [library, class]; one that was left out is [null, null]. All else is an option of the pipeline.
        let Value::Array(names) = value else { continue };
        if part.starts_with('_') || names.len() != 2 || !names.iter().all(Value::is_string) {
            continue;
        }
        let path =
            inside(folder, part).ok_or_else(|| fail(format!("part `{part}` lies outside the folder")))?;
        let config = path.join("config.json");
        if config.is_file() {
            models.insert(part.clone(), model(&path, &config, options)?);
            // Several networks as one part (`MultiControlNetModel`): the folder named, then `part_1`, `part_2`, ...
            if names[1].as_str().is_some_and(|class| class.contains("Multi")) {
                for number in 1.. {
                    let part = format!("{part}_{number}");
                    let path = folder.join(&part);
                    let config = path.join("config.json");
                    if !config.is_file() {
                        break;
                    }
                    models.insert(part, model(&path, &config, options)?);
                }
            }
        } else if path.is_dir() {
            folders.insert(part.clone(), path);
        } else {
            tracing::warn!("{}: part `{part}` is not in the folder", index.display());
        }
    }
    Ok(StoredPipeline { class, models, folders, configs: BTreeMap::new(), index: Some(text) })
}

/// The path of `name` in `folder`, unless it leads out of it. What is there may be a link to anywhere: that is how the
/// Hub's cache is built.
pub(crate) fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = Path::new(name);
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && name.components().next().is_some()).then(|| folder.join(name))
}

/// A text file, if it is no longer than such files are.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, CheckpointError> {
    let io = |source| CheckpointError::Io { file: path.display().to_string(), action: "read", source };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_string(&mut text)).map_err(io)?;
    if text.len() as u64 > limit {
        let reason = format!("is longer than the {limit} bytes that such a file may have");
        return Err(io(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(text)
}

fn at(file: &Path, source: ConfigError) -> CheckpointError {
    CheckpointError::Config { file: file.display().to_string(), source }
}
