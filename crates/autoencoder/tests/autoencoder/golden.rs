//! Numbers that diffusers computes (tests/reference/autoencoder.py), on every backend compiled in.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_autoencoder::{AutoencoderKL, Pieces};
use kiln_backend::testing;
use kiln_checkpoint::{
    Arrangement, Checkpoint, Pretrained, SaveOptions, StoredDType, StoredModel, View, parameters, to_bytes,
};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name)
}

fn tiled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiled")
}

fn weights(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap()
}

fn stored(folder: &Path) -> StoredModel {
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    StoredModel::new(config, weights(folder))
}

fn load(stored: &StoredModel, device: &Device) -> AutoencoderKL {
    let model: AutoencoderKL = stored.load(device).unwrap();
    assert_eq!(parameters(&model).len(), stored.weights.tensors().count(), "one parameter a tensor");
    model
}

/// Largest difference, relative to the largest value expected.
#[track_caller]
fn assert_close(what: &str, found: &TensorData, expected: &TensorData, tolerance: f32) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let error =
        found.iter::<f32>().zip(expected.iter::<f32>()).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    assert!(error <= tolerance * largest, "{what}: relative error {}", error / largest);
}

fn check(stored: &StoredModel, reference: &Path, pieces: impl Fn(&AutoencoderKL) -> Pieces, tolerance: f32) {
    let reference = Checkpoint::open(reference.join("reference.safetensors")).unwrap();
    let tensor = |name: &str| reference.tensor(name).unwrap();
    for (backend, device) in testing::devices() {
        let model = load(stored, &device);
        let pieces = pieces(&model);
        let latents = model.encode_in(Tensor::from_data(tensor("input.image"), &device), pieces);
        let image = model.decode_in(Tensor::from_data(tensor("input.latent"), &device), pieces);
        for (name, found) in [
            ("output.latent_mean", latents.mean),
            ("output.latent_logvar", latents.log_variance),
            ("output.image", image),
        ] {
            assert_close(&format!("{name} on {backend}"), &found.into_data(), &tensor(name), tolerance);
        }
    }
}

#[rstest]
#[case::three_stages("autoencoder_three_stages")]
#[case::attention_in_stages("autoencoder_attention")]
#[case::no_attention("autoencoder_no_attention")]
#[case::odd_sides("autoencoder_odd")]
#[case::names_of_2022("autoencoder_old_names")]
fn it_computes_what_diffusers_does(#[case] name: &str) {
    check(&stored(&case(name).join("checkpoint")), &case(name), |_| Pieces::Whole, 1e-5);
}

/// Tiles of the size that the config says, in a picture whose last tiles are cut short.
#[test]
fn tiles_are_blended_as_diffusers_does() {
    check(&stored(&tiled()), &tiled(), |model| Pieces::Tiles(model.config().tiling()), 1e-5);
}

/// What was loaded is written with the names, shapes and bits of diffusers' own file.
#[rstest]
#[case::three_stages("autoencoder_three_stages")]
#[case::attention_in_stages("autoencoder_attention")]
#[case::no_attention("autoencoder_no_attention")]
fn a_checkpoint_is_written_as_it_was(#[case] name: &str) {
    let folder = case(name).join("checkpoint");
    let theirs = weights(&folder);
    let options = SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() };
    let ours = to_bytes(&load(&stored(&folder), &Device::flex()), &options).unwrap();
    let ours = Checkpoint::from_bytes(ours).unwrap();
    assert!(ours.tensors().eq(theirs.tensors()), "names, types and shapes");
    for (name, _) in theirs.tensors() {
        assert_eq!(ours.tensor(name).unwrap().as_bytes(), theirs.tensor(name).unwrap().as_bytes(), "{name}");
    }
}

/// Attention's layers were 1 x 1 convolutions before they were linear, and some folders of 2022 keep them so.
#[test]
fn attention_may_be_stored_as_convolutions() {
    let case = case("autoencoder_old_names");
    let mut model = stored(&case.join("checkpoint"));
    let mut turned = 0;
    let views = model.weights.tensors().map(|(name, info)| {
        let mut view = View::renamed(name, name);
        let layer = ["query", "key", "value", "proj_attn"].iter().any(|layer| name.contains(layer));
        if let ([outputs, inputs], true) = (info.shape, layer) {
            view.arrangement = Arrangement::Reshaped(vec![*outputs, *inputs, 1, 1]);
            turned += 1;
        }
        view
    });
    model.weights = model.weights.view(views.collect()).unwrap();
    assert_eq!(turned, 8, "four layers in each half");
    check(&model, &case, |_| Pieces::Whole, 1e-5);
}

/// Only attention's parameters had other names; a tensor called `key` elsewhere keeps its own.
#[rstest]
#[case::query(
    "encoder.mid_block.attentions.0.query.weight",
    Some("encoder.mid_block.attentions.0.to_q.weight")
)]
#[case::output("mid_block.attentions.0.proj_attn.bias", Some("mid_block.attentions.0.to_out.0.bias"))]
#[case::norm("mid_block.attentions.0.group_norm.bias", None)]
#[case::elsewhere("mid_block.resnets.0.key.weight", None)]
#[case::of_today("mid_block.attentions.0.to_k.weight", None)]
#[case::short("key.weight", None)]
fn old_names_are_todays(#[case] name: &str, #[case] today: Option<&str>) {
    assert_eq!(AutoencoderKL::rename(name).as_deref(), today);
}

/// A folder of reference cases beside the repository (`CASE/checkpoint`, `CASE/reference.safetensors`), where there is one.
#[test]
#[ignore = "reads the case in the folder that KILN_REFERENCE_CASE names"]
fn it_computes_a_case_from_elsewhere() {
    let folder =
        PathBuf::from(std::env::var_os("KILN_REFERENCE_CASE").expect("KILN_REFERENCE_CASE names a folder"));
    check(&stored(&folder.join("checkpoint")), &folder, |_| Pieces::Whole, 1e-5);
}
