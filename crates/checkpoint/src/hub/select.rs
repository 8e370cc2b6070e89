//! Which of a repository's files a model is made of.

use std::collections::BTreeMap;

/// What is read beside weights.
const TEXTS: &[&str] = &[
    "config.json",
    "model_index.json",
    "scheduler_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Parts of a pipeline that nothing here computes.
const UNUSED: &[&str] = &["safety_checker", "feature_extractor", "image_encoder"];

/// What libraries call the weights beside a `config.json`.
const STEMS: &[&str] = &["diffusion_pytorch_model", "model", "pytorch_model"];

/// The files of the model at `path` (`None`: the repository's root), out of all of a repository's `files`: configs,
/// tokenizers, and one set of weights a folder, those of `variant` where there are such; safetensors before all else.
pub(super) fn select(
    files: &[String],
    path: Option<&str>,
    variant: Option<&str>,
) -> Result<Vec<String>, String> {
    if let Some(path) = path
        && files.iter().any(|file| file == path)
    {
        return Ok(vec![path.to_owned()]);
    }
    let scope = path.map_or_else(String::new, |path| format!("{path}/"));
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter_map(|file| file.strip_prefix(&scope)) {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        folders.entry(folder).or_default().push(name);
    }
    if folders.is_empty() {
        return Err(format!("there is no {}", path.unwrap_or("file in it")));
    }
    // A pipeline's root may hold all of it in one file once more; its parts have folders of their own.
    let pipeline = folders.get("").is_some_and(|root| root.contains(&"model_index.json"));
    folders.retain(|folder, names| match pipeline {
        true => !folder.contains('/') && !UNUSED.contains(folder) && texts(names).next().is_some(),
        false => folder.is_empty(),
    });
    let mut chosen = Vec::new();
    let mut model = pipeline;
    for (folder, names) in &folders {
        let weights = match pipeline && folder.is_empty() {
            true => Vec::new(),
            false => weights(names, variant)?,
        };
        model |= !weights.is_empty() || names.contains(&"scheduler_config.json");
        let prefix = if folder.is_empty() { scope.clone() } else { format!("{scope}{folder}/") };
        chosen.extend(texts(names).chain(weights).map(|name| format!("{prefix}{name}")));
    }
    // A tokenizer alone is worth having too; a folder of folders is not.
    if !model && chosen.is_empty() {
        return Err(format!("{} holds no model that could be loaded", path.unwrap_or("it")));
    }
    Ok(chosen)
}

fn texts<'a>(names: &[&'a str]) -> impl Iterator<Item = &'a str> {
    names.iter().copied().filter(|name| TEXTS.contains(name))
}

/// What the name of a file with weights, or of an index of such files, tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weights<'a> {
    /// safetensors before .bin before everything else.
    format: usize,
    /// Weights in one file before shards.
    sharded: bool,
    /// The place in [`STEMS`]; behind them all for another name.
    rank: usize,
    stem: &'a str,
    variant: Option<&'a str>,
    name: &'a str,
}

impl<'a> Weights<'a> {
    /// `stem[.variant][-00001-of-00002].safetensors`, `stem-00001-of-00002.variant.safetensors`, and as indexes
    /// `stem.safetensors.index[.variant].json`, `stem.variant.safetensors.index.json`.
    fn parse(name: &'a str) -> Option<Self> {
        let mut pieces: Vec<&str> = name.split('.').collect();
        let mut sharded = false;
        if pieces.last() == Some(&"json") && pieces.contains(&"index") {
            pieces.retain(|piece| !matches!(*piece, "json" | "index"));
            sharded = true;
        }
        let at = pieces.iter().rposition(|piece| FORMATS.iter().any(|format| format.contains(piece)))?;
        let format = FORMATS.iter().position(|format| format.contains(&pieces[at]))?;
        pieces.remove(at);
        for piece in &mut pieces {
            if let Some(whole) = without_shard(piece) {
                (*piece, sharded) = (whole, true);
            }
        }
        let (stem, variant) = match pieces[..] {
            [stem] => (stem, None),
            [stem, variant] if STEMS.contains(&stem) => (stem, Some(variant)),
            // Dots are common in the names of files that stand alone.
            _ => (name, None),
        };
        let rank = STEMS.iter().position(|known| *known == stem).unwrap_or(STEMS.len());
        Some(Self { format, sharded, rank, stem, variant, name })
    }
}

const FORMATS: &[&[&str]] = &[&["safetensors"], &["bin"], &["pt", "pth", "ckpt"]];

/// `model` of `model-00001-of-00002`.
fn without_shard(piece: &str) -> Option<&str> {
    let (rest, count) = piece.rsplit_once("-of-")?;
    let (whole, index) = rest.rsplit_once('-')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(count) && number(index)).then_some(whole)
}

fn weights<'a>(names: &[&'a str], variant: Option<&str>) -> Result<Vec<&'a str>, String> {
    let mut found: Vec<Weights<'a>> = names.iter().filter_map(|name| Weights::parse(name)).collect();
    if found.iter().any(|weights| weights.rank < STEMS.len()) {
        found.retain(|weights| weights.rank < STEMS.len());
    }
    let has = |wanted: Option<&str>| found.iter().any(|weights| weights.variant == wanted);
    // As diffusers: a part without the variant is taken as it is. Beyond it: a model that has variants alone is loaded.
    let wanted = match variant {
        Some(variant) if has(Some(variant)) => Some(variant),
        _ if has(None) => None,
        _ if has(Some("fp16")) => Some("fp16"),
        _ => found.iter().find_map(|weights| weights.variant),
    };
    found.retain(|weights| weights.variant == wanted);
    let Some(best) = found.iter().min().copied() else {
        return Ok(Vec::new());
    };
    found.retain(|weights| weights.format == best.format);
    if best.rank == STEMS.len() && found.iter().any(|weights| weights.stem != best.stem) {
        let names: Vec<_> = found.iter().map(|weights| weights.name).collect();
        return Err(format!("it holds several models; name one of {} after a `/`", names.join(", ")));
    }
    found.retain(|weights| weights.stem == best.stem && weights.sharded == best.sharded);
    Ok(found.into_iter().map(|weights| weights.name).collect())
}
