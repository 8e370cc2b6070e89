//! Annotators: HED against PyTorch (tests/reference/hed.py), Canny's edges of shapes that are known, skeletons point by point.

use std::path::Path;

use burn::tensor::Tensor;
use kiln_backend::testing;
use kiln_checkpoint::Checkpoint;
use kiln_conditioning::annotators::{AnnotatorError, Hed, JOINT_COLOURS, Poses, Thresholds, canny};
use kiln_picture::{Channels, Picture};
use rstest::rstest;

#[rstest]
#[case::of_controlnet("hed.safetensors")]
#[case::of_vgg("hed_vgg.safetensors")]
fn hed_computes_what_pytorch_does(#[case] file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let golden = Checkpoint::open(path).unwrap();
    for (backend, device) in testing::devices() {
        let network = Hed::load(&golden, &device).unwrap();
        let found =
            network.forward(Tensor::from_data(golden.tensor("input.picture").unwrap(), &device)).into_data();
        let expected = golden.tensor("output.edges").unwrap();
        assert_eq!(found.shape(), expected.shape());
        let error = found
            .iter::<f32>()
            .zip(expected.iter::<f32>())
            .fold(0.0, |error: f32, (found, expected)| error.max((found - expected).abs()));
        assert!(error < 1e-3, "{file} on {backend}: {error}");
    }
}

#[test]
fn an_edge_is_where_brightness_changes() {
    let half = (0..40 * 30).map(|i| if i % 40 < 20 { 0 } else { 255 }).collect();
    let edges = canny(&Picture::new(40, 30, Channels::Grey, half).unwrap(), Thresholds::default()).unwrap();
    let bright: Vec<usize> = (0..40).filter(|x| edges.samples()[15 * 40 + x] == 255).collect();
    assert!(!bright.is_empty() && bright.iter().all(|x| (18..22).contains(x)), "{bright:?}");
}

#[test]
fn thresholds_the_wrong_way_round_are_refused() {
    let picture = Picture::new(1, 1, Channels::Grey, vec![0]).unwrap();
    for (low, high) in [(2.0, 1.0), (-1.0, 1.0), (f32::NAN, 1.0)] {
        let refusal = canny(&picture, Thresholds { low, high });
        assert!(matches!(refusal, Err(AnnotatorError::Thresholds { .. })));
    }
    assert_eq!(canny(&picture, Thresholds::default()).unwrap().samples(), [0]);
}

/// Points at (10 + 5 i, 20), all seen.
fn row(points: usize) -> Vec<f64> {
    (0..points).flat_map(|i| [10.0 + 5.0 * i as f64, 20.0, 2.0]).collect()
}

#[test]
fn joints_are_discs_of_their_colours() {
    let json = format!(r#"{{"people": [{{"pose_keypoints_2d": {:?}}}]}}"#, row(18));
    let drawn = Poses::from_json(&json, None).unwrap().draw(128, 64).unwrap();
    for (i, colour) in JOINT_COLOURS.iter().enumerate() {
        let at = (20 * 128 + 10 + 5 * i) * 3;
        assert_eq!(drawn.samples()[at..at + 3], *colour, "joint {i}");
    }
    assert_eq!(drawn.samples()[..3], [0, 0, 0]);
}

#[test]
fn cocos_neck_is_between_the_shoulders() {
    let json = format!(r#"[{{"image_id": 7, "keypoints": {:?}}}]"#, row(17));
    let poses = Poses::from_json(&json, None).unwrap();
    let neck = poses.people[0][1].unwrap();
    // The shoulders are COCO's points 5 and 6.
    assert_eq!((neck.x, neck.y), (37.5, 20.0));
    assert_eq!(poses.people[0][0].unwrap().x, 10.0);
}

#[test]
fn of_25_points_the_feet_are_left_out() {
    let json = format!(r#"{{"people": [{{"pose_keypoints_2d": {:?}}}]}}"#, row(25));
    let body = Poses::from_json(&json, None).unwrap().people[0];
    assert_eq!(body[8].unwrap().x, 10.0 + 5.0 * 9.0, "the right hip, after the middle of the hips");
    assert_eq!(body[17].unwrap().x, 10.0 + 5.0 * 18.0, "the left ear");
}

#[rstest]
#[case::no_json("{")]
#[case::other_json(r#"{"a": 1}"#)]
#[case::too_few_points(r#"{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}"#)]
#[case::too_few_of_coco(r#"[{"image_id": 7, "keypoints": [1, 2, 3]}]"#)]
#[case::several_pictures(r#"[{"image_id": 7}, {"image_id": 8}]"#)]
fn poses_that_are_none_are_refused(#[case] json: &str) {
    assert!(Poses::from_json(json, None).is_err());
}
