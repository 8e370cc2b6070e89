//! What goes with learning: pictures that change with their objects, folders that are checked, backbones that begin from nothing.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_backend::testing::devices;
use kiln_detection::coco::{CocoFolder, FolderError, Masks};
use kiln_detection::processor::Processor;
use kiln_detection::training::{Augmentation, Criterion, Object, Sample, batch};
use kiln_detection::{Detr, DetrConfig};
use kiln_picture::{Channels, Picture};
use proptest::prelude::*;

/// A picture, black but for one object in white, whose mask and box are known.
fn sample([width, height]: [u32; 2], [left, top, right, bottom]: [u32; 4]) -> Sample {
    let inside = |place: u32| {
        let (x, y) = (place % width, place / width);
        x >= left && x < right && y >= top && y < bottom
    };
    let mask: Vec<bool> = (0..width * height).map(inside).collect();
    let samples = mask.iter().flat_map(|&white| [if white { 255 } else { 0 }; 3]).collect();
    Sample {
        picture: Picture::new(width, height, Channels::Rgb, samples).unwrap(),
        objects: vec![Object {
            class: 3,
            corners: [left, top, right, bottom].map(|side| side as f32),
            mask: Some(mask),
        }],
    }
}

/// The box of what is white.
fn white(picture: &Picture) -> Option<[f32; 4]> {
    let width = picture.width() as usize;
    let pixels = picture.samples().chunks(3).enumerate().filter(|(_, pixel)| pixel[0] > 127);
    pixels.map(|(place, _)| ((place % width) as f32, (place / width) as f32)).fold(None, |corners, (x, y)| {
        let [l, t, r, b] = corners.unwrap_or([x, y, x, y]);
        Some([l.min(x), t.min(y), r.max(x + 1.0), b.max(y + 1.0)])
    })
}

proptest! {
    #[test]
    fn boxes_and_masks_follow_the_picture(left in 0_u32..20, top in 0_u32..14, w in 3_u32..12, h in 3_u32..10, seed: u64) {
        let sample = sample([32, 24], [left, top, left + w, top + h]);
        let augmentation = Augmentation {
            flip: 0.5,
            crop: 0.5,
            before_crop: vec![24, 48],
            crop_sides: [12, 30],
            sizes: vec![24, 48, 72],
            longest: 200,
        };
        let changed = augmentation.apply(sample, NoiseKey::new(seed)).unwrap();
        match (changed.objects.first(), white(&changed.picture)) {
            (Some(object), Some(found)) => {
                // Enlarging blurs an edge by half a pixel of the original, three of the largest.
                for (a, b) in object.corners.iter().zip(found) {
                    prop_assert!((a - b).abs() <= 3.5, "{:?} and {found:?}", object.corners);
                }
                let mask = object.mask.as_ref().unwrap();
                prop_assert_eq!(mask.len() as u32, changed.picture.width() * changed.picture.height());
                let same = mask.iter().zip(changed.picture.samples().chunks(3));
                let share = same.filter(|(mask, pixel)| **mask == (pixel[0] > 127)).count() as f64 / mask.len() as f64;
                prop_assert!(share > 0.8, "{share}");
            }
            // A sliver may be blurred away.
            (Some(object), None) => {
                let [l, t, r, b] = object.corners;
                prop_assert!((r - l).min(b - t) < 4.0);
            }
            (None, found) => prop_assert!(found.is_none(), "{found:?}"),
        }
    }
}

#[test]
fn flipping_twice_changes_nothing_and_once_moves_the_box() {
    let once = sample([9, 7], [1, 2, 4, 6]);
    assert_eq!(once.flip().objects[0].corners, [5.0, 2.0, 8.0, 6.0]);
    assert_eq!(white(&once.flip().picture), Some([5.0, 2.0, 8.0, 6.0]));
    assert_eq!(once.flip().flip(), once);
}

