//! `kiln scenes` and `kiln train-detector`, small: what it learns is judged elsewhere.

use std::fs;
use std::path::Path;

use crate::{fails, succeeds};

fn scenes(dir: &Path) {
    let data = |name: &str| format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let (digits, photos) = (data("mnist"), data("photos"));
    let arguments = ["scenes", "--out", "scenes", "--count", "6", "--size", "48", "--seed", "3"];
    let output = crate::bare(dir, &[&arguments[..], &["--digits", &digits, "--photos", &photos]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const SMALL: [&str; 20] = [
    "train-detector",
    "--data",
    "scenes",
    "--size",
    "48",
    "--channels",
    "8,8",
    "--depths",
    "1",
    "--width",
    "16",
    "--feed-forward",
    "16",
    "--layers",
    "1,1",
    "--queries",
    "4",
    "--batch-size",
    "2",
    "--out",
];

fn train(out: &'static str, steps: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    [&SMALL[..], &[out, "--steps", steps, "--warmup", "1", "--checkpoint-every", "2"], more].concat()
}

#[test]
fn a_run_that_goes_on_is_the_run_in_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    scenes(dir.path());
    succeeds(dir.path(), &train("whole", "4", &["--test", "scenes", "--score-every", "4"]));
    let weights = |run: &str| fs::read(dir.path().join(run).join("model/model.safetensors")).unwrap();
    let scores = fs::read_to_string(dir.path().join("whole/scores.csv")).unwrap();
    assert!(scores.starts_with("step,AP,AP50") && scores.lines().count() == 2, "{scores}");
    fails(dir.path(), &train("whole", "4", &[]), "resume it");
    succeeds(dir.path(), &train("whole", "6", &["--test", "scenes", "--score-every", "4", "--resume"]));
    assert_eq!(fs::read_to_string(dir.path().join("whole/losses.csv")).unwrap().lines().count(), 7);
    // What was trained is a detector's folder.
    let scene = "scenes/images/00000001.png";
    succeeds(dir.path(), &["detect", scene, "--model", "whole/model", "--out", "found"]);
    assert!(!weights("whole").is_empty());
}

#[test]
fn mistakes_in_a_data_set_are_told() {
    let dir = tempfile::tempdir().unwrap();
    scenes(dir.path());
    let file = dir.path().join("scenes/annotations.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(dir.path().join("scenes/images/00000002.png")).unwrap();
    fails(dir.path(), &train("run", "2", &[]), "00000002.png");
    fs::write(&file, text.replace("\"annotations\"", "\"annotation\"")).unwrap();
    fails(dir.path(), &train("run", "2", &[]), "annotations.json");
    fs::write(&file, "{").unwrap();
    fails(dir.path(), &train("run", "2", &[]), "annotations.json");
    assert!(!dir.path().join("run").exists());
}
