//! COCO's twelve numbers (Lin et al. 2014, "Microsoft COCO"; the definitions are those of its own evaluation tools).
//!
//! ```text
//! AP = mean over classes, overlaps 0.5 to 0.95 and recalls 0 to 1 of  max { precision(r') : r' >= r }
//! AR = mean over classes and overlaps of the recall reached
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use super::matches::{Matches, OVERLAPS, Object, Scene, Verdict, overlaps};
use crate::coco::{Annotation, CocoError, Dataset, Detection, Rle};

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regions {
    /// Boxes.
    #[default]
    Boxes,
    /// Masks.
    Masks,
}

/// COCO's twelve numbers; -1 where there is nothing to score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(non_snake_case, reason = "COCO's names")]
pub struct AveragePrecision {
    /// Average precision.
    pub AP: f64,
    /// At an overlap of 0.5.
    pub AP50: f64,
    /// At an overlap of 0.75.
    pub AP75: f64,
    /// Of objects below 32² pixels.
    pub APs: f64,
    /// Of objects from 32² to 96² pixels.
    pub APm: f64,
    /// Of objects above 96² pixels.
    pub APl: f64,
    /// Average recall with one detection a picture and class.
    pub AR1: f64,
    /// With ten.
    pub AR10: f64,
    /// With a hundred.
    pub AR100: f64,
    /// With a hundred, of small objects.
    pub ARs: f64,
    /// With a hundred, of medium objects.
    pub ARm: f64,
    /// With a hundred, of large objects.
    pub ARl: f64,
}

impl AveragePrecision {
    /// The numbers in COCO's order.
    #[must_use]
    pub fn numbers(&self) -> [f64; 12] {
        [
            self.AP, self.AP50, self.AP75, self.APs, self.APm, self.APl, self.AR1, self.AR10, self.AR100,
            self.ARs, self.ARm, self.ARl,
        ]
    }
}

