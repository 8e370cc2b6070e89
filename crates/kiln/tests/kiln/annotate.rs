//! `kiln annotate`: edges and skeletons, where they are written, what is refused.

use std::fs;
use std::path::Path;

use kiln::conditioning::annotators::JOINT_COLOURS;
use kiln::picture::{Channels, Picture};
use rstest::rstest;

use crate::{fails, succeeds};

/// Black on the left and white on the right.
fn halves(dir: &Path, name: &str, side: u32) {
    let samples = (0..side * side).map(|i| if i % side < side / 2 { 0 } else { 255 }).collect();
    Picture::new(side, side, Channels::Grey, samples).unwrap().write_png(dir.join(name)).unwrap();
}

fn hed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conditioning/tests/golden").join(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn canny_draws_an_edge_beside_the_photograph() {
    let dir = tempfile::tempdir().unwrap();
    halves(dir.path(), "a.png", 40);
    let told = succeeds(dir.path(), &["annotate", "a.png", "--kind", "canny"]);
    assert_eq!(told.trim(), "a_canny.png");
    let edges = Picture::open(dir.path().join("a_canny.png")).unwrap();
    assert_eq!((edges.width(), edges.height(), edges.channels()), (40, 40, Channels::Grey));
    let bright: Vec<usize> = (0..40).filter(|x| edges.samples()[20 * 40 + x] == 255).collect();
    assert!(!bright.is_empty() && bright.iter().all(|x| (18..22).contains(x)), "{bright:?}");
    succeeds(
        dir.path(),
        &["annotate", "a.png", "--kind", "canny", "--low", "1100", "--high", "1140", "--out", "b.png"],
    );
    let none = Picture::open(dir.path().join("b.png")).unwrap();
    assert!(
        none.samples().iter().all(|sample| *sample == 0),
        "no edge is as strong on a picture that is blurred"
    );
}

#[rstest]
#[case::of_controlnet("hed.safetensors")]
#[case::of_vgg("hed_vgg.safetensors")]
fn hed_takes_both_layouts(#[case] weights: &str) {
    let dir = tempfile::tempdir().unwrap();
    halves(dir.path(), "a.png", 37);
    let hed = hed(weights);
    let arguments = ["annotate", "a.png", "--kind", "hed", "--annotator-weights", &hed];
    let told = succeeds(dir.path(), &arguments);
    let edges = Picture::open(dir.path().join(told.trim())).unwrap();
    assert_eq!((edges.width(), edges.height(), edges.channels()), (37, 37, Channels::Grey));
    assert!(edges.samples().iter().any(|sample| *sample != edges.samples()[0]));
}

#[test]
fn skeletons_are_drawn_in_the_frame_that_is_known_or_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let points: Vec<f64> = (0..18).flat_map(|i| [10.0 + 5.0 * f64::from(i), 20.0, 1.0]).collect();
    let people = format!(r#""people": [{{"pose_keypoints_2d": {points:?}}}]"#);
    fs::write(
        dir.path().join("a.json"),
        format!(r#"{{{people}, "canvas_width": 128, "canvas_height": 64}}"#),
    )
    .unwrap();
    fs::write(dir.path().join("b.json"), format!("{{{people}}}")).unwrap();
    succeeds(dir.path(), &["annotate", "a.json", "--kind", "openpose"]);
    let drawn = Picture::open(dir.path().join("a_openpose.png")).unwrap();
    assert_eq!((drawn.width(), drawn.height()), (128, 64));
    assert_eq!(drawn.samples()[(20 * 128 + 10) * 3..][..3], JOINT_COLOURS[0]);
    // Twice as large: points of a known frame are enlarged with it.
    succeeds(dir.path(), &["annotate", "a.json", "--kind", "openpose", "--width", "256", "--height", "128"]);
    let drawn = Picture::open(dir.path().join("a_openpose.png")).unwrap();
    assert_eq!(drawn.samples()[(40 * 256 + 20) * 3..][..3], JOINT_COLOURS[0]);
    fails(dir.path(), &["annotate", "b.json", "--kind", "openpose"], "does not say how large its picture is");
    succeeds(dir.path(), &["annotate", "b.json", "--kind", "openpose", "--width", "128", "--height", "64"]);
}

#[test]
fn mistakes_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    halves(dir.path(), "a.png", 40);
    halves(dir.path(), "small.png", 8);
    fs::write(dir.path().join("a.json"), "{}").unwrap();
    let said = |arguments: &[&str], message: &str| {
        fails(dir.path(), &[&["annotate"][..], arguments].concat(), message);
    };
    said(&["a.png", "--kind", "depth"], "depth");
    said(&["a.png"], "--kind");
    said(&["none.png", "--kind", "canny"], "none.png");
    said(&["a.png", "--kind", "canny", "--low", "9", "--high", "3"], "Canny's thresholds 9 and 3");
    said(&["a.png", "--kind", "canny", "--out", "a.jpg"], "its name should end in .png");
    said(&["a.png", "--kind", "hed"], "--annotator-weights");
    said(&["a.png", "--kind", "hed", "--annotator-weights", "none.pth"], "none.pth: there is no such file");
    said(&["a.png", "--kind", "hed", "--annotator-weights", "a.png"], "a.png");
    let weights = hed("hed.safetensors");
    said(&["small.png", "--kind", "hed", "--annotator-weights", &weights], "8 x 8 pixels are too few");
    said(&["a.json", "--kind", "openpose"], "a.json: the poses are neither OpenPose's JSON");
    said(&["a.png", "--kind", "openpose"], "a.png");
    assert!(!dir.path().join("a_hed.png").exists());
}
