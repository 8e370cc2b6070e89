//! LoRAs: every file that `tests/reference/lora.py` made, drawn with; and what must hold of their weights.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use kiln_checkpoint::{Checkpoint, tensors_to_bytes};
use kiln_pipelines::{
    Inputs, Lora, LoraError, Memory, PipelineError, Progress, Request, Settings, StableDiffusion,
    StableDiffusion3,
};
use rstest::rstest;
use serde::Deserialize;

use crate::golden::{folder, stored};

#[derive(Deserialize)]
struct Run {
    name: String,
    pipeline: String,
    loras: Vec<(String, f64)>,
    request: Settings,
}

fn file(name: &str) -> PathBuf {
    folder("loras").join(name)
}

fn lora(name: &str) -> Lora {
    Lora::open(file(name)).expect("a LoRA")
}

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The golden pipeline without its control networks.
fn plain(device: &Device) -> StableDiffusion {
    let mut parts = stored("stable_diffusion");
    parts.models.retain(|part, _| !part.starts_with("controlnet"));
    StableDiffusion::new(parts, device).expect("a pipeline")
}

fn numbers(x: Tensor<4>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn drawn(pipeline: &StableDiffusion, request: &Request) -> Vec<f32> {
    numbers(pipeline.draw(request, &mut go_on).expect("drawn").pictures)
}

fn request() -> Request {
    Request { steps: 2, size: Some([32, 32]), ..Request::new("a red kiln") }
}

#[test]
fn every_layout_draws_the_picture_that_python_draws() {
    let text = fs::read_to_string(file("runs.json")).expect("the runs");
    let runs: Vec<Run> = serde_json::from_str(&text).expect("a list of runs");
    let expected = Checkpoint::open(file("runs.safetensors")).expect("their pictures");
    let mut failures = Vec::new();
    for (backend, device) in kiln_backend::testing::devices() {
        for Run { name, pipeline, loras, request } in &runs {
            let request = |base| request.clone().request(base, Inputs::default()).expect("a request");
            macro_rules! drawn {
                ($pipeline:expr, $base:expr) => {{
                    let mut pipeline = $pipeline;
                    for (file, weight) in loras {
                        pipeline = pipeline.with_lora(&lora(file), *weight).expect("a LoRA that fits");
                    }
                    pipeline.draw(&request($base), &mut go_on).expect("drawn").pictures
                }};
            }
            let found = match &**pipeline {
                "stable_diffusion" => drawn!(plain(&device), Request::new("")),
                _ => {
                    let pipeline = StableDiffusion3::open(folder(pipeline), &device).expect("a pipeline");
                    drawn!(pipeline, StableDiffusion3::request(""))
                }
            };
            let expected = expected.tensor(&format!("{name}.image")).expect("a picture");
            let found = numbers(found);
            assert_eq!(expected.num_elements(), found.len());
            let errors = expected.iter::<f32>().zip(&found).map(|(a, b)| (a - b).abs());
            let error =
                errors.fold(0.0, |most: f32, error| if error.is_nan() { error } else { most.max(error) });
            if error.is_nan() || error > 1e-4 {
                failures.push(format!("{backend}: {name} is off by {error:e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn another_weight_is_what_it_is_from_the_start_and_none_leaves_no_trace() {
    let device = Device::flex();
    let without = drawn(&plain(&device), &request());
    let with = |weight: f64| plain(&device).with_lora(&lora("peft.safetensors"), weight).expect("it fits");
    let (half, whole) = (drawn(&with(0.5), &request()), drawn(&with(1.0), &request()));
    assert_ne!(half, whole);
    assert_eq!(drawn(&with(0.0), &request()), without);
    // Loaded with one weight, and given others then: the same bits as a pipeline that is made with them.
    let mut pipeline = with(1.0);
    assert_eq!(drawn(&pipeline, &request()), whole);
    for (weight, expected) in [(0.5, &half), (0.0, &without), (1.0, &whole), (0.0, &without)] {
        pipeline.set_lora_weights(&[weight]).expect("one weight");
        assert_eq!(pipeline.lora_weights(), [weight]);
        assert_eq!(&drawn(&pipeline, &request()), expected, "at {weight}");
    }
    // And where networks are given up between pictures.
    let low = Request { memory: Memory::Release, ..request() };
    pipeline.set_lora_weights(&[0.5]).expect("one weight");
    assert_eq!(drawn(&pipeline, &low), half);
    assert_eq!(drawn(&pipeline, &low), half);
}

#[test]
fn several_add_up_and_each_is_weighed_by_itself() {
    let device = Device::flex();
    let (first, second) = (lora("peft.safetensors"), lora("diffusers.safetensors"));
    let both = |a: f64, b: f64| {
        let pipeline = plain(&device).with_lora(&first, a).expect("it fits");
        pipeline.with_lora(&second, b).expect("it fits")
    };
    let alone = plain(&device).with_lora(&second, 0.3).expect("it fits");
    let mut pipeline = both(0.7, 0.3);
    let together = drawn(&pipeline, &request());
    assert_ne!(together, drawn(&alone, &request()));
    pipeline.set_lora_weights(&[0.0, 0.3]).expect("two weights");
    assert_eq!(drawn(&pipeline, &request()), drawn(&alone, &request()));
    // The same LoRA twice is once with both weights: in f32, up to the order of two sums.
    let twice = plain(&device).with_lora(&first, 0.25).expect("fits").with_lora(&first, 0.5).expect("fits");
    let once = plain(&device).with_lora(&first, 0.75).expect("fits");
    let (twice, once) = (drawn(&twice, &request()), drawn(&once, &request()));
    let error = twice.iter().zip(&once).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    assert!(error < 1e-5, "{error}");
}

#[test]
fn weights_that_are_none_are_refused() {
    let mut pipeline = plain(&Device::flex()).with_lora(&lora("peft.safetensors"), 1.0).expect("it fits");
    let said = |error: PipelineError| error.to_string();
    let few = said(pipeline.set_lora_weights(&[]).expect_err("one is missing"));
    assert!(few.contains("the weights of LoRAs: are 0 for 1 LoRAs"), "{few}");
    let wild = said(pipeline.set_lora_weights(&[f64::NAN]).expect_err("it is no number"));
    assert!(wild.contains("the weight of a LoRA: is NaN"), "{wild}");
    assert_eq!(pipeline.lora_weights(), [1.0]);
}

/// A LoRA of these tensors, all of ones.
fn made_of(tensors: &[(&str, &str)]) -> Checkpoint {
    let data = tensors.iter().map(|(name, shape)| {
        let shape: Vec<usize> = shape.split('x').map(|side| side.parse().expect("a side")).collect();
        let ones = vec![1.0f32; shape.iter().product()];
        ((*name).to_owned(), TensorData::new(ones, shape))
    });
    let bytes = tensors_to_bytes(data.collect(), &BTreeMap::new()).expect("a file");
    Checkpoint::from_bytes(bytes).expect("a file")
}

const DOWN: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight";
const UP: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight";

#[rstest]
#[case::dora(&[(DOWN, "2x16"), (UP, "16x2"), ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.dora_scale", "16")], "dora_scale` is of DoRA")]
#[case::dora_of_peft(&[("unet.conv_in.lora_magnitude_vector", "8")], "is of DoRA")]
#[case::loha(&[("lora_unet_conv_in.hada_w1_a", "2x2")], "`lora_unet_conv_in.hada_w1_a` is of LoHa")]
#[case::lokr(&[("lora_unet_conv_in.lokr_w1", "2x2")], "`lora_unet_conv_in.lokr_w1` is of LoKr")]
#[case::difference(&[("lora_unet_conv_in.diff", "2x2")], "is of a whole difference of weights")]
#[case::a_network(&[("unet.conv_in.weight", "8x4x3x3")], "`unet.conv_in.weight` has no name that a LoRA's tensors have")]
#[case::half(&[(DOWN, "2x16")], "is alone: the layer's factor that widens (`lora_B`, `lora_up`) is missing")]
#[case::other_half(&[(UP, "16x2")], "is alone: the layer's factor that narrows")]
#[case::twice(&[("unet.conv_in.lora_A.weight", "2x4"), ("lora_unet_conv_in.lora_down.weight", "2x4")], "are the same factor of one layer")]
#[case::nothing(&[("lora_unet_nowhere.lora_down.weight", "2x16"), ("lora_unet_nowhere.lora_up.weight", "16x2")], "`lora_unet_nowhere.lora_down.weight` is for no layer of the network;")]
#[case::another_part(&[("lora_te2_text_projection.lora_down.weight", "2x16"), ("lora_te2_text_projection.lora_up.weight", "16x2")], "`lora_te2_text_projection.lora_down.weight` is for no layer")]
#[case::narrow(&[(DOWN, "2x15"), (UP, "16x2")], "lora_down.weight` has shape [2, 15], which does not go with `mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight`, which is [16, 16]")]
#[case::wide(&[(DOWN, "2x16"), (UP, "17x2")], "lora_up.weight` has shape [17, 2]")]
#[case::ranks(&[(DOWN, "2x16"), (UP, "16x3")], "lora_up.weight` has shape [16, 3]")]
#[case::no_rank(&[(DOWN, "0x16"), (UP, "16x0")], "lora_down.weight` has shape [0, 16]")]
#[case::alpha(&[(DOWN, "2x16"), (UP, "16x2"), ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.alpha", "2")], "which does not go with one number")]
#[case::convolution(&[("unet.conv_in.lora_A.weight", "2x36"), ("unet.conv_in.lora_B.weight", "8x2")], "`unet.conv_in.lora_A.weight` has shape [2, 36]")]
fn what_is_no_lora_of_the_pipeline_is_said(#[case] tensors: &[(&str, &str)], #[case] message: &str) {
    let read = Lora::read(&made_of(tensors)).map_err(PipelineError::Lora);
    let error =
        read.and_then(|lora| plain(&Device::flex()).with_lora(&lora, 1.0)).expect_err("it does not fit");
    assert!(matches!(error, PipelineError::Lora(_)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(message), "{said}");
}

#[test]
fn a_lora_of_another_model_names_what_it_is_for() {
    let error =
        plain(&Device::flex()).with_lora(&lora("sd3_peft.safetensors"), 1.0).expect_err("it is SD3's");
    let PipelineError::Lora(LoraError::Unmatched { key, .. }) = error else { panic!("{error}") };
    assert!(key.starts_with("t"), "{key}");
}
