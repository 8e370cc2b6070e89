//! `kiln train-control`, small, for a model that is small: what it learns is judged elsewhere.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use kiln::PictureControl;
use kiln::picture::{Channels, Picture};
use kiln::training::data::{Pictures, Split};
use serde_json::Value;

use crate::{fails, idx, succeeds};

/// A model of squares and dots, trained for a moment, in `base`.
fn base(dir: &Path) {
    idx(&dir.join("data"), 40);
    let size = ["--channels", "8,8", "--batch-size", "4", "--steps", "2", "--sample-every", "100"];
    succeeds(dir, &[&["train", "--data", "data", "--out", "base"], &size[..]].concat());
}

fn arguments<'a>(out: &'a str, steps: &'a str) -> Vec<&'a str> {
    let size = ["--batch-size", "4", "--checkpoint-every", "2", "--judge-every", "2", "--judged", "3"];
    let of_run = ["train-control", "--data", "data", "--model", "base", "--out", out, "--steps", steps];
    [&of_run[..], &size].concat()
}

fn rows(dir: &Path, file: &str) -> Vec<String> {
    fs::read_to_string(dir.join(file)).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn it_learns_goes_on_and_draws() {
    let dir = tempfile::tempdir().unwrap();
    base(dir.path());
    let told = succeeds(dir.path(), &arguments("whole", "6"));
    assert!(told.contains("F1 within a pixel"), "{told}");
    let whole = dir.path().join("whole");
    let norms = rows(&whole, "control.csv");
    assert_eq!(norms.len(), 7, "a head and 6 steps");
    let norm = |row: &str| row.split(',').nth(1).unwrap().parse::<f64>().unwrap();
    // Convolutions of zeros in the first step, and no longer in the last.
    assert_eq!(norm(&norms[1]), 0.0);
    assert!(norm(&norms[6]) > 0.0);
    assert_eq!(rows(&whole, "overlap.csv").len(), 4, "a head and steps 2, 4, 6");
    let scores: Value =
        serde_json::from_str(&fs::read_to_string(whole.join("scores.json")).unwrap()).unwrap();
    assert_eq!(scores["pictures"], 3);
    let f1 = scores["uncontrolled"]["f1"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&f1), "{f1}");
    // Five rows of three pictures of 8 x 8, with margins of 2.
    let compared = Picture::open(whole.join("compared.png")).unwrap();
    assert_eq!((compared.width(), compared.height()), (3 * 10 + 2, 5 * 10 + 2));

    // Stopped at the checkpoint of step 4, and gone on with: to the bit what was left alone.
    fs::create_dir(dir.path().join("resumed")).unwrap();
    for file in ["checkpoint-00000004.safetensors", "losses.csv", "control.csv", "overlap.csv"] {
        fs::copy(whole.join(file), dir.path().join("resumed").join(file)).unwrap();
    }
    succeeds(dir.path(), &[&arguments("resumed", "6")[..], &["--resume"]].concat());
    for file in ["control.safetensors", "losses.csv", "control.csv", "overlap.csv", "compared.png"] {
        let (one, other) = (whole.join(file), dir.path().join("resumed").join(file));
        assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap(), "{file}");
    }
    fails(dir.path(), &arguments("whole", "6"), "resume it");
    let others = [&arguments("resumed", "6")[..], &["--resume", "--high", "200"]].concat();
    fails(dir.path(), &others, "control");

    // What was trained leads the model that it was trained for.
    let edges =
        Picture::new(8, 8, Channels::Grey, (0..64).map(|i| if i % 8 == 3 { 255 } else { 0 }).collect());
    edges.unwrap().write_png(dir.path().join("edges.png")).unwrap();
    let draw = |more: &[&str]| -> Vec<u8> {
        let model = ["generate", "--model", "base", "--class", "1", "--count", "2", "--steps", "2"];
        succeeds(dir.path(), &[&model[..], &["--out", "drawn.png"], more].concat());
        fs::read(dir.path().join("drawn.png")).unwrap()
    };
    let shown = ["--control", "whole", "--control-image", "edges.png"];
    let alone = draw(&[]);
    assert_ne!(draw(&[&shown[..], &["--control-scale", "1000"]].concat()), alone);
    assert_eq!(draw(&[&shown[..], &["--control-scale", "0"]].concat()), alone);
}

