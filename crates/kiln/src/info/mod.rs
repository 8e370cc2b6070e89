//! `kiln info`: what a path holds, how large it is, and what this build can do with it. No tensor is read.

mod report;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use kiln::ModelCard;
use kiln::checkpoint::{Checkpoint, Contents, OpenOptions, StoredModel, StoredPipeline};

use kiln::diffusion::Schedule;
use kiln::text::Tokenizer;

use crate::cli::Info;
use crate::output::print;
use crate::source;
use crate::train::MODEL_FILE;
use crate::verify::CLASSES;
use report::{Ability, Part, Report};

/// Steps that a scheduler is tried with.
const STEPS: usize = 50;

pub fn run(options: &Info) -> Result<()> {
    let path = source::locate(&options.path, options.variant.as_deref())?;
    let report = look(&path, options)?;
    match options.json {
        true => print(serde_json::to_string_pretty(&report)?),
        false => print(report),
    }
}

fn look(path: &Path, options: &Info) -> Result<Report> {
    let mut report = Report::new(&options.path, size_of(path)?);
    // The folder of a run of `kiln train`.
    let trained = path.join(MODEL_FILE);
    let run = path.is_dir() && trained.is_file() && !path.join("config.json").exists();
    let path = if run { trained.as_path() } else { path };
    if path.is_dir() && is_tokenizer(path) {
        report.kind = "tokenizer";
        report.layout = "transformers".to_owned();
        match Tokenizer::open(path) {
            Ok(tokenizer) => report.note(&format!("{} tokens", tokenizer.vocabulary())),
            Err(error) => report.note(&error.to_string()),
        }
        report.generate = Ability::no("a tokenizer alone draws nothing");
        report.verify = Ability::no("a tokenizer computes nothing that could be compared");
        report.convert = Ability::no("its files are used as they are");
        return Ok(report);
    }
    let file = path.is_file().then(|| format(path)).transpose()?;
    let contents = Contents::open_with(path, &OpenOptions { variant: options.variant.clone() })?;
    match &contents {
        Contents::Model(model) => {
            report.kind = "model";
            report.class = model.class()?;
            report.layout = layout(file, report.class.as_deref(), || Ok(Checkpoint::open(path)?))?;
            let part = part(None, model)?;
            report.verify = part.verify.clone();
            report.parts.push(part);
        }
        Contents::Pipeline(pipeline) => {
            report.kind = "pipeline";
            report.class = Some(pipeline.class.clone());
            report.layout = layout(file, report.class.as_deref(), || Ok(Checkpoint::open(path)?))?;
            parts(pipeline, &mut report)?;
        }
        Contents::Scheduler(text) => {
            report.kind = "scheduler";
            report.class = Some(Schedule::class(text)?);
            report.layout = "diffusers".to_owned();
            report.verify = match Schedule::read(text, STEPS) {
                Ok(_) => Ability::yes(),
                Err(error) => Ability::no(error.to_string()),
            };
        }
        Contents::Tensors(tensors) => unknown(tensors, &mut report)?,
    }
    if !matches!(contents, Contents::Tensors(_)) {
        report.convert = Ability::yes();
        report.generate = Ability::no("generate draws with the models that `kiln train` writes");
    }
    Ok(report)
}

fn parts(pipeline: &StoredPipeline, report: &mut Report) -> Result<()> {
    for (name, model) in &pipeline.models {
        report.parts.push(part(Some(name), model)?);
    }
    let known: Vec<_> =
        report.parts.iter().filter(|part| part.verify.can).filter_map(|p| p.name.clone()).collect();
    report.verify = match known.is_empty() {
        true => Ability::no("none of its parts is of a class that is known here"),
        false => Ability::yes_with(format!("part by part: {}", known.join(", "))),
    };
    report.others.extend(pipeline.folders.keys().cloned());
    report.others.extend(pipeline.configs.keys().cloned());
    Ok(())
}

fn part(name: Option<&str>, model: &StoredModel) -> Result<Part> {
    let class = model.class()?;
    let verify = match class.as_deref() {
        None => Ability::no("its config names no class"),
        Some(class) => match CLASSES.iter().find(|case| case.class == class) {
            None => Ability::no(format!("`{class}` is no class that is known here")),
            Some(case) => match (case.check)(&model.config) {
                Ok(()) => Ability::yes(),
                Err(error) => Ability::no(error.to_string()),
            },
        },
    };
    Ok(Part::new(name, class, &model.weights, verify))
}

