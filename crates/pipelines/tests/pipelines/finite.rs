//! Numbers that are not finite are told by the layer that gave them first.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use kiln_checkpoint::{Checkpoint, Contents, save_tensors};
use kiln_pipelines::{PipelineError, Request, StableDiffusion, StableDiffusion3, Unconditional};
use rstest::rstest;

use crate::golden::folder;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A pipeline one of whose tensors has a number put in its place; the folder and what becomes of a drawing.
fn poisoned(name: &str, part: &str, tensor: &str, number: f32) -> PipelineError {
    let dir = tempfile::tempdir().unwrap();
    copy(&folder(name), dir.path());
    let mut weights = std::fs::read_dir(dir.path().join(part)).unwrap().map(|entry| entry.unwrap().path());
    let path = weights.find(|path| path.extension().is_some_and(|kind| kind == "safetensors")).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let mut found = 0;
    let tensors: BTreeMap<String, TensorData> = file
        .tensors()
        .map(|(name, _)| {
            let data = file.tensor(name).unwrap();
            let data = match name == tensor {
                true => {
                    found += 1;
                    let shape = data.shape().clone();
                    let mut values: Vec<f32> = data.iter().collect();
                    values[0] = number;
                    TensorData::new(values, shape)
                }
                false => data,
            };
            (name.to_owned(), data)
        })
        .collect();
    assert_eq!(found, 1, "{tensor}");
    drop(file);
    save_tensors(tensors, &BTreeMap::new(), &path).unwrap();

    let Contents::Pipeline(mut stored) = Contents::open(dir.path()).unwrap() else { panic!("a pipeline") };
    stored.models.retain(|part, _| !part.starts_with("controlnet"));
    let (device, mut go_on) = (Device::flex(), |_: kiln_pipelines::Progress<'_>| ControlFlow::Continue(()));
    let request = Request { steps: 3, size: None, ..Request::new("a red kiln") };
    let drawn = match name {
        "stable_diffusion" => StableDiffusion::new(stored, &device).unwrap().draw(&request, &mut go_on),
        "stable_diffusion_3" => StableDiffusion3::new(stored, &device).unwrap().draw(&request, &mut go_on),
        _ => Unconditional::new(stored, &device).unwrap().draw(&request, &mut go_on),
    };
    drawn.expect_err("numbers that are not finite")
}

#[rstest]
#[case::first("stable_diffusion", "unet", "conv_in.weight", "unet.conv_in")]
#[case::time("stable_diffusion", "unet", "time_embedding.linear_1.weight", "unet.time_embedding")]
#[case::residual(
    "stable_diffusion",
    "unet",
    "down_blocks.1.resnets.0.conv2.weight",
    "unet.down_blocks.1.resnets.0.conv2"
)]
#[case::prompt(
    "stable_diffusion",
    "unet",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0"
)]
#[case::last("stable_diffusion", "unet", "conv_norm_out.weight", "unet.conv_norm_out")]
#[case::text(
    "stable_diffusion",
    "text_encoder",
    "encoder.layers.1.mlp.fc1.weight",
    "text_encoder.text_model.encoder.layers.1"
)]
#[case::decoder(
    "stable_diffusion",
    "vae",
    "decoder.mid_block.attentions.0.to_k.weight",
    "vae.decoder.mid_block.attentions.0"
)]
#[case::joint(
    "stable_diffusion_3",
    "transformer",
    "transformer_blocks.1.ff.net.2.weight",
    "transformer.transformer_blocks.1"
)]
#[case::t5(
    "stable_diffusion_3",
    "text_encoder_3",
    "encoder.block.1.layer.0.SelfAttention.v.weight",
    "text_encoder_3.encoder.block.1.layer.0"
)]
#[case::unconditional(
    "ddpm",
    "unet",
    "up_blocks.0.attentions.0.to_q.weight",
    "unet.up_blocks.0.attentions.0"
)]
fn a_poisoned_layer_is_named(
    #[case] pipeline: &str,
    #[case] part: &str,
    #[case] tensor: &str,
    #[case] expected: &str,
) {
    let error = poisoned(pipeline, part, tensor, f32::NAN);
    let PipelineError::NotFinite { layer, advice, .. } = &error else { panic!("{error}") };
    assert_eq!(layer.as_deref(), Some(expected), "{error}");
    assert!(advice.contains("f32"), "{advice}");
    assert!(error.to_string().contains(expected), "{error}");
}

/// As 16 bits store what is too large for them.
#[test]
fn an_infinite_bias_is_named() {
    let error = poisoned("ddpm", "unet", "mid_block.resnets.1.conv1.bias", f32::INFINITY);
    let PipelineError::NotFinite { layer, step, .. } = &error else { panic!("{error}") };
    assert_eq!((layer.as_deref(), *step), (Some("unet.mid_block.resnets.1.conv1"), Some(0)));
}