#[test]
fn mistakes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    base(dir.path());
    let run = arguments("run", "2");
    fails(dir.path(), &[&run[..], &["--low", "9", "--high", "1"]].concat(), "thresholds");
    let other: Vec<_> =
        run.iter().map(|argument| if *argument == "data" { "missing" } else { argument }).collect();
    fails(dir.path(), &other, "missing");
    let other: Vec<_> =
        run.iter().map(|argument| if *argument == "base" { "missing" } else { argument }).collect();
    fails(dir.path(), &other, "missing");
    // The digits in the program are 28 x 28.
    let digits = ["train-control", "--data", "data", "--out", "run"];
    fails(dir.path(), &digits, "28");
    idx(&dir.path().join("few"), 4);
    let few: Vec<_> = run.iter().map(|argument| if *argument == "data" { "few" } else { argument }).collect();
    fails(dir.path(), &few, "fewer than ten pictures");

    let draw = |more: &[&str], message: &str| {
        fails(dir.path(), &[&["generate", "--model", "base", "--count", "1"], more].concat(), message);
    };
    draw(&["--control", "base"], "--control-image FILE is missing");
    draw(&["--control-image", "x.png"], "--control PATH is missing");
    draw(&["--control", "base/model.safetensors", "--control-image", "x.png"], "kiln.picture_control");
    draw(&["--control", "a", "--control-image", "x.png", "--guess"], "--guess is for pipelines");
    succeeds(dir.path(), &run);
    draw(&["--control", "run", "--control-image", "x.png"], "x.png");
    // Of another model.
    Picture::new(8, 8, Channels::Grey, vec![0; 64]).unwrap().write_png(dir.path().join("edges.png")).unwrap();
    let digits = ["generate", "--count", "1", "--control", "run", "--control-image", "edges.png"];
    fails(dir.path(), &digits, "another network");
}

/// The network in the repository, which is trained as the documentation says, draws inside the edges of digits that were held out.
#[test]
fn the_network_for_the_digits_follows_edges() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let held_out = Pictures::idx(root.join("data/mnist"), Split::Test).unwrap();
    let control = root.join("models/digits-control.safetensors");
    let card = PictureControl::open(&control, &Device::flex()).unwrap().card().clone();
    // Whether an edge is at most one step from a pixel.
    let near = |edges: &Picture, at: usize| {
        let (x, y) = (at % 28, at / 28);
        let around = |at: usize| at.saturating_sub(1)..=(at + 1).min(27);
        around(y).any(|y| around(x).any(|x| edges.samples()[28 * y + x] > 0))
    };
    let covered = |of: &Picture, by: &Picture| {
        let edges: Vec<usize> = (0..784).filter(|&at| of.samples()[at] > 0).collect();
        edges.iter().filter(|&&at| near(by, at)).count() as f64 / edges.len() as f64
    };
    let mut overlaps = Vec::new();
    for digit in 0..4 {
        let asked = card.edges(&held_out.picture(digit)).unwrap();
        asked.write_png(dir.path().join("edges.png")).unwrap();
        let control = control.to_str().unwrap();
        let class = held_out.labels().unwrap()[digit].to_string();
        let shown = ["generate", "--class", &class, "--count", "1", "--steps", "8", "--out", "drawn"];
        succeeds(dir.path(), &[&shown[..], &["--control", control, "--control-image", "edges.png"]].concat());
        let drawn = card.edges(&Picture::open(dir.path().join("drawn/00000.png")).unwrap()).unwrap();
        let (precision, recall) = (covered(&drawn, &asked), covered(&asked, &drawn));
        overlaps.extend([precision, recall]);
    }
    // The model alone has 0.78 over many digits.
    let mean = overlaps.iter().sum::<f64>() / overlaps.len() as f64;
    assert!(mean > 0.95, "{mean}: {overlaps:?}");
}
