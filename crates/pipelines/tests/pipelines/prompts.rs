//! Prompts with weights and in chunks: every run that `tests/reference/prompts.py` made, drawn again.

use std::fs;
use std::ops::ControlFlow;

use burn::tensor::Device;
use kiln_checkpoint::Checkpoint;
use kiln_pipelines::{
    Drawn, Inputs, Progress, Prompts, Request, Settings, StableDiffusion, StableDiffusion3, Wording,
};
use serde::Deserialize;

use crate::golden::{folder, stored};

#[derive(Deserialize)]
struct Run {
    name: String,
    pipeline: String,
    chunks: usize,
    request: Settings,
}

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn plain(device: &Device) -> StableDiffusion {
    let mut parts = stored("stable_diffusion");
    parts.models.retain(|part, _| !part.starts_with("controlnet"));
    StableDiffusion::new(parts, device).expect("a pipeline")
}

#[test]
fn weights_and_chunks_are_told_as_python_tells_them() {
    let text = fs::read_to_string(folder("prompts").join("runs.json")).expect("the runs");
    let expected = Checkpoint::open(folder("prompts").join("runs.safetensors")).expect("their numbers");
    let runs: Vec<Run> = serde_json::from_str(&text).expect("a list of runs");
    assert!(runs.iter().any(|run| run.chunks > 2));
    let mut failures = Vec::new();
    for (backend, device) in kiln_backend::testing::devices() {
        for Run { name, pipeline, chunks, request } in &runs {
            let request = |base| {
                let base = Request { wording: Wording::Weighted, ..base };
                request.clone().request(base, Inputs::default()).expect("a request")
            };
            let Drawn { pictures, embeddings, .. } = match &**pipeline {
                "stable_diffusion" => plain(&device).draw(&request(Request::new("")), &mut go_on),
                _ => {
                    let pipeline = StableDiffusion3::open(folder(pipeline), &device).expect("a pipeline");
                    pipeline.draw(&request(StableDiffusion3::request("")), &mut go_on)
                }
            }
            .expect("drawn");
            let embeddings = embeddings.expect("they were told words");
            let t5 = if pipeline == "stable_diffusion" { 0 } else { 20 };
            assert_eq!(embeddings.states.dims()[1], 16 * chunks + t5, "{name}");
            let found = [
                ("image", Some(pictures.into_data())),
                ("prompt_embeds", Some(embeddings.states.into_data())),
                ("pooled_prompt_embeds", embeddings.pooled.map(|pooled| pooled.into_data())),
            ];
            for (what, found) in found {
                let Some(found) = found else { continue };
                let expected = expected.tensor(&format!("{name}.{what}")).expect("in the file");
                assert_eq!(expected.num_elements(), found.num_elements(), "{name}.{what}");
                let pairs = expected.iter::<f32>().zip(found.iter::<f32>());
                let largest = expected.iter::<f32>().fold(0.0, |most: f32, value| most.max(value.abs()));
                let error =
                    pairs.fold(0.0, |most: f32, (a, b)| if b.is_nan() { b } else { most.max((a - b).abs()) });
                if error.is_nan() || error > 1e-4 * largest {
                    failures.push(format!("{backend}: {name}.{what} is off by {error:e} of {largest}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn request(prompt: &str, wording: Wording) -> Request {
    let prompt =
        Prompts::Text { positive: vec![prompt.to_owned()], negative: vec!["in the rain".to_owned()] };
    Request { prompt, wording, steps: 2, size: Some([32, 32]), ..Request::new("") }
}

#[test]
fn a_prompt_without_weights_is_told_the_same_to_the_bit() {
    let device = Device::flex();
    let (sd, sd3) =
        (plain(&device), StableDiffusion3::open(folder("stable_diffusion_3"), &device).expect("one"));
    let of_sd = |text: &str, wording| {
        let drawn = sd.draw(&request(text, wording), &mut go_on).expect("drawn");
        drawn.pictures.into_data().iter::<f32>().collect::<Vec<_>>()
    };
    let of_sd3 = |text: &str, wording| {
        let drawn = sd3.draw(&request(text, wording), &mut go_on).expect("drawn");
        drawn.pictures.into_data().iter::<f32>().collect::<Vec<_>>()
    };
    for text in ["", "a red kiln", "red: kiln, 1.3"] {
        assert_eq!(of_sd(text, Wording::Weighted), of_sd(text, Wording::Literal), "{text}");
        assert_eq!(of_sd3(text, Wording::Weighted), of_sd3(text, Wording::Literal), "{text}");
    }
    // A weight of 1, and brackets that undo each other's.
    assert_eq!(of_sd("a (red:1) kiln", Wording::Weighted), of_sd("a red kiln", Wording::Literal));
    let literally = of_sd("a (red:1.5) kiln", Wording::Literal);
    assert_ne!(literally, of_sd("a (red:1.5) kiln", Wording::Weighted));
    assert_ne!(literally, of_sd("a red kiln", Wording::Literal));
}

#[test]
fn what_stands_beyond_the_first_chunk_counts() {
    let sd = plain(&Device::flex());
    let drawn = |text: &str, wording| {
        let drawn = sd.draw(&request(text, wording), &mut go_on).expect("drawn");
        drawn.pictures.into_data().iter::<f32>().collect::<Vec<_>>()
    };
    let (rain, red) =
        ("a photo of a kiln of a kiln of a kiln in rain", "a photo of a kiln of a kiln of a kiln in red");
    assert_eq!(drawn(rain, Wording::Literal), drawn(red, Wording::Literal), "both are cut");
    assert_ne!(drawn(rain, Wording::Weighted), drawn(red, Wording::Weighted));
}
