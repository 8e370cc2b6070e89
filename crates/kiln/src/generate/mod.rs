//! `kiln generate`: pictures from a model.

mod autoregressive;
mod control;
mod prompted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use indicatif::{ProgressBar, ProgressStyle};
use kiln::diffusion::{DormandPrince, SolverConfig, Tolerance};
use kiln::picture::{Picture, grid};
use kiln::{DirectModel, DirectOptions, DrawOptions, Label, LabelKind, ModelError, PictureModel, Progress};

use crate::cli::Generate;
use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
use crate::source;
use crate::train::MODEL_FILE;
use autoregressive::Kept;
use control::Control;
pub use prompted::Prompted;
use prompted::{Recipe, pipeline_at};

/// Pictures of a model without prompts, if nothing is said.
const COUNT: u32 = 16;

pub fn run(options: &Generate) -> Result<()> {
    let out = Output::new(&options.out)?;
    let recipe = Recipe::new(options)?;
    let model = recipe.model.as_deref().map(|name| source::locate(name, None)).transpose()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    set_on_interrupt(Arc::clone(&interrupted))?;
    let bar = ProgressBar::new(1).with_style(
        ProgressStyle::with_template("drawing {bar:40} {pos}/{len} steps, {eta} left")
            .context("the progress bar's template")?,
    );
    let pipeline = model.as_deref().map(pipeline_at).transpose()?.flatten();
    if let Some(pipeline) = pipeline {
        if options.tolerance.is_some() {
            bail!("--tolerance is for --solver dopri5, which pipelines do not take");
        }
        return prompted::run(pipeline, &recipe, options, &out, (&interrupted, &bar));
    }
    if let Some(kept) = model.as_deref().map(Kept::at).transpose()?.flatten() {
        let device = options.backend.open()?;
        let pictures = kept.draw(options, &device, (&interrupted, &bar))?;
        bar.finish_and_clear();
        return out.write(&pictures);
    }
    if recipe.asks_for_a_pipeline() {
        match &recipe.model {
            Some(model) => {
                bail!("{model} is no pipeline, which takes a prompt, a picture or a LoRA")
            }
            None => {
                bail!("a prompt, a picture and a LoRA are for pipelines: --model PATH")
            }
        }
    }
    let device = options.backend.open()?;
    let model = open(model.as_deref(), &device)?;
    let count = options.count.unwrap_or(COUNT) as usize;

    let watch = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        match interrupted.load(Ordering::Relaxed) {
            true => Err("interrupted".to_owned()),
            false => Ok(()),
        }
    };
    let pictures = match &model {
        Model::Diffusion(model) => by_steps(model, &recipe, options, count, watch)?,
        Model::Direct(_) if recipe.asks_for_control() => {
            bail!(
                "--control is for models that draw through a solver's steps; a consistency model takes none"
            )
        }
        Model::Direct(model) => directly(model, options, count, watch)?,
    };
    bar.finish_and_clear();
    let pictures = match pictures {
        Err(ModelError::Stopped(_)) if interrupted.load(Ordering::Relaxed) => {
            bail!(Interrupted("; nothing was written".to_owned()))
        }
        pictures => pictures?,
    };
    out.write(&pictures)
}

/// What draws.
#[allow(clippy::large_enum_variant, reason = "one in a program")]
enum Model {
    /// Through the steps of a solver.
    Diffusion(PictureModel),
    /// In one step, or a few.
    Direct(DirectModel),
}

fn open(path: Option<&Path>, device: &Device) -> Result<Model> {
    let Some(path) = path else { return Ok(Model::Diffusion(PictureModel::digits(device)?)) };
    let run = path.join(MODEL_FILE);
    // A folder with a config is a model's; any other is a run's, finished or not.
    let of_run = path.is_dir() && (run.is_file() || !path.join("config.json").is_file());
    if path.is_dir() && !of_run {
        return Ok(Model::Direct(DirectModel::open(path, device)?));
    }
    match PictureModel::open(if of_run { &run } else { path }, device) {
        Ok(model) => Ok(Model::Diffusion(model)),
        // No model of `kiln train`; what else it may be, its tensors tell.
        Err(ModelError::Kind { .. }) => Ok(Model::Direct(DirectModel::open(path, device)?)),
        Err(error) => Err(error.into()),
    }
}

