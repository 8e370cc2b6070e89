//! `kiln detect` and `kiln score`.

use std::fs;
use std::path::Path;

use kiln::picture::Picture;
use serde_json::Value;

use crate::{bare, command, fails, succeeds};

/// A six and a seven on a photograph.
const SCENE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scene.png");

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_detector_in_the_program_finds_digits() {
    let dir = tempfile::tempdir().unwrap();
    let told = succeeds(dir.path(), &["detect", SCENE, "--out", "found"]);
    assert!(told.contains("scene.png (image 1): 6 0.9"), "{told}");
    let results = json(&dir.path().join("found/results.json"));
    let mut classes: Vec<u64> =
        results.as_array().unwrap().iter().map(|result| result["category_id"].as_u64().unwrap()).collect();
    classes.sort_unstable();
    assert_eq!(classes, [6, 7]);
    for result in results.as_array().unwrap() {
        let side = |i: usize| result["bbox"][i].as_f64().unwrap();
        assert!(side(0) >= -2.0 && side(0) + side(2) <= 98.0 && side(2) > 8.0, "{result}");
        assert!(result["score"].as_f64().unwrap() > 0.7, "{result}");
    }
    // Boxes are drawn: the picture is as large, and another one.
    let (before, after) =
        (Picture::open(SCENE).unwrap(), Picture::open(dir.path().join("found/scene.png")).unwrap());
    assert_eq!((before.width(), before.height()), (after.width(), after.height()));
    assert_ne!(before.samples(), after.samples());
}

#[test]
fn a_threshold_and_folders() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    for name in ["000000000012.png", "b.png"] {
        fs::copy(SCENE, photos.join(name)).unwrap();
    }
    fs::write(photos.join("notes.txt"), "no picture").unwrap();
    let told = succeeds(dir.path(), &["detect", "photos", "--threshold", "0.95", "--out", "none"]);
    assert!(told.contains("000000000012.png (image 12): nothing"), "{told}");
    assert!(told.contains("b.png (image 2): nothing"), "{told}");
    succeeds(dir.path(), &["detect", "photos", "--threshold", "0.1", "--out", "many"]);
    let results = json(&dir.path().join("many/results.json"));
    let ids: Vec<u64> =
        results.as_array().unwrap().iter().map(|result| result["image_id"].as_u64().unwrap()).collect();
    assert!(ids.len() >= 4 && ids.contains(&12) && ids.contains(&2), "{ids:?}");
}

/// A tile for each of two objects, brightest within its box.
#[test]
fn where_the_network_looked_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &["detect", SCENE, "--attention", "--out", "found"]);
    let drawn = Picture::open(dir.path().join("found/scene_attention.png")).unwrap();
    let photo = Picture::open(SCENE).unwrap();
    assert!(drawn.width() >= 2 * photo.width() && drawn.height() >= photo.height(), "two tiles");
    let tile = |left: u32| drawn.crop(left, 2, photo.width(), photo.height()).unwrap();
    assert_ne!(tile(2).samples(), tile(photo.width() + 4).samples());
    // Nothing found, nothing drawn.
    succeeds(dir.path(), &["detect", SCENE, "--attention", "--threshold", "0.9999999", "--out", "none"]);
    assert!(!dir.path().join("none/scene_attention.png").exists());
}

#[test]
fn what_cant_be_detected_is_said_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("broken.png"), b"\x89PNG\r\n\x1a\nno more").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fails(dir.path(), &["detect", "broken.png"], "broken.png");
    fails(dir.path(), &["detect", "missing.png"], "missing.png");
    fails(dir.path(), &["detect", "empty"], "holds no PNG");
    fails(dir.path(), &["detect", SCENE, "--model", "./missing"], "missing");
    fails(dir.path(), &["detect", SCENE, SCENE], "two photographs are called");
    fails(dir.path(), &["detect", SCENE, "--threshold", "2"], "--threshold");
    fails(dir.path(), &["detect", SCENE, "--stuff", "sky"], "--stuff is for networks with masks");
    let masks = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/detr_segmentation_odd/checkpoint");
    fails(dir.path(), &["detect", SCENE, "--model", masks, "--stuff", "sky"], "no class of that name");
    assert!(!dir.path().join("detected/results.json").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = command(dir.path(), &["detect", SCENE]);
    let mut run =
        run.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const TRUTH: &str = r#"{
    "images": [{"id": 1, "width": 96, "height": 96, "file_name": "scene.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 6, "bbox": [10, 10, 20, 30], "area": 600, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": [50, 40, 30, 30], "area": 900, "iscrowd": 0}
    ],
    "categories": [{"id": 6, "name": "6"}, {"id": 7, "name": "7"}]
}"#;

#[test]
fn results_are_scored() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("truth.json", TRUTH);
    write(
        "half.json",
        r#"[{"image_id": 1, "category_id": 6, "bbox": [10, 10, 20, 30], "score": 0.9},
            {"image_id": 1, "category_id": 7, "bbox": [0, 0, 5, 5], "score": 0.8}]"#,
    );
    let output = bare(dir.path(), &["score", "truth.json", "half.json"]);
    let scores: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(scores.as_object().unwrap().len(), 12, "{scores}");
    // One class is found exactly, the other not at all.
    for name in ["AP", "AP50", "AR100"] {
        assert!((scores[name].as_f64().unwrap() - 0.5).abs() < 1e-9, "{scores}");
    }
    write("broken.json", "[{");
    for (results, message) in [("broken.json", "broken.json"), ("missing.json", "missing.json")] {
        let output = bare(dir.path(), &["score", "truth.json", results]);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(message) && told.lines().count() == 1, "{told}");
    }
}
