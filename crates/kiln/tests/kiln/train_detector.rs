//! `kiln scenes` and `kiln train-detector`, small: what it learns is judged elsewhere.

use std::fs;
use std::path::Path;

use crate::{fails, succeeds};

fn scenes(dir: &Path) {
    let data = |name: &str| format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let (digits, photos) = (data("mnist"), data("photos"));
    let arguments =
        ["scenes", "--out", "scenes", "--count", "6", "--size", "48", "--seed", "3", "--panoptic"];
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

fn train<'a>(out: &'a str, steps: &'a str, more: &[&'a str]) -> Vec<&'a str> {
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

/// Masks draw on three maps: a backbone of two stages.
fn with_two_stages<'a>(arguments: Vec<&'a str>) -> Vec<&'a str> {
    let longer = |(place, word): (usize, &'a str)| match place {
        6 => "8,8,8",
        8 => "1,1",
        _ => word,
    };
    arguments.into_iter().enumerate().map(longer).collect()
}

#[test]
fn masks_are_learnt_with_boxes_or_on_them() {
    let dir = tempfile::tempdir().unwrap();
    scenes(dir.path());
    let test = ["--test", "scenes", "--score-every", "2", "--heads", "8"];
    // Boxes first, and masks on them; both at once; and another decoder.
    succeeds(dir.path(), &with_two_stages(train("boxes", "2", &test)));
    let on_them = ["--model", "boxes/model", "--masks", "head"];
    let at_once = ["--masks", "all", "--kind", "detr"];
    let runs: [(&str, &[&str]); 3] = [
        ("head", &on_them),
        ("all", &[&at_once[..], &test].concat()),
        ("other", &[&["--masks", "all"][..], &test].concat()),
    ];
    for (out, more) in runs {
        succeeds(dir.path(), &with_two_stages(train(out, "2", more)));
        let model = format!("{out}/model");
        let scene = "scenes/images/00000001.png";
        let found = format!("{out}/found");
        succeeds(dir.path(), &["detect", scene, "--model", &model, "--out", &found, "--threshold", "0.01"]);
        assert!(dir.path().join(out).join("found/panoptic.json").exists(), "{out}");
    }
    // What was scored on the way is scored again.
    for more in [&["--masks"][..], &["--panoptic"]] {
        let file = if more == ["--masks"] { "annotations.json" } else { "panoptic.json" };
        let results = if more == ["--masks"] { "results.json" } else { "panoptic.json" };
        let (truth, found) = (format!("scenes/{file}"), format!("all/{results}"));
        let output = crate::bare(dir.path(), &[&["score", &truth, &found], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    fails(dir.path(), &with_two_stages(train("none", "2", &["--masks", "all"])), "multiple of 8");
    let file = dir.path().join("scenes/annotations.json");
    let mut data: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    data["annotations"][0].as_object_mut().unwrap().remove("segmentation");
    fs::write(&file, data.to_string()).unwrap();
    fails(dir.path(), &with_two_stages(train("none", "2", &["--masks", "all", "--heads", "8"])), "mask");
    assert!(!dir.path().join("none").exists());
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
