//! Masks against pycocotools', and the linter.

use kiln_detection::coco::{
    Annotation, Category, Dataset, Finding, Image, Rle, RleError, Segmentation, lint,
};
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn outlines_are_drawn_as_by_pycocotools() {
    let case: Value = serde_json::from_str(include_str!("golden/masks.json")).unwrap();
    for entry in case["polygons"].as_array().unwrap() {
        let polygons: Vec<Vec<f64>> = serde_json::from_value(entry["polygons"].clone()).unwrap();
        let [height, width]: [u32; 2] = serde_json::from_value(entry["size"].clone()).unwrap();
        let mask = Rle::from_polygons(&polygons, height, width).unwrap();
        assert_eq!(mask.to_text(), entry["counts"].as_str().unwrap(), "{polygons:?}");
        assert_eq!(mask.area(), entry["area"].as_u64().unwrap());
        let bbox: [f64; 4] = serde_json::from_value(entry["bbox"].clone()).unwrap();
        assert_eq!(mask.bbox(), bbox, "{polygons:?}");
    }
}

#[test]
fn overlaps_are_pycocotools() {
    let case: Value = serde_json::from_str(include_str!("golden/masks.json")).unwrap();
    let masks: Vec<Rle> = case["masks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| Rle::from_text(text.as_str().unwrap(), 13, 17).unwrap())
        .collect();
    let ious: Vec<Vec<f64>> = serde_json::from_value(case["ious"].clone()).unwrap();
    for (i, (a, row)) in masks.iter().zip(&ious).enumerate() {
        for (j, (b, &expected)) in masks.iter().zip(row).enumerate() {
            assert!((a.iou(b, j % 2 == 1).unwrap() - expected).abs() < 1e-15, "{i} {j}");
        }
    }
    let union = Rle::union(&masks[0], &masks[1..3]).unwrap();
    assert_eq!(union.to_text(), case["union"].as_str().unwrap());
    let common = Rle::intersection(&masks[0], &masks[1..3]).unwrap();
    assert_eq!(common.to_text(), case["intersection"].as_str().unwrap());
}

proptest! {
    #[test]
    fn a_mask_comes_back(height in 1_u32..12, width in 1_u32..12, bits in prop::collection::vec(any::<bool>(), 144)) {
        let mask = &bits[..(height * width) as usize];
        let rle = Rle::encode(mask, height, width);
        prop_assert_eq!(rle.decode(), mask);
        prop_assert_eq!(rle.area() as usize, mask.iter().filter(|on| **on).count());
        prop_assert_eq!(Rle::from_text(&rle.to_text(), height, width).unwrap(), rle);
    }

    /// Whatever the text, the answer is a mask or an error.
    #[test]
    fn text_never_panics(text in ".{0,40}", height in 0_u32..50, width in 0_u32..50) {
        if let Ok(mask) = Rle::from_text(&text, height, width) {
            prop_assert_eq!(mask.decode().len(), (height * width) as usize);
            let _ = mask.bbox();
        }
    }
}

#[test]
fn runs_that_are_no_mask_are_refused() {
    assert!(matches!(Rle::new(vec![3, 4], 2, 3), Err(RleError::Length { found: 7, .. })));
    assert!(matches!(Rle::from_polygons(&[vec![0.0, 1.0]], 4, 4), Err(RleError::Polygon { index: 0, .. })));
    let (a, b) = (Rle::encode(&[true; 4], 2, 2), Rle::encode(&[true; 4], 1, 4));
    assert!(matches!(a.iou(&b, false), Err(RleError::Sizes(..))));
}

#[test]
fn the_linter_finds_what_is_wrong() {
    let object = |id, image_id, category_id, bbox| Annotation {
        id,
        image_id,
        category_id,
        bbox,
        area: None,
        iscrowd: 0,
        segmentation: None,
    };
    let good = object(1, 1, 3, [0.0, 0.0, 10.0, 20.0]);
    let mut data = Dataset {
        images: vec![Image { id: 1, width: 10, height: 20, file_name: "no such file.png".to_owned() }],
        annotations: vec![good.clone()],
        categories: vec![Category { id: 3, name: "cat".to_owned(), isthing: None }],
    };
    assert_eq!(lint(&data, Some(4), None), []);
    data.annotations.extend([
        object(2, 1, 3, [5.0, 0.0, 10.0, 20.0]),
        object(3, 1, 9, [0.0, 0.0, 5.0, 5.0]),
        object(4, 2, 3, [0.0, 0.0, 5.0, 5.0]),
        object(5, 1, 3, [0.0, 0.0, 0.0, 5.0]),
        Annotation { segmentation: Some(Segmentation::Polygons(vec![vec![1.0]])), id: 6, ..good.clone() },
        good,
    ]);
    let folder = std::env::temp_dir();
    let found = lint(&data, Some(4), Some(&folder));
    let has =
        |wanted: fn(&Finding) -> bool| assert_eq!(found.iter().filter(|f| wanted(f)).count(), 1, "{found:?}");
    has(|f| matches!(f, Finding::OutOfPicture { annotation: 2, .. }));
    has(|f| matches!(f, Finding::NoCategory { annotation: 3, .. }));
    has(|f| matches!(f, Finding::BeyondClasses { annotation: 3, .. }));
    has(|f| matches!(f, Finding::NoImage { annotation: 4, .. }));
    has(|f| matches!(f, Finding::EmptyBox { annotation: 5, .. }));
    has(|f| matches!(f, Finding::Mask { annotation: 6, .. }));
    has(|f| matches!(f, Finding::Twice { what: "annotation", id: 1 }));
    has(|f| matches!(f, Finding::NoFile { image: 1, .. }));
    assert_eq!(found.len(), 8);
}
