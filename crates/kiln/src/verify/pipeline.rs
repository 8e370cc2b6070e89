//! Whole pipelines: `latents`, `control_image` or `control_image.<i>`, `image` and `mask_image`, and a request with the prompt, to `image`, `latents`,
//! `prompt_embeds` and `pooled_prompt_embeds`.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use burn::tensor::Tensor;
use kiln::checkpoint::StoredPipeline;
use kiln::pipelines::{
    Drawn, Embeddings, Inputs, Progress, Prompts, Request, STABLE_DIFFUSION, STABLE_DIFFUSION_3, Settings,
    StableDiffusion, StableDiffusion3, UNCONDITIONAL, Unconditional,
};

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
        pipeline.draw(&request(call, Request::new(""), 0)?, &mut go_on)?
    } else if STABLE_DIFFUSION.contains(&class) {
        let pipeline = StableDiffusion::new(pipeline, device)?;
        pipeline.draw(&request(call, Request::new(""), pipeline.controls())?, &mut go_on)?
    } else {
        let pipeline = StableDiffusion3::new(pipeline, device)?;
        pipeline.draw(&request(call, StableDiffusion3::request(""), pipeline.controls())?, &mut go_on)?
    };
    let Drawn { pictures, latents, embeddings } = drawn;
    let mut outputs = Outputs::default();
    outputs.push("image", pictures);
    outputs.push("latents", latents);
    if let Some(Embeddings { states, pooled }) = embeddings {
        outputs.push("prompt_embeds", states);
        if let Some(pooled) = pooled {
            outputs.push("pooled_prompt_embeds", pooled);
        }
    }
    Ok(outputs)
}

/// The request of a call, to a pipeline with so many control networks.
fn request(call: &Call<'_>, base: Request, networks: usize) -> Result<Request> {
    let picture =
        |name: &str| call.floats(name, [Any("batch"), Any("channels"), Any("height"), Any("width")]);
    let control_images: Vec<Tensor<4>> = if call.has("control_image") {
        picture("control_image")?.into_iter().collect()
    } else {
        let each = (0..call.count("control_image")).map(|i| picture(&format!("control_image.{i}")));
        each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
    };
    if control_images.len() != networks {
        bail!("there are {} control pictures for {networks} control networks", control_images.len());
    }
    let inputs = Inputs {
        latents: picture("latents")?,
        image: picture("image")?,
        mask_image: picture("mask_image")?,
        control_images,
    };
    let mut request = call.request::<Settings>()?.request(base, inputs)?;
    let embeddings = |states: &str, pooled: &str| {
        let states = call.floats(states, [Any("batch"), Any("tokens"), Any("channels")])?;
        let pooled = call.floats(pooled, [Any("batch"), Any("channels")])?;
        Ok::<_, anyhow::Error>(states.map(|states| Embeddings { states, pooled }))
    };
    if let Some(positive) = embeddings("prompt_embeds", "pooled_prompt_embeds")? {
        let negative = embeddings("negative_prompt_embeds", "negative_pooled_prompt_embeds")?;
        request.prompt = Prompts::Embedded { positive, negative };
    }
    call.understood()?;
    Ok(request)
}
