//! Segments against transformers' `post_process_panoptic_segmentation`.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::testing;
use kiln_detection::results::{FoundSegment, segments};
use kiln_detection::{DetrOutput, Predictions, Probabilities, SegmentationOutput};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// What a network would say, of one picture.
fn output(case: &Value, device: &Device) -> SegmentationOutput {
    let [queries, classes, rows, columns]: [usize; 4] =
        serde_json::from_value(case["shape"].clone()).unwrap();
    let logits = TensorData::new(numbers(&case["logits"]), [1, queries, classes]);
    let masks = TensorData::new(numbers(&case["masks"]), [1, queries, rows, columns]);
    let nothing = Tensor::zeros([1, queries, 1], device);
    let predictions = Predictions {
        logits: Tensor::from_data(logits, device),
        probabilities: Probabilities::Softmax,
        boxes: Tensor::zeros([1, queries, 4], device),
    };
    let detection = DetrOutput {
        predictions,
        auxiliary: Vec::new(),
        last_hidden_state: nothing.clone(),
        encoder_last_hidden_state: nothing,
    };
    let attention = Tensor::zeros([1, queries, 1, 1, 1], device);
    SegmentationOutput { detection, masks: Tensor::from_data(masks, device), attention }
}

fn of_case(case: &Value, device: &Device) -> (Vec<u32>, Vec<FoundSegment>) {
    let [width, height]: [u32; 2] = serde_json::from_value(case["size"].clone()).unwrap();
    let stuff: BTreeSet<usize> = serde_json::from_value(case["stuff"].clone()).unwrap();
    let threshold = case["threshold"].as_f64().unwrap() as f32;
    segments(&output(case, device), width, height, threshold, &stuff)
}

#[test]
fn segments_are_transformers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/segments.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for (_, device) in testing::devices() {
        for case in &cases {
            let name = case["name"].as_str().unwrap();
            let (ids, found) = of_case(case, &device);
            let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(ids, expected, "{name}");
            let expected: Vec<(u32, usize, f32)> = serde_json::from_value(case["segments"].clone()).unwrap();
            assert_eq!(found.len(), expected.len(), "{name}");
            for (found, (id, class, score)) in found.iter().zip(expected) {
                assert_eq!((found.id, found.class), (id, class), "{name}");
                assert!((found.score - score).abs() < 2e-6, "{name}: {} for {score}", found.score);
            }
        }
    }
}

/// Where transformers gives a number twice.
#[test]
fn what_follows_a_joined_segment_has_a_number_of_its_own() {
    let device = testing::device("flex").unwrap();
    // Four queries, each with a quarter of the picture; classes 0, 1, 0, 1, of which 0 is stuff.
    let mut logits = vec![-9.0_f32; 4 * 3];
    let mut masks = vec![-9.0_f32; 4 * 4];
    for query in 0..4 {
        logits[query * 3 + query % 2] = 9.0;
        masks[query * 4 + query] = 9.0;
    }
    let case = serde_json::json!({
        "shape": [4, 3, 1, 4], "logits": logits, "masks": masks, "size": [4, 1], "stuff": [0], "threshold": 0.5,
    });
    let (ids, found) = of_case(&case, &device);
    assert_eq!(ids, [1, 2, 1, 3]);
    assert_eq!(
        found.iter().map(|segment| (segment.id, segment.class)).collect::<Vec<_>>(),
        [(1, 0), (2, 1), (3, 1)]
    );
}
