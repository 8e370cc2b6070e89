//! `kiln convert`: any model that can be read, as a folder that diffusers or transformers read.

use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{HumanBytes, HumanCount};
use kiln::checkpoint::{Contents, OpenOptions, StoredModel, write_atomically, write_folder};

use crate::cli::Convert;
use crate::output::print;
use crate::source;

pub fn run(options: &Convert) -> Result<()> {
    let path = source::locate(&options.from, options.variant.as_deref())?;
    let contents = Contents::open_with(&path, &OpenOptions { variant: options.variant.clone() })?;
    write_folder(&contents, &options.to, options.dtype.map(Into::into))
        .with_context(|| format!("{} can't be converted", options.from))?;
    keep_preprocessor(&path, &options.to)?;
    print(format_args!("{}: {}", options.to.display(), written(&options.to)?))
}

/// How a network is shown pictures stands beside its weights, and they mean nothing without it.
fn keep_preprocessor(from: &Path, to: &Path) -> Result<()> {
    const FILE: &str = "preprocessor_config.json";
    let source = from.join(FILE);
    if !source.is_file() {
        return Ok(());
    }
    let text = std::fs::read(&source).with_context(|| format!("{} can't be read", source.display()))?;
    let target = to.join(FILE);
    write_atomically::<std::io::Error>(&target, |file| file.write_all(&text))
        .with_context(|| format!("{} can't be written", target.display()))
}

/// What is in the folder, read back.
fn written(folder: &Path) -> Result<String> {
    let (what, models) = match Contents::open(folder)? {
        Contents::Model(model) => (model.class()?.unwrap_or_else(|| "a model".to_owned()), vec![model]),
        Contents::Pipeline(pipeline) => {
            let parts: Vec<_> =
                pipeline.models.keys().chain(pipeline.folders.keys()).map(String::as_str).collect();
            (format!("{} ({})", pipeline.class, parts.join(", ")), pipeline.models.into_values().collect())
        }
        Contents::Scheduler(_) => ("a scheduler".to_owned(), Vec::new()),
        Contents::Tensors(_) => ("tensors".to_owned(), Vec::new()),
    };
    if models.is_empty() {
        return Ok(what);
    }
    let of = |number: fn(&StoredModel) -> u64| models.iter().map(number).sum::<u64>();
    let parameters = of(|model| {
        model.weights.tensors().map(|(_, info)| info.shape.iter().product::<usize>() as u64).sum()
    });
    let bytes = of(|model| {
        let bits = |info: &kiln::checkpoint::TensorInfo<'_>| {
            info.shape.iter().product::<usize>() * info.dtype.bitsize()
        };
        model.weights.tensors().map(|(_, info)| (bits(&info) as u64).div_ceil(8)).sum()
    });
    Ok(format!("{what}, {} parameters, {}", HumanCount(parameters), HumanBytes(bytes)))
}
