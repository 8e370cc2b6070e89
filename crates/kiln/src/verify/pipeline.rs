//! Whole pipelines: `latents`, `control_image` or `control_image.<i>`, `image` and `mask_image`, and a request with the prompt, to `image`, `latents`,
//! `prompt_embeds` and `pooled_prompt_embeds`.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use burn::tensor::Tensor;
use kiln::checkpoint::StoredPipeline;
use kiln::pipelines::{
    Control, ControlMode, Drawn, Embeddings, Guidance, Progress, Prompts, Request, STABLE_DIFFUSION,
    STABLE_DIFFUSION_3, StableDiffusion, StableDiffusion3, Start, UNCONDITIONAL, Unconditional,
};
use serde::Deserialize;

use super::call::{Call, Side::Any};
use super::compare::Outputs;

/// Whether a pipeline of this class can be run.
pub fn is_known(class: &str) -> bool {
    [STABLE_DIFFUSION, STABLE_DIFFUSION_3, UNCONDITIONAL].iter().any(|known| known.contains(&class))
}

/// Draws what `call` asks for.
pub fn run(pipeline: &StoredPipeline, call: &Call<'_>) -> Result<Outputs> {
    let class = pipeline.class.as_str();
    let (pipeline, device) = (pipeline.clone(), call.device());
    let mut go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let drawn = if UNCONDITIONAL.contains(&class) {
        let pipeline = Unconditional::new(pipeline, device)?;
        let request = unconditional(call)?;
        call.understood()?;
        pipeline.draw(&request, &mut go_on)?
    } else if STABLE_DIFFUSION.contains(&class) {
        let pipeline = StableDiffusion::new(pipeline, device)?;
        let request = prompted(call, Request::new(""), pipeline.controls())?;
        call.understood()?;
        pipeline.draw(&request, &mut go_on)?
    } else {
        let pipeline = StableDiffusion3::new(pipeline, device)?;
        let request = prompted(call, StableDiffusion3::request(""), pipeline.controls())?;
        call.understood()?;
        pipeline.draw(&request, &mut go_on)?
    };
    Ok(outputs(drawn))
}

fn outputs(drawn: Drawn) -> Outputs {
    let mut outputs = Outputs::default();
    outputs.push("image", drawn.pictures);
    outputs.push("latents", drawn.latents);
    if let Some(Embeddings { states, pooled }) = drawn.embeddings {
        outputs.push("prompt_embeds", states);
        if let Some(pooled) = pooled {
            outputs.push("pooled_prompt_embeds", pooled);
        }
    }
    outputs
}

/// One, or a list of them.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }

    /// One for each of `count`.
    fn for_each(self, count: usize, name: &str) -> Result<Vec<T>> {
        match self.list() {
            one if one.len() == 1 => Ok(vec![one[0].clone(); count]),
            many if many.len() == count => Ok(many),
            many => bail!("`{name}` of the request has {} entries for {count} control pictures", many.len()),
        }
    }
}

fn unconditional(call: &Call<'_>) -> Result<Request> {
    let mut request = Request::new("");
    common(call, &mut request)?;
    if let Some(count) = call.option("batch_size")? {
        request.pictures = count;
    }
    Ok(request)
}

/// What all pipelines are asked.
fn common(call: &Call<'_>, request: &mut Request) -> Result<()> {
    if let Some(steps) = call.option("num_inference_steps")? {
        request.steps = steps;
    }
    request.eta = call.option("eta")?;
    if let Some(seed) = call.option("seed")? {
        request.seed = seed;
    }
    request.latents = picture(call, "latents")?;
    Ok(())
}

fn prompted(call: &Call<'_>, mut request: Request, networks: usize) -> Result<Request> {
    common(call, &mut request)?;
    request.prompt = prompts(call)?;
    if let Some(count) = call.option("num_images_per_prompt")? {
        request.pictures = count;
    }
    request.size = match (call.option("height")?, call.option("width")?) {
        (Some(height), Some(width)) => Some([height, width]),
        (None, None) => None,
        _ => bail!("the request says one of `height` and `width`, and not the other"),
    };
    if let Some(scale) = call.option("guidance_scale")? {
        request.guidance = Guidance::new(scale);
    }
    if let Some(share) = call.option("guidance_rescale")? {
        request.guidance.rescale = share;
    }
    request.clip_skip = call.option("clip_skip")?;
    if let Some(length) = call.option("max_sequence_length")? {
        request.max_sequence_length = length;
    }
    request.start = start(call)?;
    request.controls = controls(call, networks)?;
    Ok(request)
}

fn prompts(call: &Call<'_>) -> Result<Prompts> {
    let list = |name| Ok::<_, anyhow::Error>(call.option::<OneOrMany<String>>(name)?.map(OneOrMany::list));
    let (positive, negative) = (list("prompt")?, list("negative_prompt")?);
    let embeddings = |states: &str, pooled: &str| {
        let states = call.floats(states, [Any("batch"), Any("tokens"), Any("channels")])?;
        let pooled = call.floats(pooled, [Any("batch"), Any("channels")])?;
        Ok::<_, anyhow::Error>(states.map(|states| Embeddings { states, pooled }))
    };
    match embeddings("prompt_embeds", "pooled_prompt_embeds")? {
        Some(positive) => Ok(Prompts::Embedded {
            positive,
            negative: embeddings("negative_prompt_embeds", "negative_pooled_prompt_embeds")?,
        }),
        None => Ok(Prompts::Text {
            positive: positive.unwrap_or_default(),
            negative: negative.unwrap_or_default(),
        }),
    }
}

fn picture(call: &Call<'_>, name: &str) -> Result<Option<Tensor<4>>> {
    call.floats(name, [Any("batch"), Any("channels"), Any("height"), Any("width")])
}

fn start(call: &Call<'_>) -> Result<Start> {
    let strength = call.option("strength")?;
    Ok(match (picture(call, "image")?, picture(call, "mask_image")?) {
        (None, None) => Start::Noise,
        (Some(picture), None) => Start::Picture { picture, strength: strength.unwrap_or(0.8) },
        (Some(picture), Some(mask)) => Start::Inpaint { picture, mask, strength: strength.unwrap_or(1.0) },
        (None, Some(_)) => bail!(call.missing("image")),
    })
}

fn controls(call: &Call<'_>, networks: usize) -> Result<Vec<Control>> {
    let pictures: Vec<_> = if call.has("control_image") {
        picture(call, "control_image")?.into_iter().collect()
    } else {
        let all = (0..call.count("control_image")).map(|i| picture(call, &format!("control_image.{i}")));
        all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
    };
    if pictures.len() != networks {
        bail!("there are {} control pictures for {networks} control networks", pictures.len());
    }
    let count = pictures.len();
    let numbers = |name: &str, default: f64| {
        call.option(name)?.unwrap_or(OneOrMany::One(default)).for_each(count, name)
    };
    let scales = numbers("controlnet_conditioning_scale", 1.0)?;
    let (from, to) = (numbers("control_guidance_start", 0.0)?, numbers("control_guidance_end", 1.0)?);
    let mode = match call.option("guess_mode")? {
        Some(true) => ControlMode::Guess,
        _ => ControlMode::Prompted,
    };
    Ok(pictures
        .into_iter()
        .zip(scales)
        .zip(from.into_iter().zip(to))
        .map(|((picture, scale), (from, to))| Control { scale, from, to, mode, ..Control::new(picture) })
        .collect())
}
