//! `cargo xtask score`: how well models of digits draw, by process, solver and steps, as a page of the book.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

#[derive(Args)]
pub struct Options {
    /// A folder of runs of `kiln train`: each of its folders with a model.safetensors is a row; the embedded model is one too
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Digits of each class
    #[arg(long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// Where the page is written
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the runs beside each other in place of the page: loss on held-out digits, digits read, attention's logits
    #[arg(long, requires = "runs", conflicts_with = "out")]
    compare: bool,
}

/// Builds the judge, draws with every model, writes the page and its picture.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut models = vec!["embedded".to_owned()];
    if let Some(runs) = &options.runs {
        let runs = std::path::absolute(runs)?;
        let folders =
            std::fs::read_dir(&runs).with_context(|| format!("{} can't be read", runs.display()))?;
        let mut found = Vec::new();
        for folder in folders {
            let model = folder?.path().join("model.safetensors");
            if model.is_file() {
                found.push(model.display().to_string());
            }
        }
        if found.is_empty() {
            bail!("{} holds no folder with a model.safetensors", runs.display());
        }
        found.sort();
        models.extend(found);
    }
    let mut judge = process::cargo(&workspace.root);
    judge.args(["run", "--release", "--package", "kiln-tests", "--bin", "judge", "--"]);
    if options.compare {
        judge.arg("compare").arg(options.count.to_string()).args(&models[1..]);
        return process::run(&mut judge);
    }
    let book = workspace.root.join("docs/src");
    let page = match &options.out {
        Some(page) => std::path::absolute(page)?,
        None => book.join("digits.md"),
    };
    let picture = match &options.out {
        Some(_) => page.with_extension("png"),
        None => book.join("images/trajectories.png"),
    };
    judge.arg("table").arg(options.count.to_string()).arg(page).arg(picture).args(models);
    process::run(&mut judge)
}
