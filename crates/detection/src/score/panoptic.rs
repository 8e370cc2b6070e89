//! Panoptic quality (Kirillov et al. 2019, "Panoptic Segmentation").
//!
//! ```text
//! PQ = sum of IoU over hits / (hits + misses / 2 + false alarms / 2) = SQ RQ        hit: same class, IoU > 0.5
//! ```
//!
//! class by class, then averaged. Pixels of no segment (void) and of crowds count neither way. As COCO's `panopticapi` counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kiln_picture::{Channels, Picture};
use serde::{Deserialize, Serialize};

use crate::coco::{Category, CocoError, Image};

/// A part of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number in the picture's map.
    pub id: u32,
    /// Its class.
    pub category_id: u64,
    /// Its pixels, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<u64>,
    /// 1 for a crowd.
    #[serde(default)]
    pub iscrowd: u8,
}

/// A picture's segments: a map of their numbers, row by row, 0 for none; and their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct PanopticImage {
    /// The map.
    pub ids: Vec<u32>,
    /// What is in it.
    pub segments: Vec<Segment>,
}

/// A picture's entry in COCO's panoptic JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PanopticEntry {
    /// The picture.
    pub image_id: u64,
    /// Its map, within the folder beside the file.
    pub file_name: String,
    /// What is in it.
    pub segments_info: Vec<Segment>,
}

/// COCO's panoptic JSON; its maps lie in a folder beside it that is called as the file without its ending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PanopticFile {
    /// The pictures, which results leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// The segments of each.
    pub annotations: Vec<PanopticEntry>,
    /// The classes, which results leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Category>,
}

/// Counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PanopticTally {
    /// Sum of the hits' overlaps.
    pub iou: f64,
    /// Segments that were found.
    pub hits: usize,
    /// Segments found where there are none.
    pub false_alarms: usize,
    /// Segments that were missed.
    pub misses: usize,
}

/// The mean over classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PanopticScore {
    /// Panoptic quality.
    pub pq: f64,
    /// Segmentation quality: the mean overlap of hits.
    pub sq: f64,
    /// Recognition quality: hits over hits and half of all mistakes.
    pub rq: f64,
    /// How many classes were there.
    pub n: usize,
}

/// Panoptic quality of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PanopticQuality {
    /// Over all classes.
    #[serde(rename = "All")]
    pub all: PanopticScore,
    /// Over classes that can be counted.
    #[serde(rename = "Things")]
    pub things: PanopticScore,
    /// Over the others.
    #[serde(rename = "Stuff")]
    pub stuff: PanopticScore,
}

/// Numbers of segments from a picture's colours: red + 256 green + 256² blue.
#[must_use]
pub fn ids_of(picture: &Picture) -> Vec<u32> {
    let rgb = picture.convert(Channels::Rgb);
    rgb.samples().chunks(3).map(|c| u32::from(c[0]) | u32::from(c[1]) << 8 | u32::from(c[2]) << 16).collect()
}

/// The picture of a map of numbers, row by row: red + 256 green + 256² blue.
///
/// # Panics
///
/// If there are not `width * height` numbers.
#[must_use]
pub fn picture_of(ids: &[u32], width: u32, height: u32) -> Picture {
    let samples = ids.iter().flat_map(|id| [*id as u8, (id >> 8) as u8, (id >> 16) as u8]).collect();
    Picture::new(width, height, Channels::Rgb, samples).expect("a number a pixel")
}

/// Score pairs of a picture as it is and as it was found.
///
/// # Errors
///
/// [`CocoError::Inconsistent`], if a map has a number that is no segment of its list or the other way round, maps are of
/// different sizes, or a class is not known.
pub fn panoptic_quality<'a>(
    categories: &[Category],
    pairs: impl IntoIterator<Item = (&'a PanopticImage, &'a PanopticImage)>,
) -> Result<PanopticQuality, CocoError> {
    let mut tallies = BTreeMap::new();
    for (truth, found) in pairs {
        count(categories, truth, found, &mut tallies)?;
    }
    Ok(summary(categories, &tallies))
}

/// Score COCO's files: JSON beside a folder of PNG maps each, called as the JSON without its ending.
///
/// # Errors
///
/// [`CocoError`], if a file can't be read, or as [`panoptic_quality`].
pub fn panoptic_files(truth: &Path, found: &Path) -> Result<PanopticQuality, CocoError> {
    let read = |path: &Path| -> Result<PanopticFile, CocoError> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| CocoError::Read { file: file.clone(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| CocoError::Json { what: file, source })
    };
    let open = |json: &Path, entry: &PanopticEntry| -> Result<PanopticImage, CocoError> {
        let path = json.with_extension("").join(&entry.file_name);
        let picture = Picture::open(&path).map_err(|error| CocoError::Inconsistent(error.to_string()))?;
        Ok(PanopticImage { ids: ids_of(&picture), segments: entry.segments_info.clone() })
    };
    let (theirs, ours) = (read(truth)?, read(found)?);
    let by_image: BTreeMap<u64, &PanopticEntry> =
        ours.annotations.iter().map(|entry| (entry.image_id, entry)).collect();
    let mut tallies = BTreeMap::new();
    for entry in &theirs.annotations {
        let Some(answer) = by_image.get(&entry.image_id) else {
            let (image, file) = (entry.image_id, found.display());
            return Err(CocoError::Inconsistent(format!("{file} has nothing on image {image}")));
        };
        count(&theirs.categories, &open(truth, entry)?, &open(found, answer)?, &mut tallies)?;
    }
    Ok(summary(&theirs.categories, &tallies))
}

