//! Every run that `tests/reference/pipelines.py` made with diffusers, drawn again.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use kiln_checkpoint::{Checkpoint, Contents, StoredPipeline};
use kiln_pipelines::{
    Drawn, Inputs, Progress, Request, STABLE_DIFFUSION, STABLE_DIFFUSION_3, Settings, StableDiffusion,
    StableDiffusion3, UNCONDITIONAL, Unconditional,
};
use rstest::rstest;
use serde::Deserialize;

/// The folder of a golden pipeline.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Its parts.
pub fn stored(name: &str) -> StoredPipeline {
    match Contents::open(folder(name)) {
        Ok(Contents::Pipeline(pipeline)) => pipeline,
        other => panic!("{name}: {other:?}"),
    }
}

#[derive(Deserialize)]
struct Run {
    name: String,
    request: Settings,
    scheduler: Option<String>,
}

/// What a run is given.
fn inputs(file: &Checkpoint, run: &str, device: &Device) -> Inputs {
    let read = |name: &str| {
        let name = format!("{run}.input.{name}");
        file.info(&name).map(|_| Tensor::from_data(file.tensor(&name).expect("readable"), device))
    };
    Inputs {
        latents: read("latents"),
        image: read("image"),
        mask_image: read("mask_image"),
        control_images: (0..).map_while(|i| read(&format!("control_image.{i}"))).collect(),
    }
}

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn draw(name: &str, run: Run, file: &Checkpoint, device: &Device) -> Drawn {
    let mut pipeline = stored(name);
    let inputs = inputs(file, &run.name, device);
    if inputs.control_images.is_empty() {
        // What has control networks is asked without them too.
        pipeline.models.retain(|part, _| !part.starts_with("controlnet"));
    }
    let request = |base| run.request.request(base, inputs).expect("a request");
    let class = pipeline.class.clone();
    let scheduler = run.scheduler;
    macro_rules! drawn {
        ($pipeline:ident, $base:expr) => {{
            let mut pipeline = $pipeline::new(pipeline, device).expect("a pipeline");
            if let Some(scheduler) = scheduler {
                pipeline = pipeline.with_scheduler(scheduler);
            }
            pipeline.draw(&request($base), &mut go_on).expect("drawn")
        }};
    }
    if STABLE_DIFFUSION.contains(&&*class) {
        drawn!(StableDiffusion, Request::new(""))
    } else if STABLE_DIFFUSION_3.contains(&&*class) {
        drawn!(StableDiffusion3, StableDiffusion3::request(""))
    } else {
        assert!(UNCONDITIONAL.contains(&&*class), "{class}");
        drawn!(Unconditional, Request::new(""))
    }
}

#[rstest]
#[case("stable_diffusion")]
#[case("inpainting")]
#[case("distilled")]
#[case("stable_diffusion_3")]
#[case("stable_diffusion_3_without_t5")]
#[case("ddpm")]
#[case("ddim")]
#[case("score_sde_ve")]
fn a_seed_gives_the_picture_that_diffusers_draws(#[case] name: &str) {
    let text = fs::read_to_string(folder(name).join("runs.json")).expect("its runs");
    let file = Checkpoint::open(folder(name).join("runs.safetensors")).expect("their numbers");
    let mut failures = Vec::new();
    for (backend, device) in kiln_backend::testing::devices() {
        let runs: Vec<Run> = serde_json::from_str(&text).expect("a list of runs");
        for run in runs {
            let run_name = run.name.clone();
            let Drawn { pictures, embeddings, .. } = draw(name, run, &file, &device);
            let embeddings = embeddings.map(|embeddings| (embeddings.states, embeddings.pooled));
            let (states, pooled) = embeddings.unzip();
            let mut check = |what: &str, found: Option<Vec<f32>>| {
                let name = format!("{run_name}.output.{what}");
                if file.info(&name).is_none() {
                    return;
                }
                let expected: Vec<f32> = file.tensor(&name).expect("readable").iter::<f32>().collect();
                let found = found.unwrap_or_default();
                assert_eq!(found.len(), expected.len(), "{name}");
                let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                let error =
                    expected.iter().zip(&found).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
                if error > 1e-4 * largest || found.iter().any(|value| value.is_nan()) {
                    failures.push(format!("{backend}: {name} is off by {error:e} of {largest}"));
                }
            };
            let floats = |x: Tensor<4>| x.into_data().iter::<f32>().collect();
            check("image", Some(floats(pictures)));
            check("prompt_embeds", states.map(|x| x.into_data().iter::<f32>().collect()));
            check("pooled_prompt_embeds", pooled.flatten().map(|x| x.into_data().iter::<f32>().collect()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
