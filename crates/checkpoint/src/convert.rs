//! Folders as diffusers and transformers write them, of whatever a path holds.
//!
//! ```text
//! a model      config.json, diffusion_pytorch_model.safetensors (diffusers) or model.safetensors (transformers)
//! a pipeline   model_index.json, a folder for each part, the scheduler's and tokenizers' among them
//! too large    ..-00001-of-00003.safetensors and ..safetensors.index.json
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::contents::is_known_surplus;
use crate::folder::read_text;
use crate::save::copy_tensors;
use crate::{
    Checkpoint, CheckpointError, Contents, StoredDType, StoredModel, StoredPipeline, config, write_atomically,
};

/// How a folder is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderOptions {
    /// The type of the floats; without one, each tensor keeps its own.
    pub dtype: Option<StoredDType>,
    /// The most bytes of tensors that one file holds, if it holds more than one tensor; without one, 10 GB for diffusers'
    /// models and 5 GB for transformers', as these have it.
    pub shard_bytes: Option<u64>,
}

/// Write `contents` to the folder `out` as diffusers or transformers do, whole or not at all, floats in `dtype` if one is
/// given. Tensor by tensor: no more than one is in memory.
///
/// A folder's tokenizers and its other parts without weights are copied. A file with a whole model holds no tokenizer: the
/// pipeline is then without one, as its `model_index.json` says.
///
/// # Errors
///
/// [`CheckpointError::Folder`] if there is something at `out` that is no empty folder, or if `contents` are tensors of which
/// nothing is known. [`Overflow`](CheckpointError::Overflow) if a value has no place in `dtype`. What reading and writing
/// give. Whatever the error, `out` is as it was.
pub fn write_folder(
    contents: &Contents,
    out: impl AsRef<Path>,
    dtype: Option<StoredDType>,
) -> Result<(), CheckpointError> {
    write_folder_with(contents, out, &FolderOptions { dtype, ..FolderOptions::default() })
}