const ALL: (f64, f64) = (0.0, 1e10);
const RANGES: [(f64, f64); 4] = [ALL, (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];
const MOST: [usize; 3] = [1, 10, 100];
const RECALLS: usize = 101;

/// Score what a detector found.
///
/// A detection's size is that of its box where the first of them has one, else of its mask, as COCO's tools take it.
///
/// # Errors
///
/// [`CocoError`], if a detection is of a picture that the data set has not, or has no box or mask where these are compared; or
/// a mask can't be read.
pub fn average_precision(
    truth: &Dataset,
    found: &[Detection],
    regions: Regions,
) -> Result<AveragePrecision, CocoError> {
    let scenes = scenes(truth, found, regions)?;
    // precision[overlap] and recall[overlap] of each class, by range and by how many detections count.
    let curves = |range: usize, most: usize| -> Vec<Curve> {
        let classes = scenes.values();
        classes.filter_map(|scenes| Curve::new(scenes, RANGES[range], most)).collect()
    };
    let [all, small, medium, large] = std::array::from_fn(|range| curves(range, MOST[2]));
    let half = overlaps().map(|overlap| overlap == 0.5);
    let three_quarters = overlaps().map(|overlap| overlap == 0.75);
    let any = [true; OVERLAPS];
    Ok(AveragePrecision {
        AP: precision(&all, any),
        AP50: precision(&all, half),
        AP75: precision(&all, three_quarters),
        APs: precision(&small, any),
        APm: precision(&medium, any),
        APl: precision(&large, any),
        AR1: recall(&curves(0, MOST[0])),
        AR10: recall(&curves(0, MOST[1])),
        AR100: recall(&all),
        ARs: recall(&small),
        ARm: recall(&medium),
        ARl: recall(&large),
    })
}

/// The scenes of each class.
fn scenes(
    truth: &Dataset,
    found: &[Detection],
    regions: Regions,
) -> Result<BTreeMap<u64, Vec<Scene>>, CocoError> {
    let sizes: BTreeMap<u64, [u32; 2]> =
        truth.images.iter().map(|image| (image.id, [image.height, image.width])).collect();
    /// What is true and what was found of one class in one picture.
    type Group<'a> = (Vec<&'a Annotation>, Vec<&'a Detection>);
    let mut groups: BTreeMap<(u64, u64), Group<'_>> = BTreeMap::new();
    for object in &truth.annotations {
        groups.entry((object.category_id, object.image_id)).or_default().0.push(object);
    }
    for (index, detection) in found.iter().enumerate() {
        if !sizes.contains_key(&detection.image_id) {
            let image = detection.image_id;
            return Err(CocoError::Inconsistent(format!(
                "result {index} is of image {image}, which the truth has not"
            )));
        }
        if !detection.score.is_finite() {
            return Err(CocoError::Inconsistent(format!(
                "the score of result {index} is {}",
                detection.score
            )));
        }
        groups.entry((detection.category_id, detection.image_id)).or_default().1.push(detection);
    }
    let by_box = found.first().is_some_and(|first| first.bbox.is_some());
    let mut classes: BTreeMap<u64, Vec<Scene>> =
        truth.categories.iter().map(|category| (category.id, Vec::new())).collect();
    for ((category, image), (objects, mut detections)) in groups {
        let (Some(scenes), Some(&size)) = (classes.get_mut(&category), sizes.get(&image)) else { continue };
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        detections.truncate(MOST[2]);
        scenes.push(scene(&objects, &detections, size, regions, by_box)?);
    }
    Ok(classes)
}

fn scene(
    objects: &[&Annotation],
    detections: &[&Detection],
    size: [u32; 2],
    regions: Regions,
    by_box: bool,
) -> Result<Scene, CocoError> {
    let mut scene = Scene {
        scores: detections.iter().map(|detection| detection.score).collect(),
        objects: objects.iter().map(|o| Object { area: o.area(), crowd: o.iscrowd != 0 }).collect(),
        ..Scene::default()
    };
    let lacks =
        |what: &str, image: u64| CocoError::Inconsistent(format!("a result of image {image} has no {what}"));
    let mask = |segmentation: &crate::coco::Segmentation, what: String| {
        segmentation.to_rle(size[0], size[1]).map_err(|source| CocoError::Mask { what, source })
    };
    match regions {
        Regions::Boxes => {
            for detection in detections {
                let bbox = detection.bbox.ok_or_else(|| lacks("bbox", detection.image_id))?;
                scene.areas.push(bbox[2] * bbox[3]);
                scene
                    .ious
                    .extend(objects.iter().map(|object| box_iou(bbox, object.bbox, object.iscrowd != 0)));
            }
        }
        Regions::Masks => {
            let truth = objects.iter().map(|object| {
                let what = format!("annotation {}", object.id);
                match &object.segmentation {
                    Some(segmentation) => mask(segmentation, what),
                    None => Err(CocoError::Inconsistent(format!("{what} has no segmentation"))),
                }
            });
            let truth: Vec<Rle> = truth.collect::<Result<_, _>>()?;
            for detection in detections {
                let image = detection.image_id;
                let segmentation =
                    detection.segmentation.as_ref().ok_or_else(|| lacks("segmentation", image))?;
                let what = format!("a result of image {image}");
                let found = mask(segmentation, what.clone())?;
                let area = match detection.bbox {
                    Some(bbox) if by_box => bbox[2] * bbox[3],
                    _ => found.area() as f64,
                };
                scene.areas.push(area);
                for (object, truth) in objects.iter().zip(&truth) {
                    let iou = found.iou(truth, object.iscrowd != 0);
                    scene.ious.push(iou.map_err(|source| CocoError::Mask { what: what.clone(), source })?);
                }
            }
        }
    }
    Ok(scene)
}

/// Overlap of two boxes; over that of the first where the other is a crowd.
fn box_iou(a: [f64; 4], b: [f64; 4], crowd: bool) -> f64 {
    let width = (a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0]);
    let height = (a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let (common, area) = (width * height, a[2] * a[3]);
    common / if crowd { area } else { area + b[2] * b[3] - common }
}

/// Precision at each recall, and the recall reached, for each overlap.
struct Curve {
    precision: [[f64; RECALLS]; OVERLAPS],
    recall: [f64; OVERLAPS],
}

impl Curve {
    /// `None`, if no object counts.
    fn new(scenes: &[Scene], range: (f64, f64), most: usize) -> Option<Self> {
        let matches: Vec<Matches> = scenes.iter().map(|scene| scene.matches(range)).collect();
        let objects: usize = matches.iter().map(|matches| matches.objects).sum();
        if objects == 0 {
            return None;
        }
        let mut order: Vec<(f64, usize, usize)> = Vec::new();
        for (index, scene) in scenes.iter().enumerate() {
            order.extend(
                scene.scores.iter().take(most).enumerate().map(|(place, &score)| (score, index, place)),
            );
        }
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut curve = Self { precision: [[0.0; RECALLS]; OVERLAPS], recall: [0.0; OVERLAPS] };
        for overlap in 0..OVERLAPS {
            let (mut hits, mut misses) = (0.0, 0.0);
            let (mut recalls, mut precisions) = (Vec::new(), Vec::new());
            for &(_, scene, place) in &order {
                match matches[scene].verdicts[overlap][place] {
                    Verdict::Hit => hits += 1.0,
                    Verdict::Miss => misses += 1.0,
                    Verdict::Ignored => {}
                }
                recalls.push(hits / objects as f64);
                precisions.push(hits / (misses + hits + f64::EPSILON));
            }
            curve.recall[overlap] = recalls.last().copied().unwrap_or(0.0);
            for place in (1..precisions.len()).rev() {
                precisions[place - 1] = precisions[place - 1].max(precisions[place]);
            }
            for (step, value) in curve.precision[overlap].iter_mut().enumerate() {
                let wanted = if step == RECALLS - 1 { 1.0 } else { step as f64 * 0.01 };
                let reached = recalls.partition_point(|&recall| recall < wanted);
                *value = precisions.get(reached).copied().unwrap_or(0.0);
            }
        }
        Some(curve)
    }
}

/// The mean over classes, chosen overlaps and recalls.
fn precision(curves: &[Curve], chosen: [bool; OVERLAPS]) -> f64 {
    let chosen = |curve: &Curve| -> Vec<f64> {
        let rows = curve.precision.iter().zip(chosen).filter(|(_, chosen)| *chosen);
        rows.flat_map(|(row, _)| *row).collect()
    };
    mean(curves.iter().flat_map(chosen))
}

/// The mean over classes and overlaps.
fn recall(curves: &[Curve]) -> f64 {
    mean(curves.iter().flat_map(|curve| curve.recall))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { -1.0 } else { sum / count as f64 }
}