#[test]
fn pictures_of_several_sizes_are_padded_and_told_apart() {
    let device = Device::flex();
    let (a, b) = (sample([8, 6], [0, 0, 3, 3]), sample([5, 9], [0, 0, 3, 3]));
    let (pixels, mask) = batch([&a.picture, &b.picture], &Processor::default(), &device);
    assert_eq!(pixels.dims(), [2, 3, 9, 8]);
    let seen: Vec<bool> = mask.expect("two sizes").into_data().iter::<bool>().collect();
    assert_eq!(seen.iter().filter(|seen| **seen).count(), 8 * 6 + 5 * 9);
    assert!(seen[5 * 8 + 7] && !seen[6 * 8] && seen[72 + 8 * 8 + 4] && !seen[72 + 5]);
    assert!(batch([&a.picture], &Processor::default(), &device).1.is_none());
}

fn folder(dir: &Path, annotation: &str) -> Result<CocoFolder, FolderError> {
    std::fs::create_dir_all(dir.join("images")).unwrap();
    sample([8, 6], [1, 1, 4, 5]).picture.write_png(dir.join("images/1.png")).unwrap();
    let text = format!(
        r#"{{"images": [{{"id": 1, "width": 8, "height": 6, "file_name": "1.png"}}], "annotations": [{annotation}],
            "categories": [{{"id": 2, "name": "two"}}]}}"#
    );
    std::fs::write(dir.join("annotations.json"), text).unwrap();
    CocoFolder::open(dir, Some(3))
}

#[test]
fn a_folder_is_read_and_what_is_wrong_with_it_is_told() {
    let dir = std::env::temp_dir().join(format!("kiln-coco-{}", std::process::id()));
    let good = r#"{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 3, 4]}"#;
    let data = folder(&dir, good).unwrap();
    let sample = data.sample(0, Masks::Read).unwrap();
    assert_eq!((data.len(), data.classes()), (1, 3));
    assert_eq!(sample.objects[0].corners, [1.0, 1.0, 4.0, 5.0]);
    assert_eq!(sample.objects[0].mask.as_ref().unwrap().iter().filter(|p| **p).count(), 12);
    for (wrong, told) in [
        (r#"{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 30, 4]}"#, "in a picture of 8 x 6"),
        (r#"{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 3, 4]}"#, "category 7"),
        (r#"{"id": 1, "image_id": 9, "category_id": 2, "bbox": [1, 1, 3, 4]}"#, "image 9"),
    ] {
        let error = folder(&dir, wrong).unwrap_err().to_string();
        assert!(error.contains(told) && !error.contains('\n'), "{error}");
    }
    std::fs::remove_file(dir.join("images/1.png")).unwrap();
    let error = CocoFolder::open(&dir, None).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(error, FolderError::Lint { .. }), "{error}");
}

fn config(kind: &str) -> DetrConfig {
    let text = format!(
        r#"{{"model_type": "{kind}", "d_model": 16, "num_queries": 5, "encoder_layers": 1, "decoder_layers": 2,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
            "num_labels": 4, "auxiliary_loss": true, "backbone_config": {{"model_type": "resnet", "embedding_size": 6,
            "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic", "out_features": ["stage2"]}}}}"#
    );
    DetrConfig::from_json(&text).unwrap()
}

#[test]
fn a_calibrated_backbone_gives_numbers_of_order_one_and_learns() {
    for (backend, device) in devices() {
        for kind in ["detr", "conditional_detr"] {
            let config = config(kind);
            let network: Detr = config.init(&device).unwrap();
            let pixels = Tensor::<4>::random([2, 3, 48, 40], Distribution::Normal(0.0, 1.0), &device);
            let network = network.calibrate(pixels.clone()).train();
            let target = sample([40, 48], [4, 8, 20, 30]).target(&device);
            let target = kiln_detection::training::Target { masks: None, ..target };
            let targets = [target.clone(), target];
            let (output, places) = network.forward_with_places(pixels.autodiff(), None);
            assert_eq!(places.boxes.dims(), [2, 6 * 5, 4], "{backend} {kind}");
            let criterion = Criterion::from(&config);
            let loss = criterion.forward(&output, None, &targets).unwrap().total
                + criterion.of_predictions(&places, &targets).unwrap();
            assert!(loss.clone().into_scalar::<f32>().is_finite());
            let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &network);
            // Every parameter learns but the two statistics of each of the backbone's seven norms.
            let parameters = burn::module::list_param_ids(&network).len();
            assert_eq!(gradients.len(), parameters - 2 * 7, "{backend} {kind}");
        }
    }
}
