//! `kiln generate --prompt`: pictures from a pipeline.
//!
//! What made a picture stands in its text chunk `kiln`, as JSON: `--like PICTURE` reads it, and options on the command line go before it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use clap::Args;
use indicatif::ProgressBar;
use kiln::checkpoint::{Contents, StoredModel, StoredPipeline};
use kiln::diffusion::with_solver;
use kiln::picture::{Channels, Filter, Picture};
use kiln::pipelines::{
    Drawn, Inputs, Lora, Memory, Observer, OneOrMany, Pieces, PipelineError, Progress, Request,
    STABLE_DIFFUSION, STABLE_DIFFUSION_3, Settings, StableDiffusion, StableDiffusion3, Tiling, UNCONDITIONAL,
    Unconditional, Wording, pictures,
};
use serde::{Deserialize, Serialize};

use super::Output;
use crate::cli::{Float, Generate, finite};
use crate::interrupt::Interrupted;
use crate::source;

/// The text chunk's keyword.
const KEYWORD: &str = "kiln";

/// What pipelines are asked beside what all models are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pipelines (Stable Diffusion and others)")]
pub struct Prompted {
    /// What the picture shows; several times for several pictures. Words may weigh more, (kiln:1.3), or less, [kiln], and are as many as you like
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// What it is to be unlike
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Brackets in prompts are characters, and what is beyond CLIP's 77 tokens is left out: as diffusers takes them
    #[arg(long)]
    pub literal: bool,
    /// Width in pixels
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub width: Option<u32>,
    /// Height in pixels
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub height: Option<u32>,
    /// A picture to set out from
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// How much of it is given up, from 0 to 1: 0.8, or 1 with --mask, if not given
    #[arg(long, value_name = "SHARE", value_parser = finite, requires = "image")]
    pub strength: Option<f64>,
    /// White where the picture is drawn anew, black where it stays
    #[arg(long, value_name = "FILE", requires = "image")]
    pub mask: Option<PathBuf>,
    /// A control network; several times for several
    #[arg(long, value_name = "PATH")]
    pub control: Vec<String>,
    /// What each control network is shown: edges, a skeleton, depths
    #[arg(long, value_name = "FILE")]
    pub control_image: Vec<PathBuf>,
    /// How strongly each counts; one for all, or one each
    #[arg(long, value_name = "SCALE", value_parser = finite)]
    pub control_scale: Vec<f64>,
    /// The share of the steps before which each is silent
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub control_start: Vec<f64>,
    /// The share of the steps after which each is silent
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub control_end: Vec<f64>,
    /// Where each counts: white where it does, black where it does not
    #[arg(long, value_name = "FILE")]
    pub control_mask: Vec<PathBuf>,
    /// Controls say it all: for no prompt
    #[arg(long)]
    pub guess: bool,
    /// A LoRA and how much it weighs: 1 if nothing is said, below 0 for the opposite; several times for several
    #[arg(long, value_name = "FILE[:WEIGHT]")]
    pub lora: Vec<String>,
    /// Networks are dropped when they have done their part, and the picture is decoded in tiles
    #[arg(long)]
    pub low_memory: bool,
    /// The type to compute in
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: Float,
    /// As this picture was made, but for what else is said
    #[arg(long, value_name = "PICTURE")]
    pub like: Option<PathBuf>,
}

/// What made a picture.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    pub model: Option<String>,
    solver: Option<String>,
    image: Option<PathBuf>,
    mask: Option<PathBuf>,
    control: Vec<String>,
    control_image: Vec<PathBuf>,
    control_mask: Vec<PathBuf>,
    lora: Vec<String>,
    wording: Option<Wording>,
    settings: Settings,
}

