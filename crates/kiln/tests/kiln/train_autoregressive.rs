//! `kiln train-autoregressive`, small: what it learns is judged elsewhere.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use kiln::picture::{Channels, Picture};
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

/// One of MNIST's four files, of pictures and of their labels, gzipped.
fn half(dir: &Path, prefix: &str, count: u32, size: [u32; 2]) {
    let [height, width] = size;
    let mut images = [0x0000_0803_u32, count, height, width].map(u32::to_be_bytes).concat();
    let mut labels = [0x0000_0801_u32, count].map(u32::to_be_bytes).concat();
    for i in 0..count {
        images.extend((0..height * width).map(|p| if p % width <= i % 3 { 255 } else { 0 }));
        labels.push((i % 3) as u8);
    }
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
        let file = fs::File::create(dir.join(format!("{prefix}-{name}-ubyte.gz"))).unwrap();
        let mut gzip = GzEncoder::new(file, Compression::default());
        gzip.write_all(&bytes).unwrap();
        gzip.finish().unwrap();
    }
}

#[test]
fn the_four_files_one_file_and_one_half() {
    let dir = tempfile::tempdir().unwrap();
    let held_out = |data: &str, out: &str| {
        let run = ["train-autoregressive", "--data", data, "--model", "made", "--labels", "--hidden", "8"];
        let told = succeeds(
            dir.path(),
            &[
                &run[..],
                &[
                    "--steps",
                    "60",
                    "--batch-size",
                    "8",
                    "--learning-rate",
                    "3e-2",
                    "--warmup",
                    "5",
                    "--out",
                    out,
                ],
            ]
            .concat(),
        );
        assert!(told.contains("% classified"), "{told}");
        let scores = fs::read_to_string(dir.path().join(out).join("scores.json")).unwrap();
        let scores: Value = serde_json::from_str(&scores).unwrap();
        let nats = scores["held_out"]["nats"].as_f64().unwrap();
        // Stripes of so many columns as the class says: nothing else is to be learnt, and coins would be 24 nats.
        assert!(nats < 8.0, "{nats} nats");
        [&scores["run"]["pictures"], &scores["held_out"]["pictures"]].map(|n| n.as_u64().unwrap())
    };
    // Pictures that are no squares, 5 x 7.
    half(&dir.path().join("set"), "train", 60, [5, 7]);
    half(&dir.path().join("set"), "t10k", 12, [5, 7]);
    assert_eq!(held_out("set", "four"), [60, 12]);
    assert_eq!(held_out("set/train-images-idx3-ubyte.gz", "one"), [54, 6]);
    half(&dir.path().join("tested"), "t10k", 30, [5, 7]);
    assert_eq!(held_out("tested", "half"), [27, 3]);
    // A half that is there and can't be read is no half that is not there.
    fs::write(dir.path().join("set/t10k-images-idx3-ubyte.gz"), b"no gzip").unwrap();
    let damaged = ["train-autoregressive", "--data", "set", "--model", "made", "--out", "damaged"];
    fails(dir.path(), &damaged, "t10k-images-idx3-ubyte.gz");
}

#[test]
fn a_kept_model_draws_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    half(&dir.path().join("set"), "train", 60, [5, 7]);
    for (model, labels) in [("made", true), ("gated-pixelcnn", false), ("transformer", true)] {
        let run =
            ["train-autoregressive", "--data", "set", "--model", model, "--hidden", "8", "--layers", "1"];
        let steps = ["--steps", "60", "--batch-size", "8", "--learning-rate", "1e-2", "--out", model];
        let labels = if labels { &["--labels"][..] } else { &[] };
        succeeds(dir.path(), &[&run[..], &steps[..], labels].concat());
        let kept = format!("{model}/model.safetensors");
        let draw = |extra: &[&str], out: &str| {
            let command = ["generate", "--model", &kept, "--out", out];
            succeeds(dir.path(), &[&command[..], extra].concat());
            let picture = |i: usize| Picture::open(dir.path().join(out).join(format!("{i:05}.png"))).unwrap();
            (0..3).map(picture).collect::<Vec<_>>()
        };
        let three = draw(&["--count", "3", "--seed", "5"], "a");
        assert_eq!((three[0].width(), three[0].height(), three[0].channels()), (7, 5, Channels::Grey));
        assert!(three[0].samples().iter().all(|&pixel| pixel == 0 || pixel == 255));
        assert_eq!(three, draw(&["--count", "3", "--seed", "5"], "b"), "{model}: the seed makes them");
        assert_eq!(three[..], draw(&["--count", "4", "--seed", "5"], "c")[..3], "{model}: however many");
        assert_ne!(three, draw(&["--count", "3", "--seed", "6"], "d"), "{model}");

        // Two columns are white: known in the upper two rows, or where the mask is black.
        let stripes: Vec<u8> = (0..35).map(|p| if p % 7 < 2 { 255 } else { 0 }).collect();
        Picture::new(7, 5, Channels::Grey, stripes.clone())
            .unwrap()
            .write_png(dir.path().join("in.png"))
            .unwrap();
        let upper = |picture: &Picture| picture.samples()[..14].to_vec();
        for picture in draw(&["--count", "3", "--image", "in.png"], "e") {
            assert_eq!(upper(&picture), stripes[..14], "{model}");
        }
        let mask: Vec<u8> = (0..35).map(|p| if p == 34 { 255 } else { 0 }).collect();
        Picture::new(7, 5, Channels::Grey, mask).unwrap().write_png(dir.path().join("mask.png")).unwrap();
        for picture in draw(&["--count", "3", "--image", "in.png", "--mask", "mask.png"], "f") {
            assert_eq!(picture.samples()[..34], stripes[..34], "{model}");
        }
    }
    let asks = |model: &str, extra: &[&str], message: &str| {
        fails(dir.path(), &[&["generate", "--model", model][..], extra].concat(), message);
    };
    asks("made", &["--class", "3"], "numbered 0 to 2");
    asks("made", &["--label", "1"], "--label is for other models");
    asks("made", &["--steps", "4"], "--steps is for other models");
    asks("made", &["--prompt", "a digit"], "--prompt is for other models");
    asks("gated-pixelcnn", &["--class", "1"], "no classes");
    asks("gated-pixelcnn", &["--image", "missing.png"], "missing.png");
    // The run's folder stands for the file in it; and a class is asked for by its number.
    succeeds(
        dir.path(),
        &["generate", "--model", "made", "--class", "1", "--out", "one.png", "--count", "9"],
    );
    let white = Picture::open(dir.path().join("one.png")).unwrap();
    assert!(white.width() > 7);
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