/// As [`write_folder`], with more choices.
///
/// # Errors
///
/// As [`write_folder`].
pub fn write_folder_with(
    contents: &Contents,
    out: impl AsRef<Path>,
    options: &FolderOptions,
) -> Result<(), CheckpointError> {
    let out = out.as_ref();
    let fail = |reason: &str| {
        Err(CheckpointError::Folder { folder: out.display().to_string(), reason: reason.to_owned() })
    };
    if out.symlink_metadata().is_ok() && !is_empty_folder(out) {
        return fail("is there already, and is no empty folder; give another place, or remove it first");
    }
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".unfinished");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    let unfinished = builder.tempdir_in(parent).map_err(|error| io_error(out, "write", error))?;
    let place = Place { folder: unfinished.path().to_owned(), label: out.to_owned() };
    match contents {
        Contents::Model(found) => model(found, &place, options)?,
        Contents::Pipeline(found) => pipeline(found, &place, options)?,
        Contents::Scheduler(text) => place.text("scheduler_config.json", text)?,
        Contents::Tensors(found) => {
            let reason = format!(
                "can't be written: the tensors of {} are of no layout that is known, so there is no config to write",
                found.label()
            );
            return fail(&reason);
        }
    }
    // An empty folder gives way; a rename onto one is not possible everywhere.
    if out.is_dir() {
        fs::remove_dir(out).map_err(|error| io_error(out, "replace", error))?;
    }
    fs::rename(unfinished.path(), out).map_err(|error| io_error(out, "write", error))?;
    let _ = unfinished.keep();
    if let Ok(folder) = File::open(parent) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn is_empty_folder(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

fn io_error(file: &Path, action: &'static str, source: io::Error) -> CheckpointError {
    CheckpointError::Io { file: file.display().to_string(), action, source }
}

/// A folder being written, and what it will be called.
struct Place {
    folder: PathBuf,
    label: PathBuf,
}

impl Place {
    fn inner(&self, part: &str) -> Result<Self, CheckpointError> {
        let inner = Self { folder: self.folder.join(part), label: self.label.join(part) };
        fs::create_dir(&inner.folder).map_err(|error| io_error(&inner.label, "write", error))?;
        Ok(inner)
    }

    fn text(&self, name: &str, text: &str) -> Result<(), CheckpointError> {
        let write = |out: &mut dyn Write| writeln!(out, "{}", text.trim_end());
        write_atomically(&self.folder.join(name), write)
            .map_err(|error| io_error(&self.label.join(name), "write", error))
    }

    /// Copy what is in `folder`: a tokenizer's files.
    fn copy(&self, folder: &Path, depth: usize) -> Result<(), CheckpointError> {
        /// Tokenizers have none; a link to its own folder has no end.
        const DEEPEST: usize = 4;
        let read = |error| io_error(folder, "read", error);
        for entry in folder.read_dir().map_err(read)? {
            let entry = entry.map_err(read)?;
            let (from, name) = (entry.path(), entry.file_name());
            if from.is_dir() && depth < DEEPEST {
                let inner = Self { folder: self.folder.join(&name), label: self.label.join(&name) };
                fs::create_dir(&inner.folder).map_err(|error| io_error(&inner.label, "write", error))?;
                inner.copy(&from, depth + 1)?;
            } else if from.is_file() {
                let to = self.folder.join(&name);
                fs::copy(&from, to).map_err(|error| io_error(&from, "copy", error))?;
            }
        }
        Ok(())
    }
}

/// Who reads a model's folder.
#[derive(Clone, Copy, PartialEq)]
enum Library {
    Diffusers,
    Transformers,
}

impl Library {
    fn of(config: &Map<String, Value>) -> Self {
        if config.contains_key("_class_name") || !config.contains_key("architectures") {
            Self::Diffusers
        } else {
            Self::Transformers
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusers",
            Self::Transformers => "transformers",
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusion_pytorch_model",
            Self::Transformers => "model",
        }
    }

    fn shard_bytes(self) -> u64 {
        match self {
            Self::Diffusers => 10_000_000_000,
            Self::Transformers => 5_000_000_000,
        }
    }
}

fn object(model: &StoredModel) -> Result<Map<String, Value>, CheckpointError> {
    serde_json::from_str(&model.config).map_err(|error| CheckpointError::Config {
        file: model.origin.clone(),
        source: crate::ConfigError::NotJson { reason: error.to_string() },
    })
}

fn model(model: &StoredModel, place: &Place, options: &FolderOptions) -> Result<(), CheckpointError> {
    let mut config = object(model)?;
    let library = Library::of(&config);
    match options.dtype {
        // transformers loads in the type that the config names.
        Some(dtype) if library == Library::Transformers => {
            config.remove("torch_dtype");
            config.insert("dtype".to_owned(), json!(python_dtype(dtype)));
            place.text("config.json", &format!("{:#}", Value::Object(config)))?;
        }
        _ => place.text("config.json", &model.config)?,
    }
    weights(&model.weights, library, place, options)
}

fn python_dtype(dtype: StoredDType) -> &'static str {
    match dtype {
        StoredDType::F32 => "float32",
        StoredDType::F16 => "float16",
        StoredDType::Bf16 => "bfloat16",
    }
}