/// A file of tensors that no layout accounts for: perhaps one of kiln's own.
fn unknown(tensors: &Checkpoint, report: &mut Report) -> Result<()> {
    const NAMES: usize = 12;
    let nothing = "its tensors are of no layout that is known here";
    let mut part = Part::new(None, None, tensors, Ability::no(nothing));
    report.verify = part.verify.clone();
    report.convert = Ability::no(nothing);
    if let Some(card) = tensors.metadata().get("kiln.picture_model") {
        let card: ModelCard = serde_json::from_str(card)
            .with_context(|| format!("{}: its description can't be read", tensors.label()))?;
        report.kind = "picture model";
        report.layout = "kiln".to_owned();
        part.class = Some(card.network.class().to_owned());
        let [height, width] = card.size;
        report.note(&format!("draws pictures of {height} x {width}, {} channels", card.network.channels()));
        if !card.classes.is_empty() {
            report.note(&format!("classes: {}", card.classes.join(", ")));
        }
        report.generate = match card.check() {
            Ok(()) => Ability::yes(),
            Err(error) => Ability::no(error.to_string()),
        };
        let apart = "a picture model has its description in the file, and no config.json";
        (part.verify, report.verify, report.convert) =
            (Ability::no(apart), Ability::no(apart), Ability::no(apart));
    } else {
        report.kind = "tensors";
        report.layout = "unknown".to_owned();
        report.generate = Ability::no(nothing);
        let mut names =
            tensors.tensors().map(|(name, info)| format!("{name} {:?} {:?}", info.dtype, info.shape));
        report.tensors = names.by_ref().take(NAMES).collect();
        let more = names.count();
        if more > 0 {
            report.tensors.push(format!("and {more} more"));
        }
    }
    report.parts.push(part);
    Ok(())
}

/// Whether a folder holds a tokenizer and nothing else.
fn is_tokenizer(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let other = ["config.json", "model_index.json", "scheduler_config.json"].into_iter().any(has);
    !other && (has("tokenizer.json") || (has("vocab.json") && has("merges.txt")) || has("spiece.model"))
}

/// The format of a file, by its first bytes: a safetensors file begins with the length of its header, in 8 bytes, and a `{`.
fn format(path: &Path) -> Result<&'static str> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(9).read_to_end(&mut head))
        .with_context(|| format!("{} can't be read", path.display()))?;
    Ok(if head.last() == Some(&b'{') && !head.starts_with(b"PK") { "safetensors" } else { "PyTorch" })
}

/// Whose names the tensors have: of a folder, its library's; of a file, by keys that only one layout has.
fn layout(
    format: Option<&'static str>,
    class: Option<&str>,
    open: impl FnOnce() -> Result<Checkpoint>,
) -> Result<String> {
    const KEYS: &[(&str, &str)] = &[
        ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3 in one file"),
        ("model.diffusion_model.", "CompVis: Stable Diffusion in one file"),
        ("control_model.", "ControlNet's own"),
        ("input_hint_block.", "ControlNet's own"),
        ("joint_blocks.", "Stable Diffusion 3's own"),
        ("first_stage_model.", "CompVis"),
        ("encoder.down.0.block.", "CompVis"),
        ("middle_block.", "OpenAI's guided diffusion"),
    ];
    let library = if class.is_some_and(|class| class.starts_with("CLIP") || class.starts_with("T5")) {
        "transformers"
    } else {
        "diffusers"
    };
    let Some(format) = format else { return Ok(library.to_owned()) };
    let file = open()?;
    let holds = |key: &str| file.tensors().any(|(name, _)| name.starts_with(key));
    let names = KEYS.iter().find(|(key, _)| holds(key)).map_or(library, |(_, names)| names);
    Ok(format!("{names} ({format})"))
}

/// Bytes of a file, or of all that is in a folder.
fn size_of(path: &Path) -> Result<u64> {
    let context = || format!("{} can't be read", path.display());
    // A link leads to the file: that is how the Hub's cache is built.
    let metadata = fs::metadata(path).with_context(context)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).with_context(context)? {
        let entry = entry.with_context(context)?.path();
        // A link to a folder might lead in a circle, and one to nowhere has no size.
        if entry.is_dir() && entry.is_symlink() || !entry.exists() {
            continue;
        }
        bytes += size_of(&entry)?;
    }
    Ok(bytes)
}
