//! Scores against pycocotools' and panopticapi's.

use kiln_detection::coco::{Category, Dataset, Detection};
use kiln_detection::score::{PanopticImage, Regions, average_precision, panoptic_quality};
use serde_json::Value;

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn compare(case: &Value, stats: &str, regions: Regions) {
    let truth: Dataset = serde_json::from_value(case["gt"].clone()).unwrap();
    let found: Vec<Detection> = serde_json::from_value(case["dt"].clone()).unwrap();
    let expected: Vec<f64> = serde_json::from_value(case[stats].clone()).unwrap();
    let computed = average_precision(&truth, &found, regions).unwrap().numbers();
    for (index, (computed, expected)) in computed.iter().zip(&expected).enumerate() {
        assert!(
            (computed - expected).abs() < 1e-12,
            "number {index} of {stats}: {computed}, expected {expected}"
        );
    }
}

#[test]
fn boxes_are_scored_as_by_pycocotools() {
    compare(&golden(include_str!("golden/coco.json")), "bbox", Regions::Boxes);
}

#[test]
fn masks_are_scored_as_by_pycocotools() {
    compare(&golden(include_str!("golden/coco.json")), "segm", Regions::Masks);
}

#[test]
fn the_truth_itself_scores_one() {
    let case = golden(include_str!("golden/coco.json"));
    let truth: Dataset = serde_json::from_value(case["gt"].clone()).unwrap();
    let objects = truth.annotations.iter().filter(|object| object.iscrowd == 0);
    let found: Vec<Detection> = objects
        .map(|object| Detection {
            image_id: object.image_id,
            category_id: object.category_id,
            bbox: Some(object.bbox),
            segmentation: object.segmentation.clone(),
            score: 1.0,
        })
        .collect();
    let score = average_precision(&truth, &found, Regions::Masks).unwrap();
    assert!((score.AP - 1.0).abs() < 1e-9 && (score.AR100 - 1.0).abs() < 1e-9, "{score:?}");
}

#[test]
fn results_of_pictures_that_are_not_there_are_refused() {
    let found =
        Detection { image_id: 7, category_id: 1, bbox: Some([0.0; 4]), segmentation: None, score: 0.5 };
    let error = average_precision(&Dataset::default(), &[found], Regions::Boxes).unwrap_err();
    assert!(error.to_string().contains("image 7"), "{error}");
}

#[test]
fn panoptic_quality_is_panopticapis() {
    let case = golden(include_str!("golden/panoptic.json"));
    let categories: Vec<Category> = serde_json::from_value(case["categories"].clone()).unwrap();
    let image = |side: &Value| PanopticImage {
        ids: serde_json::from_value(side["ids"].clone()).unwrap(),
        segments: serde_json::from_value(side["segments"].clone()).unwrap(),
    };
    let images: Vec<(PanopticImage, PanopticImage)> = case["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (image(&pair["gt"]), image(&pair["pred"])))
        .collect();
    let score = panoptic_quality(&categories, images.iter().map(|(truth, found)| (truth, found))).unwrap();
    for (name, computed) in [("All", score.all), ("Things", score.things), ("Stuff", score.stuff)] {
        let expected = &case["quality"][name];
        for (key, computed) in [("pq", computed.pq), ("sq", computed.sq), ("rq", computed.rq)] {
            let expected = expected[key].as_f64().unwrap();
            assert!((computed - expected).abs() < 1e-12, "{name} {key}: {computed}, expected {expected}");
        }
        assert_eq!(computed.n as u64, expected["n"].as_u64().unwrap());
    }
    assert!(score.all.pq > 0.0 && score.all.pq < 1.0);
}