/// Pixels of each pair of numbers.
type Common = BTreeMap<(u32, u32), u64>;

fn count(
    categories: &[Category],
    truth: &PanopticImage,
    found: &PanopticImage,
    tallies: &mut BTreeMap<u64, PanopticTally>,
) -> Result<(), CocoError> {
    let fail = |text: String| Err(CocoError::Inconsistent(text));
    if truth.ids.len() != found.ids.len() {
        return fail(format!("maps of {} and {} pixels", truth.ids.len(), found.ids.len()));
    }
    let mut common = Common::new();
    for (&real, &answer) in truth.ids.iter().zip(&found.ids) {
        *common.entry((real, answer)).or_default() += 1;
    }
    let of = |real: u32, answer: u32| common.get(&(real, answer)).copied().unwrap_or(0);
    let mut areas: BTreeMap<u32, u64> = BTreeMap::new();
    for (&(_, answer), &pixels) in &common {
        *areas.entry(answer).or_default() += pixels;
    }
    let real: BTreeMap<u32, &Segment> = truth.segments.iter().map(|segment| (segment.id, segment)).collect();
    let answers: BTreeMap<u32, &Segment> =
        found.segments.iter().map(|segment| (segment.id, segment)).collect();
    for segment in answers.values() {
        if !areas.contains_key(&segment.id) {
            return fail(format!("segment {} of the results is not in their map", segment.id));
        }
        if !categories.iter().any(|category| category.id == segment.category_id) {
            return fail(format!(
                "segment {} is of category {}, which is not known",
                segment.id, segment.category_id
            ));
        }
    }
    if let Some(stray) = areas.keys().find(|id| **id != 0 && !answers.contains_key(id)) {
        return fail(format!("number {stray} of a result's map is none of its segments"));
    }
    let (mut hit_real, mut hit_answers) = (BTreeSet::new(), BTreeSet::new());
    for (&(real_id, answer_id), &pixels) in &common {
        let (Some(segment), Some(answer)) = (real.get(&real_id), answers.get(&answer_id)) else { continue };
        if segment.iscrowd == 1 || segment.category_id != answer.category_id {
            continue;
        }
        let counted = || truth.ids.iter().filter(|id| **id == real_id).count() as u64;
        let area = segment.area.unwrap_or_else(counted);
        let union = (areas[&answer_id] + area) as f64 - (pixels + of(0, answer_id)) as f64;
        let iou = pixels as f64 / union;
        if iou > 0.5 {
            let tally = tallies.entry(segment.category_id).or_default();
            tally.hits += 1;
            tally.iou += iou;
            hit_real.insert(real_id);
            hit_answers.insert(answer_id);
        }
    }
    let mut crowds = BTreeMap::new();
    for segment in truth.segments.iter().filter(|segment| !hit_real.contains(&segment.id)) {
        if segment.iscrowd == 1 {
            crowds.insert(segment.category_id, segment.id);
        } else {
            tallies.entry(segment.category_id).or_default().misses += 1;
        }
    }
    for answer in found.segments.iter().filter(|answer| !hit_answers.contains(&answer.id)) {
        let crowd = crowds.get(&answer.category_id).map_or(0, |&crowd| of(crowd, answer.id));
        if (of(0, answer.id) + crowd) as f64 / areas[&answer.id] as f64 <= 0.5 {
            tallies.entry(answer.category_id).or_default().false_alarms += 1;
        }
    }
    Ok(())
}

fn summary(categories: &[Category], tallies: &BTreeMap<u64, PanopticTally>) -> PanopticQuality {
    let over = |wanted: &dyn Fn(&Category) -> bool| {
        let mut score = PanopticScore::default();
        for category in categories.iter().filter(|category| wanted(category)) {
            let tally = tallies.get(&category.id).copied().unwrap_or_default();
            let mistakes = tally.false_alarms + tally.misses;
            if tally.hits + mistakes == 0 {
                continue;
            }
            let whole = tally.hits as f64 + 0.5 * mistakes as f64;
            score.n += 1;
            score.pq += tally.iou / whole;
            score.sq += if tally.hits == 0 { 0.0 } else { tally.iou / tally.hits as f64 };
            score.rq += tally.hits as f64 / whole;
        }
        let n = score.n.max(1) as f64;
        PanopticScore { pq: score.pq / n, sq: score.sq / n, rq: score.rq / n, n: score.n }
    };
    PanopticQuality {
        all: over(&|_| true),
        things: over(&|category| category.isthing == Some(1)),
        stuff: over(&|category| category.isthing != Some(1)),
    }
}
