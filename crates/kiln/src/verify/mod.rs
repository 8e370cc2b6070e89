//! `kiln verify`: a checkpoint is loaded and computed, and compared with what another implementation computed for it.
//!
//! ```text
//! reference file   input.<name>  -> the model of the checkpoint -> <name>
//!                  output.<name> <---------- compared with --------- |
//! ```
//!
//! What can be verified is the table [`CLASSES`]; each class has its file, which says what its inputs and outputs are called.

mod autoencoder;
mod call;
mod compare;
mod controlnet;
mod detr;
mod guided;
mod pipeline;
mod scheduler;
mod sd3;
mod text;
mod train;
mod unet2d;
mod unet2d_condition;

use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use kiln::checkpoint::{Checkpoint, ConfigError, Contents, OpenOptions, StoredModel, View, save_tensors};

use crate::cli::Verify;
use crate::output::print;
use crate::source;
use call::Call;
use compare::{Comparison, Outputs};

/// A class that can be verified.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// As `_class_name` or `architectures` names it.
    pub class: &'static str,
    /// Whether a network can be made from this config.
    pub check: fn(&str) -> Result<(), ConfigError>,
    /// Whether a call with inputs of these names may be meant for it: tells the parts of a pipeline apart.
    fits: fn(&BTreeSet<&str>) -> bool,
    /// Takes the inputs, loads the model, computes the outputs.
    run: fn(&StoredModel, &Call<'_>) -> Result<Outputs>,
}

/// What can be verified: a row for each class.
pub const CLASSES: &[Case] = &[
    unet2d::UNET_2D,
    unet2d_condition::UNET_2D_CONDITION,
    controlnet::CONTROLNET,
    sd3::SD3_TRANSFORMER,
    sd3::SD3_CONTROLNET,
    guided::GUIDED_UNET,
    autoencoder::AUTOENCODER_KL,
    text::CLIP_TEXT,
    text::CLIP_TEXT_PROJECTION,
    text::CLIP,
    text::T5_ENCODER,
    text::T5,
    text::T5_GENERATION,
    text::T5_LM_HEAD,
    detr::DETR,
    detr::CONDITIONAL_DETR,
    detr::DETR_SEGMENTATION,
];

