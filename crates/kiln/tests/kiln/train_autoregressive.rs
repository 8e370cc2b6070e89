//! `kiln train-autoregressive`, small: what it learns is judged elsewhere.

use std::fs;

use kiln::picture::Picture;
use serde_json::Value;

use crate::{fails, idx, succeeds};

const MODELS: [&str; 13] = [
    "independent",
    "fvsbn",
    "nade",
    "orderless-nade",
    "made",
    "recurrent",
    "wavenet",
    "transformer",
    "row-lstm",
    "diagonal-bilstm",
    "pixelcnn",
    "gated-pixelcnn",
    "pixelcnn-plus-plus",
];

fn arguments<'a>(model: &'a str, out: &'a str) -> Vec<&'a str> {
    let size = ["--hidden", "8", "--layers", "1", "--batch-size", "4", "--steps", "3", "--size", "6"];
    [&["train-autoregressive", "--data", "data", "--model", model, "--out", out], &size[..]].concat()
}

#[test]
fn every_model_learns_and_draws() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 40);
    for model in MODELS {
        let told = succeeds(dir.path(), &arguments(model, model));
        assert!(told.contains("nats a picture held out"), "{model}: {told}");
        let run = dir.path().join(model);
        let scores: Value =
            serde_json::from_str(&fs::read_to_string(run.join("scores.json")).unwrap()).unwrap();
        let nats = scores["held_out"]["nats"].as_f64().unwrap();
        // Four pictures of 36 pixels are held out; a coin for each pixel is 25 nats.
        assert!(nats > 0.0 && nats < 60.0, "{model}: {nats}");
        assert_eq!(scores["held_out"]["pictures"], 4);
        for picture in ["samples.png", "completions.png"] {
            assert!(Picture::open(run.join(picture)).unwrap().width() > 12, "{model}");
        }
    }
}

#[test]
fn a_run_that_goes_on_and_classes() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 40);
    let labels = [&arguments("made", "labels")[..], &["--labels"]].concat();
    let told = succeeds(dir.path(), &labels);
    assert!(told.contains("% classified"), "{told}");
    fails(dir.path(), &labels, "resume it");
    succeeds(dir.path(), &arguments("nade", "run"));
    let mut more = arguments("nade", "run");
    let steps = more.iter().position(|argument| *argument == "3").unwrap();
    more[steps] = "5";
    succeeds(dir.path(), &[&more[..], &["--resume"]].concat());
    assert_eq!(fs::read_to_string(dir.path().join("run/losses.csv")).unwrap().lines().count(), 6);
    more[steps] = "5";
    fails(dir.path(), &[&more[..], &["--resume", "--levels", "4"]].concat(), "levels");
}

#[test]
fn grey_levels_and_what_another_program_needs() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 40);
    for model in ["pixelcnn-plus-plus", "gated-pixelcnn"] {
        succeeds(dir.path(), &[&arguments(model, model)[..], &["--levels", "16", "--twin"]].concat());
        for file in ["start.safetensors", "data.safetensors"] {
            assert!(dir.path().join(model).join(file).is_file());
        }
    }
}

#[test]
fn mistakes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 4);
    fails(dir.path(), &arguments("made", "run"), "fewer than ten pictures");
    idx(&dir.path().join("data"), 40);
    fails(dir.path(), &arguments("nothing", "run"), "nothing");
    let run = arguments("diagonal-bilstm", "run");
    fails(dir.path(), &[&run[..], &["--levels", "1"]].concat(), "--levels");
    let missing: Vec<_> =
        run.iter().map(|argument| if *argument == "data" { "missing" } else { argument }).collect();
    fails(dir.path(), &missing, "missing");
    fs::remove_file(dir.path().join("data/train-labels-idx1-ubyte")).unwrap();
    fails(dir.path(), &[&run[..], &["--labels"]].concat(), "no classes");
    assert!(!dir.path().join("run").exists());
}