impl Recipe {
    /// What the command line says, and what the picture that is to be like says of the rest.
    pub fn new(options: &Generate) -> Result<Self> {
        let asked = &options.pipeline;
        let before: Self = match &asked.like {
            None => Self::default(),
            Some(path) => {
                let entries = Picture::text_of(path)?;
                let Some(text) = entries.get(KEYWORD) else {
                    bail!(
                        "{} does not say how it was made: it has no text chunk `{KEYWORD}`",
                        path.display()
                    );
                };
                serde_json::from_str(text).with_context(|| {
                    format!("{}: its text chunk `{KEYWORD}` can't be used", path.display())
                })?
            }
        };
        let list = |new: &[f64], old: Option<OneOrMany<f64>>| match new {
            [] => old,
            [one] => Some(OneOrMany::One(*one)),
            many => Some(OneOrMany::Many(many.to_vec())),
        };
        let old = before.settings;
        let number = |new: Option<u32>, old: Option<usize>| new.map(|number| number as usize).or(old);
        let settings = Settings {
            prompt: match &asked.prompt[..] {
                [] => old.prompt,
                [one] => Some(OneOrMany::One(one.clone())),
                many => Some(OneOrMany::Many(many.to_vec())),
            },
            negative_prompt: asked.negative_prompt.clone().map(OneOrMany::One).or(old.negative_prompt),
            num_images_per_prompt: number(options.count, old.num_images_per_prompt),
            height: number(asked.height, old.height),
            width: number(asked.width, old.width),
            num_inference_steps: number(options.steps, old.num_inference_steps),
            guidance_scale: options.guidance.or(old.guidance_scale),
            seed: options.seed.or(old.seed),
            strength: asked.strength.or(old.strength),
            controlnet_conditioning_scale: list(&asked.control_scale, old.controlnet_conditioning_scale),
            control_guidance_start: list(&asked.control_start, old.control_guidance_start),
            control_guidance_end: list(&asked.control_end, old.control_guidance_end),
            guess_mode: asked.guess.then_some(true).or(old.guess_mode),
            ..old
        };
        let one_or = |new: &Option<PathBuf>, old: Option<PathBuf>| new.clone().or(old);
        fn any_or<T: Clone>(new: &[T], old: Vec<T>) -> Vec<T> {
            if new.is_empty() { old } else { new.to_vec() }
        }
        Ok(Self {
            model: options.model.clone().or(before.model),
            solver: options.solver.clone().or(before.solver),
            image: one_or(&asked.image, before.image),
            mask: one_or(&asked.mask, before.mask),
            control: any_or(&asked.control, before.control),
            control_image: any_or(&asked.control_image, before.control_image),
            control_mask: any_or(&asked.control_mask, before.control_mask),
            lora: any_or(&asked.lora, before.lora),
            wording: asked.literal.then_some(Wording::Literal).or(before.wording),
            settings,
        })
    }

    /// Whether a pipeline is meant.
    pub fn asks_for_a_pipeline(&self) -> bool {
        self.settings.prompt.is_some() || self.image.is_some() || !self.lora.is_empty()
    }

    /// Whether something is to be controlled, which not all models can be.
    pub fn asks_for_control(&self) -> bool {
        !(self.control.is_empty() && self.control_image.is_empty())
    }

    /// What is asked of a control network.
    pub fn control(&self) -> ControlWishes<'_> {
        let settings = &self.settings;
        let scales = match &settings.controlnet_conditioning_scale {
            None => Vec::new(),
            Some(OneOrMany::One(scale)) => vec![*scale],
            Some(OneOrMany::Many(scales)) => scales.clone(),
        };
        let given = [
            ("--control-start", settings.control_guidance_start.is_some()),
            ("--control-end", settings.control_guidance_end.is_some()),
            ("--control-mask", !self.control_mask.is_empty()),
            ("--guess", settings.guess_mode == Some(true)),
        ];
        let of_pipelines = given.into_iter().find_map(|(flag, given)| given.then_some(flag));
        ControlWishes { networks: &self.control, pictures: &self.control_image, scales, of_pipelines }
    }
}

/// What is asked of a control network.
pub struct ControlWishes<'a> {
    pub networks: &'a [String],
    pub pictures: &'a [PathBuf],
    pub scales: Vec<f64>,
    /// An option that only pipelines know, if one is given.
    pub of_pipelines: Option<&'static str>,
}

/// The pipeline at a path, if it is one.
pub fn pipeline_at(path: &Path) -> Result<Option<StoredPipeline>> {
    if path.is_dir() && !path.join("model_index.json").is_file() {
        return Ok(None);
    }
    match Contents::open(path)? {
        Contents::Pipeline(pipeline) => Ok(Some(pipeline)),
        _ => Ok(None),
    }
}

/// Draws, and writes what was drawn.
pub fn run(
    stored: StoredPipeline,
    recipe: &Recipe,
    options: &Generate,
    out: &Output,
    (interrupted, bar): (&Arc<AtomicBool>, &ProgressBar),
) -> Result<()> {
    let dtype = options.pipeline.dtype;
    let device = options.backend.open_with(dtype.into())?;
    let mut watch = |progress: Progress<'_>| {
        bar.set_length(progress.steps as u64);
        bar.set_position(progress.step as u64);
        match interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let drawn = match draw(stored, recipe, options, &device, &mut watch) {
        Err(error) => match error.downcast_ref() {
            Some(PipelineError::Stopped { .. }) => bail!(Interrupted("; nothing was written".to_owned())),
            _ => return Err(error),
        },
        Ok(drawn) => drawn,
    };
    if interrupted.load(Ordering::Relaxed) {
        bail!(Interrupted("; nothing was written".to_owned()));
    }
    bar.finish_and_clear();
    let text = serde_json::to_string(recipe).context("the settings")?;
    out.write_with(&pictures::from_tensor(drawn.pictures)?, &[(KEYWORD, &text)])
}