pub fn run(options: &Verify) -> Result<ExitCode> {
    let checkpoint = source::locate(&options.checkpoint, options.variant.as_deref())?;
    let reference = prefixed(Checkpoint::open(&options.reference)?)?;
    if let Some(path) = &options.save {
        check_writable(path)?;
    }
    let contents = Contents::open_with(&checkpoint, &OpenOptions { variant: options.variant.clone() })?;
    let open = || options.backend.open_with(options.dtype.into());
    let outputs = if let Contents::Scheduler(config) = &contents {
        let device = open()?;
        let call = Call::new(&reference, &device)?;
        guarded("the scheduler", || scheduler::run(config, &call))?
    } else if let Contents::Pipeline(pipeline) = &contents
        && options.part.is_none()
        && pipeline::is_known(&pipeline.class)
        && asks_for_a_run(&reference)
    {
        let device = open()?;
        let call = Call::new(&reference, &device)?;
        guarded(&pipeline.class, || pipeline::run(pipeline, &call))?
    } else {
        let (case, model) = choose(&contents, options.part.as_deref(), &reference, &options.checkpoint)?;
        let device = open()?;
        let call = Call::new(&reference, &device)?;
        guarded(case.class, || (case.run)(model, &call))?
    };
    let comparison = Comparison::new(&reference, &outputs, options.tolerance)?;
    print(&comparison)?;
    if let Some(path) = &options.save {
        save_tensors(outputs.named(), &Default::default(), path)?;
    }
    Ok(if comparison.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Whether a reference is of a whole run, and not of one network's call.
fn asks_for_a_run(reference: &Checkpoint) -> bool {
    reference.info("output.image").is_some() && reference.info("input.timestep").is_none()
}

/// Names that consistency models' own reference files give to inputs and outputs, and what they are called here.
const PLAIN_NAMES: &[(&str, &str)] = &[
    ("noisy", "input.sample"),
    ("sigma", "input.sigma"),
    ("difficulty", "input.class_labels"),
    ("denoised", "output.denoised"),
];

/// A reference file as it is, or one that knows no `input.` and `output.` under the names that it would have.
fn prefixed(reference: Checkpoint) -> Result<Checkpoint> {
    let here = |name: &str| PLAIN_NAMES.iter().find(|(plain, _)| *plain == name).map(|(_, name)| *name);
    let views: Option<Vec<View>> =
        reference.tensors().map(|(name, _)| Some(View::renamed(here(name)?, name))).collect();
    match views {
        Some(views) if !views.is_empty() => Ok(reference.view(views)?),
        _ => Ok(reference),
    }
}

/// The class and the network that are meant.
fn choose<'a>(
    contents: &'a Contents,
    part: Option<&str>,
    reference: &Checkpoint,
    path: &str,
) -> Result<(&'static Case, &'a StoredModel)> {
    let pipeline = match contents {
        Contents::Model(model) => {
            if let Some(part) = part {
                bail!("{path} is one network, and has no part `{part}`");
            }
            let class = model.class()?;
            let Some(class) = class else {
                bail!("{path}: its config names no class, so what it computes is not known");
            };
            return Ok((case(&class).with_context(|| format!("{path} can't be verified"))?, model));
        }
        Contents::Scheduler(_) => bail!("{path} is a scheduler, and no network"),
        Contents::Tensors(_) => {
            bail!("{path} can't be verified: its tensors are of no layout that is known; see `kiln info`")
        }
        Contents::Pipeline(pipeline) => pipeline,
    };
    let parts = || pipeline.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(part) = part {
        let Some(model) = pipeline.models.get(part) else {
            bail!("{path} has no part `{part}`; it has {}", parts());
        };
        let class = model.class()?.unwrap_or_default();
        return Ok((
            case(&class).with_context(|| format!("the part `{part}` of {path} can't be verified"))?,
            model,
        ));
    }
    // A reference for the whole pipeline names what no part takes.
    let inputs: BTreeSet<&str> =
        reference.tensors().filter_map(|(name, _)| name.strip_prefix("input.")).collect();
    let mut meant = Vec::new();
    for (part, model) in &pipeline.models {
        let class = model.class()?.unwrap_or_default();
        if let Ok(case) = case(&class)
            && (case.fits)(&inputs)
        {
            meant.push((part.as_str(), case, model));
        }
    }
    match meant[..] {
        [(_, case, model)] => Ok((case, model)),
        [] => bail!(
            "{path} can't be verified: {}; no part of it ({}) takes the inputs of {}",
            unknown(&pipeline.class),
            parts(),
            reference.label()
        ),
        _ => {
            let names: Vec<_> = meant.iter().map(|(part, ..)| *part).collect();
            bail!(
                "{path} has several parts that {} may be meant for; say --part {}",
                reference.label(),
                names.join(" or ")
            )
        }
    }
}

fn case(class: &str) -> Result<&'static Case> {
    CLASSES.iter().find(|case| case.class == class).with_context(|| unknown(class))
}

fn unknown(class: &str) -> String {
    let known: Vec<_> = CLASSES.iter().map(|case| case.class).collect();
    format!("`{class}` is no class that is known here; known are {}", known.join(", "))
}

/// Runs a case. Inputs are checked before they meet the network; should one slip through, the layer's own complaint becomes
/// the error, in place of the program's end.
fn guarded(class: &str, run: impl FnOnce() -> Result<Outputs>) -> Result<Outputs> {
    let complaint = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&complaint);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("a layer failed").trim().replace('\n', " ");
        // The first cause: on a GPU more may follow from it.
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(usual);
    result.unwrap_or_else(|_| {
        let text = complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
        bail!("{class} can't be computed with these inputs: {}", text.unwrap_or_default())
    })
}

/// Finds out before anything is computed that a file can't be written.
fn check_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).map(drop).with_context(|| format!("{} can't be written", path.display()))
}
