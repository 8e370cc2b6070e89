//! `kiln generate`: pictures from a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::diffusion::SolverConfig;
use kiln::picture::{Picture, grid};
use kiln::{DrawOptions, ModelError, PictureModel};

use crate::cli::Generate;
use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
use crate::source;
use crate::train::MODEL_FILE;

pub fn run(options: &Generate) -> Result<()> {
    let out = Output::new(&options.out)?;
    let device = kiln::backend::open(options.backend.name.as_deref())?;
    let model = options.model.as_deref().map(|name| source::locate(name, None)).transpose()?;
    let model = match model {
        None => PictureModel::digits(&device)?,
        Some(path) if path.is_dir() => PictureModel::open(path.join(MODEL_FILE), &device)?,
        Some(path) => PictureModel::open(path, &device)?,
    };
    let count = options.count as usize;
    let class = options.class.as_deref().map(|class| model.card().class(class)).transpose()?;
    let known = model.card().classes.len();
    let classes: Vec<_> =
        (0..count).map(|i| class.or_else(|| (known > 0).then(|| i % known.max(1)))).collect();
    let draw = DrawOptions {
        seed: options.seed,
        first: 0,
        solver: options.solver.as_deref().map(SolverConfig::named).transpose()?,
        steps: options.steps.map(|steps| steps as usize),
        guidance: options.guidance,
    };

    let interrupted = Arc::new(AtomicBool::new(false));
    set_on_interrupt(Arc::clone(&interrupted))?;
    let bar = ProgressBar::new(1).with_style(
        ProgressStyle::with_template("drawing {bar:40} {pos}/{len} steps, {eta} left")
            .context("the progress bar's template")?,
    );
    let pictures = model.draw(&classes, &draw, |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        match interrupted.load(Ordering::Relaxed) {
            true => Err("interrupted".to_owned()),
            false => Ok(()),
        }
    });
    bar.finish_and_clear();
    let pictures = match pictures {
        Err(ModelError::Stopped(_)) if interrupted.load(Ordering::Relaxed) => {
            bail!(Interrupted("; nothing was written".to_owned()))
        }
        pictures => pictures?,
    };
    out.write(&pictures)
}

/// Where pictures go: one grid, or a folder of single ones.
enum Output {
    Grid(PathBuf),
    Folder(PathBuf),
}

impl Output {
    /// Checks, before minutes are spent, that the path can be written.
    fn new(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            if path.is_dir() {
                bail!("{} is a folder, and a picture was to be written there", path.display());
            }
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            check_writable(parent.unwrap_or(Path::new(".")))?;
            return Ok(Self::Grid(path.to_owned()));
        }
        std::fs::create_dir_all(path)
            .with_context(|| format!("the folder {} can't be made", path.display()))?;
        check_writable(path)?;
        Ok(Self::Folder(path.to_owned()))
    }

    fn write(&self, pictures: &[Picture]) -> Result<()> {
        match self {
            Self::Grid(path) => {
                let columns = (pictures.len() as f64).sqrt().ceil() as usize;
                grid(pictures, columns, 2)?.write_png(path)?;
                print(path.display())?;
            }
            Self::Folder(folder) => {
                for (index, picture) in pictures.iter().enumerate() {
                    picture.write_png(folder.join(format!("{index:05}.png")))?;
                }
                print(folder.display())?;
            }
        }
        Ok(())
    }
}

fn check_writable(folder: &Path) -> Result<()> {
    tempfile::tempfile_in(folder)
        .map(drop)
        .with_context(|| format!("the folder {} can't be written to", folder.display()))
}