/// What a drawing ended with: pictures, or the reason why it was stopped.
type Drawn = Result<Vec<Picture>, ModelError>;

fn by_steps(
    model: &PictureModel,
    recipe: &Recipe,
    options: &Generate,
    count: usize,
    watch: impl FnMut(Progress) -> Result<(), String>,
) -> Result<Drawn> {
    if options.label.is_some() {
        bail!("--label is for models that take a number; this one takes --class");
    }
    if options.size.is_some() {
        bail!("--size is for consistency models; this one draws at its own size");
    }
    let class = options.class.as_deref().map(|class| model.card().class(class)).transpose()?;
    let known = model.card().classes.len();
    let classes: Vec<_> =
        (0..count).map(|i| class.or_else(|| (known > 0).then(|| i % known.max(1)))).collect();
    let draw = DrawOptions {
        seed: options.seed.unwrap_or(0),
        first: 0,
        solver: solver(options)?,
        steps: options.steps.map(|steps| steps as usize),
        guidance: options.guidance,
    };
    let control = Control::of(&recipe.control(), model.device())?;
    Ok(model.draw_controlled(&classes, control.as_ref().map(Control::controlled), &draw, watch))
}

/// The solver that was asked for, at its tolerance.
fn solver(options: &Generate) -> Result<Option<SolverConfig>> {
    let solver = options.solver.as_deref().map(SolverConfig::named).transpose()?;
    let Some(tolerance) = options.tolerance else { return Ok(solver) };
    match solver {
        Some(SolverConfig::DormandPrince(rule)) => {
            let tolerance = Some(Tolerance::of(tolerance));
            Ok(Some(SolverConfig::DormandPrince(DormandPrince { tolerance, ..rule })))
        }
        _ => bail!("--tolerance is for --solver dopri5; the other solvers take the steps they are told"),
    }
}

fn directly(
    model: &DirectModel,
    options: &Generate,
    count: usize,
    watch: impl FnMut(Progress) -> Result<(), String>,
) -> Result<Drawn> {
    if let Some(flag) = [
        ("--solver", options.solver.is_some()),
        ("--tolerance", options.tolerance.is_some()),
        ("--guidance", options.guidance.is_some()),
    ]
    .into_iter()
    .find_map(|(flag, given)| given.then_some(flag))
    {
        bail!("{flag} is for models that draw through a solver's steps; a consistency model has its own");
    }
    let labels: Vec<Option<Label>> = match (model.labels(), options.label, options.class.as_deref()) {
        (LabelKind::None, None, None) => vec![None; count],
        (LabelKind::None, ..) => bail!("the model takes neither --label nor --class"),
        (LabelKind::Number, Some(number), _) => vec![Some(Label::Number(number)); count],
        (LabelKind::Number, None, _) => bail!("the model takes a number: --label NUMBER"),
        (LabelKind::Class(_), Some(_), _) => {
            bail!("--label is for models that take a number; this one takes --class")
        }
        (LabelKind::Class(known), None, None) => (0..count).map(|i| Some(Label::Class(i % known))).collect(),
        (LabelKind::Class(known), None, Some(class)) => match class.parse() {
            Ok(class) if class < known => vec![Some(Label::Class(class)); count],
            _ => bail!("there is no class {class}: the model has {known}, numbered 0 to {}", known - 1),
        },
    };
    let draw = DirectOptions {
        seed: options.seed.unwrap_or(0),
        steps: options.steps.unwrap_or(1) as usize,
        size: options.size.map(|size| size as usize),
    };
    Ok(model.draw(&labels, &draw, watch))
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
            Self::Folder(_) => self.write_with(pictures, &[])?,
        }
        Ok(())
    }

    /// As [`write`](Self::write), with text entries; one picture alone is no grid.
    fn write_with(&self, pictures: &[Picture], text: &[(&str, &str)]) -> Result<()> {
        match self {
            Self::Grid(path) => {
                let sheet = match pictures {
                    [one] => one.clone(),
                    many => grid(many, (many.len() as f64).sqrt().ceil() as usize, 2)?,
                };
                sheet.write_png_with_text(path, text)?;
                print(path.display())?;
            }
            Self::Folder(folder) => {
                for (index, picture) in pictures.iter().enumerate() {
                    picture.write_png_with_text(folder.join(format!("{index:05}.png")), text)?;
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