fn weights(
    weights: &Checkpoint,
    library: Library,
    place: &Place,
    options: &FolderOptions,
) -> Result<(), CheckpointError> {
    let limit = options.shard_bytes.unwrap_or(library.shard_bytes());
    let (mut shards, mut total, mut held) = (vec![Vec::new()], 0, 0);
    for (name, info) in weights.tensors() {
        if is_known_surplus(name) && !name.ends_with("num_batches_tracked") {
            continue;
        }
        let elements: u64 = info.shape.iter().fold(1, |all, &side| all.saturating_mul(side as u64));
        let bits = match options.dtype {
            Some(dtype) if is_float(info.dtype) => dtype.bits(),
            _ => info.dtype.bitsize(),
        };
        let bytes = elements.saturating_mul(bits as u64) / 8;
        if held > 0 && bytes > limit.saturating_sub(held) {
            shards.push(Vec::new());
            held = 0;
        }
        if let Some(shard) = shards.last_mut() {
            shard.push(name);
        }
        held = u64::saturating_add(held, bytes);
        total = u64::saturating_add(total, bytes);
    }
    // Python reads no safetensors file that does not say whose layout it has.
    let mut metadata = weights.metadata().clone();
    metadata.insert("format".to_owned(), "pt".to_owned());
    let stem = library.stem();
    let write = |file: &str, names: &[&str]| {
        let label = place.label.join(file).display().to_string();
        copy_tensors(weights, names, options.dtype, &metadata, &place.folder.join(file), &label)
    };
    if let [names] = &shards[..] {
        return write(&format!("{stem}.safetensors"), names);
    }
    let mut map = Map::new();
    for (i, names) in shards.iter().enumerate() {
        let file = format!("{stem}-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write(&file, names)?;
        map.extend(names.iter().map(|name| ((*name).to_owned(), json!(file))));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    place.text(&format!("{stem}.safetensors.index.json"), &format!("{index:#}"))
}

fn is_float(dtype: crate::Dtype) -> bool {
    use crate::Dtype::{BF16, F16, F32, F64};
    matches!(dtype, F16 | BF16 | F32 | F64)
}

fn pipeline(found: &StoredPipeline, place: &Place, options: &FolderOptions) -> Result<(), CheckpointError> {
    for (part, stored) in &found.models {
        model(stored, &place.inner(part)?, options)?;
    }
    for (part, folder) in &found.folders {
        place.inner(part)?.copy(folder, 0)?;
    }
    for (part, text) in &found.configs {
        place.inner(part)?.text("scheduler_config.json", text)?;
    }
    place.text("model_index.json", &format!("{:#}", index(found)?))
}

/// Parts that a class of pipelines expects to be named, if only to say that there is none.
fn expected_parts(class: &str) -> &'static [&'static str] {
    const STABLE_DIFFUSION: &[&str] = &[
        "vae",
        "text_encoder",
        "tokenizer",
        "unet",
        "scheduler",
        "safety_checker",
        "feature_extractor",
        "image_encoder",
    ];
    const XL: &[&str] = &[
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "unet",
        "scheduler",
        "feature_extractor",
        "image_encoder",
    ];
    const THREE: &[&str] = &[
        "transformer",
        "scheduler",
        "vae",
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
        "text_encoder_3",
        "tokenizer_3",
        "feature_extractor",
        "image_encoder",
    ];
    match class {
        "StableDiffusion3Pipeline" => THREE,
        "StableDiffusionXLImg2ImgPipeline"
        | "StableDiffusionXLPipeline"
        | "StableDiffusionXLInpaintPipeline" => XL,
        class if class.starts_with("StableDiffusion") => STABLE_DIFFUSION,
        _ => &[],
    }
}

/// `model_index.json`: the folder's own, if it was a folder; else each part with its library and class.
fn index(found: &StoredPipeline) -> Result<Value, CheckpointError> {
    if let Some(text) = &found.index
        && let Ok(mut index) = serde_json::from_str::<Map<String, Value>>(text)
    {
        // A part that the folder lacks is not claimed.
        for (part, value) in &mut index {
            let there = found.models.contains_key(part) || found.folders.contains_key(part);
            if value.is_array() && !part.starts_with('_') && !there && !found.configs.contains_key(part) {
                *value = json!([null, null]);
            }
        }
        return Ok(Value::Object(index));
    }
    let mut index = Map::new();
    index.insert("_class_name".to_owned(), json!(found.class));
    for part in expected_parts(&found.class) {
        index.insert((*part).to_owned(), json!([null, null]));
    }
    match found.class.as_str() {
        class @ ("StableDiffusionXLPipeline"
        | "StableDiffusionXLInpaintPipeline"
        | "StableDiffusionXLImg2ImgPipeline") => {
            let refiner = class == "StableDiffusionXLImg2ImgPipeline";
            index.insert("force_zeros_for_empty_prompt".to_owned(), json!(!refiner));
            if refiner {
                index.insert("requires_aesthetics_score".to_owned(), json!(true));
            }
        }
        class if class.starts_with("StableDiffusion") && class != "StableDiffusion3Pipeline" => {
            index.insert("requires_safety_checker".to_owned(), json!(false));
        }
        _ => {}
    }
    for (part, stored) in &found.models {
        let class = stored.class()?;
        index.insert(part.clone(), json!([Library::of(&object(stored)?).name(), class]));
    }
    for (part, folder) in &found.folders {
        if let Some(entry) = copied_part(folder) {
            index.insert(part.clone(), entry);
        }
    }
    for (part, text) in &found.configs {
        let class = config::class_of(text).ok().flatten();
        index.insert(part.clone(), json!(["diffusers", class]));
    }
    Ok(Value::Object(index))
}

/// The library and class of a part without weights, as its own config says.
fn copied_part(folder: &Path) -> Option<Value> {
    const CONFIGS: [(&str, &str, &str); 3] = [
        ("scheduler_config.json", "_class_name", "diffusers"),
        ("tokenizer_config.json", "tokenizer_class", "transformers"),
        ("preprocessor_config.json", "feature_extractor_type", "transformers"),
    ];
    CONFIGS.iter().find_map(|(file, field, library)| {
        let text = read_text(&folder.join(file), 1 << 20).ok()?;
        let config: BTreeMap<String, Value> = serde_json::from_str(&text).ok()?;
        Some(json!([library, config.get(*field)?.as_str()?]))
    })
}
