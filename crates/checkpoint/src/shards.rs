//! The weights in a model's folder: which file, or which index and shards.
//!
//! ```text
//! diffusion_pytorch_model.safetensors                                  diffusers
//! model.safetensors, model.fp16.safetensors                            transformers; a variant
//! model.safetensors.index.json, model.safetensors.index.fp16.json      {"weight_map": {tensor: file}}
//! diffusion_pytorch_model.bin, pytorch_model.bin(.index.json)          PyTorch's own format
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use crate::folder::{inside, read_text};
use crate::{Checkpoint, CheckpointError, OpenOptions};

const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];
const FORMATS: [&str; 2] = ["safetensors", "bin"];
/// An index of a hundred thousand tensors has about as much.
const MAX_INDEX: u64 = 1 << 24;
/// The largest models published have a hundred thousand tensors in all their shards.
const MAX_TENSORS: usize = 1 << 17;
/// And some two hundred shards.
const MAX_FILES: usize = 1 << 13;

/// The weights of the model in `folder`.
pub(crate) fn open(folder: &Path, options: &OpenOptions) -> Result<Checkpoint, CheckpointError> {
    if let Some(variant) = &options.variant {
        return find(folder, Some(variant))
            .unwrap_or_else(|| Err(none(folder, &format!("no weights of variant `{variant}`"))));
    }
    if let Some(weights) = find(folder, None) {
        return weights;
    }
    variants(folder)
        .iter()
        .find_map(|variant| find(folder, Some(variant)))
        .unwrap_or_else(|| Err(none(folder, "no weights")))
}

fn none(folder: &Path, what: &str) -> CheckpointError {
    let reason = format!(
        "holds a config and {what}: diffusion_pytorch_model, model or pytorch_model, as .safetensors or .bin, or an index \
         of shards"
    );
    CheckpointError::Folder { folder: folder.display().to_string(), reason }
}

/// The first file of weights that there is, opened.
fn find(folder: &Path, variant: Option<&str>) -> Option<Result<Checkpoint, CheckpointError>> {
    for format in FORMATS {
        for stem in STEMS {
            let (files, indices) = match variant {
                None => (vec![format!("{stem}.{format}")], vec![format!("{stem}.{format}.index.json")]),
                Some(variant) => (
                    vec![format!("{stem}.{variant}.{format}")],
                    vec![
                        format!("{stem}.{format}.index.{variant}.json"),
                        format!("{stem}.{variant}.{format}.index.json"),
                    ],
                ),
            };
            let there = |names: Vec<String>| {
                names.into_iter().filter_map(|name| inside(folder, &name)).find(|path| path.is_file())
            };
            if let Some(file) = there(files) {
                return Some(Checkpoint::open(file));
            }
            if let Some(index) = there(indices) {
                return Some(sharded(folder, &index));
            }
        }
    }
    None
}

/// The variants that a folder has files of: half precision first, then by name.
fn variants(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().into_iter().flatten().flatten();
    let found: BTreeSet<String> =
        names.filter_map(|entry| variant_of(&entry.file_name().to_string_lossy())).collect();
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|variant| !matches!(variant.as_str(), "fp16" | "bf16"));
    found
}

/// `fp16` of `model.fp16.safetensors`, `model.safetensors.index.fp16.json` or `model.fp16.safetensors.index.json`.
fn variant_of(name: &str) -> Option<String> {
    let rest = STEMS.iter().find_map(|stem| name.strip_prefix(stem)?.strip_prefix('.'))?;
    let variant = FORMATS.iter().find_map(|format| {
        let index = rest.strip_prefix(format).and_then(|rest| rest.strip_prefix(".index."));
        index.and_then(|rest| rest.strip_suffix(".json")).or_else(|| {
            let rest = rest.strip_suffix(".index.json").unwrap_or(rest);
            rest.strip_suffix(format)?.strip_suffix('.')
        })
    })?;
    // `model.fp16-00001-of-00002.safetensors` is a shard of one.
    (!variant.is_empty() && !variant.contains("-of-")).then(|| variant.to_owned())
}

/// A model in several files, as an index says.
fn sharded(folder: &Path, index: &Path) -> Result<Checkpoint, CheckpointError> {
    let file = index.display().to_string();
    let fail = |reason| CheckpointError::Index { file: file.clone(), reason };
    let text = read_text(index, MAX_INDEX)?;
    let index: Index =
        serde_json::from_str(&text).map_err(|error| fail(format!("not an index of shards: {error}")))?;
    drop(text);
    let mut shards = Vec::new();
    for (name, tensors) in &index.weight_map.0 {
        let first = tensors.first().map_or("", String::as_str);
        let path = inside(folder, name)
            .ok_or_else(|| fail(format!("tensor `{first}` is in `{name}`, which lies outside the folder")))?;
        if !path.is_file() {
            return Err(fail(format!("tensor `{first}` is in `{name}`, which is not in the folder")));
        }
        let shard = Checkpoint::open(path)?;
        let missing: Vec<_> = tensors.iter().filter(|name| shard.info(name).is_none()).collect();
        if let Some(first) = missing.first() {
            return Err(CheckpointError::Missing {
                file: shard.label().to_owned(),
                tensor: (*first).clone(),
                others: missing.len() - 1,
            });
        }
        shards.push(shard);
    }
    Checkpoint::merge(file, shards)
}

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// The tensors of each file.
struct WeightMap(BTreeMap<String, Vec<String>>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Files;
        impl<'de> Visitor<'de> for Files {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors and the files that they are in")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut files = BTreeMap::<String, Vec<String>>::new();
                for count in 0.. {
                    let Some((tensor, file)) = map.next_entry()? else { break };
                    if count == MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    files.entry(file).or_default().push(tensor);
                    if files.len() > MAX_FILES {
                        return Err(A::Error::custom(format!("more than {MAX_FILES} files")));
                    }
                }
                Ok(WeightMap(files))
            }
        }
        deserializer.deserialize_map(Files)
    }
}