fn draw(
    mut stored: StoredPipeline,
    recipe: &Recipe,
    options: &Generate,
    device: &Device,
    watch: &mut Observer<'_>,
) -> Result<Drawn> {
    let class = stored.class.clone();
    if !recipe.control.is_empty() {
        // Control networks that are named take the place of the pipeline's own.
        stored.models.retain(|part, _| !part.starts_with("controlnet"));
    }
    let controls = recipe.control.iter().map(|path| control_network(path));
    let controls = controls.collect::<Result<Vec<_>>>()?;
    let loras = recipe.lora.iter().map(|said| weighed_lora(said)).collect::<Result<Vec<_>>>()?;
    let solver = |config: &str| match &recipe.solver {
        Some(name) => with_solver(config, name).map(Some),
        None => Ok(None),
    };
    let memory = if options.pipeline.low_memory { Memory::Release } else { Memory::Keep };
    let needs_prompt = || match recipe.settings.prompt {
        Some(_) => Ok(()),
        None => bail!("--prompt is missing: a {class} draws what it is told"),
    };
    macro_rules! told {
        ($kind:ident, $base:expr) => {{
            needs_prompt()?;
            let mut pipeline = $kind::new(stored, device)?;
            for network in controls {
                pipeline = pipeline.with_control(network)?;
            }
            for (lora, weight) in &loras {
                pipeline = pipeline.with_lora(lora, *weight)?;
            }
            if let Some(config) = solver(pipeline.scheduler())? {
                pipeline = pipeline.with_scheduler(config);
            }
            let mut base: Request = $base;
            base.memory = memory;
            base.wording = recipe.wording.unwrap_or(Wording::Weighted);
            if options.pipeline.low_memory {
                base.pieces = Pieces::Tiles(Tiling::new(64, 16)?);
            }
            let request = recipe.request(base, pipeline.size(), device)?;
            Ok(pipeline.draw(&request, watch)?)
        }};
    }
    if STABLE_DIFFUSION.contains(&&*class) {
        told!(StableDiffusion, Request::new(""))
    } else if STABLE_DIFFUSION_3.contains(&&*class) {
        told!(StableDiffusion3, StableDiffusion3::request(""))
    } else if UNCONDITIONAL.contains(&&*class) {
        if recipe.asks_for_a_pipeline() || recipe.asks_for_control() {
            bail!("a {class} draws without a prompt, a picture, a control network or a LoRA");
        }
        let mut pipeline = Unconditional::new(stored, device)?;
        if let Some(config) = solver(pipeline.scheduler())? {
            pipeline = pipeline.with_scheduler(config);
        }
        let request = recipe.settings.clone().request(Request::new(""), Inputs::default())?;
        Ok(pipeline.draw(&Request { memory, ..request }, watch)?)
    } else {
        let known = [STABLE_DIFFUSION, STABLE_DIFFUSION_3, UNCONDITIONAL].concat().join(", ");
        bail!("a `{class}` is no pipeline that is known here; known are {known}")
    }
}

/// `FILE:WEIGHT`, or the file alone. A path may have colons in it itself: the last one counts, if a number follows.
fn weighed_lora(said: &str) -> Result<(Lora, f64)> {
    let split = said.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse::<f64>().ok()?)));
    let (path, weight) = split.unwrap_or((said, 1.0));
    let path = source::locate(path, None)?;
    Ok((Lora::open(path)?, weight))
}

fn control_network(path: &str) -> Result<StoredModel> {
    match Contents::open(source::locate(path, None)?)? {
        Contents::Model(model) => Ok(model),
        _ => bail!("{path} is no control network"),
    }
}

impl Recipe {
    fn request(&self, base: Request, natural: [usize; 2], device: &Device) -> Result<Request> {
        let image = self.image.as_deref().map(Picture::open).transpose()?;
        let mut settings = self.settings.clone();
        // Of the picture's own size, in whole blocks of eight, if nothing else is said.
        let whole = |side: u32| (side as usize / 8 * 8).max(8);
        let natural = image.as_ref().map_or(natural, |image| [whole(image.height()), whole(image.width())]);
        let [height, width] = [settings.height.unwrap_or(natural[0]), settings.width.unwrap_or(natural[1])];
        (settings.height, settings.width) = (Some(height), Some(width));
        let resized = |picture: Picture, channels: Channels, filter: Filter| -> Result<Tensor<4>> {
            let picture = picture.convert(channels).resize(width as u32, height as u32, filter)?;
            Ok(pictures::to_tensor(&picture, device))
        };
        let opened = |path: &PathBuf, channels, filter| resized(Picture::open(path)?, channels, filter);
        let inputs = Inputs {
            latents: None,
            image: image.map(|image| resized(image, Channels::Rgb, Filter::Lanczos)).transpose()?,
            mask_image: self
                .mask
                .as_ref()
                .map(|path| opened(path, Channels::Grey, Filter::Lanczos))
                .transpose()?,
            control_images: self
                .control_image
                .iter()
                .map(|path| opened(path, Channels::Rgb, Filter::Lanczos))
                .collect::<Result<_>>()?,
        };
        let mut request = settings.request(base, inputs)?;
        if self.control_mask.len() > request.controls.len() {
            bail!("there are more --control-mask than --control-image");
        }
        for (control, path) in request.controls.iter_mut().zip(&self.control_mask) {
            control.mask = Some(opened(path, Channels::Grey, Filter::Bilinear)?);
        }
        Ok(request)
    }
}
