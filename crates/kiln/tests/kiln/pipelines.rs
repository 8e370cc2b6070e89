//! `kiln generate` with pipelines.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln::picture::{Channels, Picture};

use crate::{fails, succeeds};

/// A tiny pipeline, of those that the crate's tests draw with.
fn pipeline(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/tests/golden").join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The pipeline without control networks, as a folder of links.
fn without_controls(dir: &Path) -> PathBuf {
    let folder = dir.join("model");
    std::fs::create_dir(&folder).unwrap();
    let from = PathBuf::from(pipeline("stable_diffusion"));
    for part in ["scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
        copy(&from.join(part), &folder.join(part));
    }
    let index = std::fs::read_to_string(from.join("model_index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
    index.as_object_mut().unwrap().remove("controlnet");
    std::fs::write(folder.join("model_index.json"), index.to_string()).unwrap();
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn photograph(dir: &Path, name: &str, channels: Channels, side: u32) -> String {
    let samples = channels.count() * (side * side) as usize;
    let samples = (0..samples).map(|i| (i * 7 % 251) as u8).collect();
    let path = dir.join(name);
    Picture::new(side, side, channels, samples).unwrap().write_png(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_prompt_becomes_a_picture_that_says_how_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let model = without_controls(dir.path());
    let model = model.to_str().unwrap();
    let words = ["generate", "--model", model, "--prompt", "a red kiln", "--steps", "2", "--seed", "5"];
    let more = ["--width", "40", "--height", "24", "--solver", "dpmpp-2m", "--negative-prompt", "blurry"];
    let told = succeeds(dir.path(), &[&words[..], &more, &["--out", "a.png"]].concat());
    assert_eq!(told.trim(), "a.png");
    let picture = Picture::open(dir.path().join("a.png")).unwrap();
    assert_eq!((picture.width(), picture.height(), picture.channels()), (40, 24, Channels::Rgb));
    let entries = Picture::text_of(dir.path().join("a.png")).unwrap();
    assert!(entries["kiln"].contains("\"prompt\":\"a red kiln\""), "{}", entries["kiln"]);

    succeeds(dir.path(), &["generate", "--like", "a.png", "--out", "b.png"]);
    assert_eq!(Picture::open(dir.path().join("b.png")).unwrap(), picture, "the same again");
    succeeds(dir.path(), &["generate", "--like", "a.png", "--seed", "6", "--out", "c.png"]);
    assert_ne!(Picture::open(dir.path().join("c.png")).unwrap(), picture, "another seed");
    let low = [&words[..], &more, &["--low-memory", "--out", "d.png"]].concat();
    succeeds(dir.path(), &low);
    assert_eq!(Picture::open(dir.path().join("d.png")).unwrap(), picture, "small enough to be one tile");
}

#[test]
fn pictures_masks_and_controls_are_taken_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let plain = without_controls(dir.path());
    let photo = photograph(dir.path(), "photo.png", Channels::Rgba, 37);
    let mask = photograph(dir.path(), "mask.png", Channels::Grey, 20);
    let words = ["--prompt", "a red kiln", "--steps", "4", "--out", "a.png"];
    let plain = ["generate", "--model", plain.to_str().unwrap(), "--image", &photo, "--mask", &mask];
    succeeds(dir.path(), &[&plain[..], &["--strength", "0.5"], &words].concat());
    let picture = Picture::open(dir.path().join("a.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32), "whole blocks of the photograph's size");

    let controlled = pipeline("stable_diffusion");
    let shown = ["--control-image", &photo, "--control-image", &mask, "--control-mask", &mask];
    let scales = ["--control-scale", "0.5", "--control-scale", "0.7", "--control-end", "0.5", "--guess"];
    let words = ["--prompt", "a red kiln", "--steps", "2", "--out", "b.png"];
    succeeds(dir.path(), &[&["generate", "--model", &controlled][..], &shown, &scales, &words].concat());
    assert_eq!(Picture::open(dir.path().join("b.png")).unwrap().width(), 32);
    // A control network that is named, for a pipeline that has none.
    let network = Path::new(&controlled).join("controlnet_1");
    let named = ["--control", network.to_str().unwrap(), "--control-image", &photo];
    let model = dir.path().join("model");
    succeeds(dir.path(), &[&["generate", "--model", model.to_str().unwrap()][..], &named, &words].concat());
}

#[test]
fn words_are_weighed_unless_they_are_meant_literally() {
    let dir = tempfile::tempdir().unwrap();
    let model = without_controls(dir.path());
    let words = ["generate", "--model", model.to_str().unwrap(), "--steps", "2", "--out", "a.png"];
    let drawn = |more: &[&str]| {
        succeeds(dir.path(), &[&words[..], more].concat());
        Picture::open(dir.path().join("a.png")).unwrap()
    };
    let plain = drawn(&["--prompt", "a red kiln"]);
    assert_eq!(drawn(&["--prompt", "a (red:1) kiln"]), plain);
    assert_eq!(drawn(&["--prompt", "a red kiln", "--literal"]), plain);
    let weighed = drawn(&["--prompt", "a (red:1.4) kiln"]);
    assert_ne!(weighed, plain);
    let literal = drawn(&["--prompt", "a (red:1.4) kiln", "--literal"]);
    assert!(literal != plain && literal != weighed);
    succeeds(dir.path(), &["generate", "--like", "a.png", "--out", "b.png"]);
    assert_eq!(Picture::open(dir.path().join("b.png")).unwrap(), literal, "literally again");
}

#[test]
fn loras_are_weighed() {
    let dir = tempfile::tempdir().unwrap();
    let model = without_controls(dir.path());
    let lora = |name: &str| pipeline("loras/") + name;
    let words = ["generate", "--model", model.to_str().unwrap(), "--prompt", "a red kiln", "--steps", "2"];
    let drawn = |loras: &[&str]| {
        let loras = loras.iter().flat_map(|lora| ["--lora", lora]).collect::<Vec<_>>();
        succeeds(dir.path(), &[&words[..], &loras, &["--out", "a.png"]].concat());
        Picture::open(dir.path().join("a.png")).unwrap()
    };
    let (peft, kohya) = (lora("peft.safetensors"), lora("kohya.safetensors"));
    let without = drawn(&[]);
    let whole = drawn(&[&peft]);
    assert_ne!(whole, without);
    assert_eq!(drawn(&[&format!("{peft}:1")]), whole, "1 is what is meant if nothing is said");
    assert_eq!(drawn(&[&format!("{peft}:0"), &format!("{kohya}:0.0")]), without);
    assert_ne!(drawn(&[&format!("{peft}:-0.5")]), drawn(&[&format!("{peft}:0.5")]));
    let both = drawn(&[&format!("{peft}:0.5"), &format!("{kohya}:0.3")]);
    succeeds(dir.path(), &["generate", "--like", "a.png", "--out", "b.png"]);
    assert_eq!(Picture::open(dir.path().join("b.png")).unwrap(), both, "the same again");

    let refused = |lora: &str, message: &str| {
        fails(dir.path(), &[&words[..], &["--lora", lora]].concat(), message);
    };
    refused(&lora("sd3_peft.safetensors"), "is for no layer of the network");
    refused("none.safetensors:0.5", "none.safetensors: there is no such file or folder");
    refused(&format!("{peft}:nan"), "the weight of a LoRA: is NaN");
    refused(
        &(pipeline("stable_diffusion/unet/") + "diffusion_pytorch_model.safetensors"),
        "is the file a LoRA?",
    );
}

#[test]
fn unconditional_pipelines_need_no_prompt() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &["generate", "--model", &pipeline("ddim"), "--steps", "2", "--count", "3"]);
    // Two columns of 16 with 2 between.
    assert_eq!(Picture::open(dir.path().join("kiln.png")).unwrap().width(), 2 * 16 + 3 * 2);
}

#[test]
fn mistakes_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let model = without_controls(dir.path());
    let model = model.to_str().unwrap();
    let said = |arguments: &[&str], message: &str| {
        fails(dir.path(), &[&["generate"][..], arguments].concat(), message);
    };
    said(&["--model", model], "--prompt is missing");
    said(&["--prompt", "x"], "are for pipelines: --model PATH");
    said(&["--model", &pipeline("ddim"), "--prompt", "x"], "draws without a prompt");
    said(&["--model", model, "--prompt", "x", "--width", "33"], "expected multiples of 2");
    said(&["--model", model, "--prompt", "x", "--solver", "consistency"], "solver of schedulers");
    said(&["--model", model, "--prompt", "x", "--image", "none.png"], "none.png");
    said(&["--model", model, "--prompt", "x", "--mask", "m.png"], "--image");
    said(&["--model", model, "--prompt", "x", "--control", model], "is no control network");
    let photo = photograph(dir.path(), "photo.png", Channels::Rgb, 16);
    said(&["--like", &photo], "does not say how it was made");
    assert!(!dir.path().join("kiln.png").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_within_a_step_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = without_controls(dir.path());
    let mut running = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .current_dir(dir.path())
        .args(["generate", "--model", model.to_str().unwrap(), "--prompt", "x", "--steps", "900"])
        .args(["--width", "96", "--height", "96", "--out", "a.png", "--backend", "flex"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let stop = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(stop.success(), "the run was over too soon: make it longer");
    let begun = Instant::now();
    let status = running.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!dir.path().join("a.png").exists());
}
