//! What a network says as objects and segments of a picture; transformers' `post_process_object_detection` and
//! `post_process_panoptic_segmentation`.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Tensor, activation};
use kiln_backend::ops::{InterpolationMode, interpolate};

use crate::boxes::corners;
use crate::coco::Rle;
use crate::detr::{Predictions, Probabilities, SegmentationOutput};

/// An object that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its class.
    pub class: usize,
    /// How probable the class is.
    pub score: f32,
    /// Left, top, right, bottom in pixels.
    pub corners: [f32; 4],
    /// The query that found it.
    pub query: usize,
}

/// A segment of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundSegment {
    /// Its number in the map, from 1.
    pub id: u32,
    /// Its class.
    pub class: usize,
    /// How probable the class is.
    pub score: f32,
}

/// Objects more probable than `threshold` in each picture, of `(width, height)` each, by query; where classes are told one by one
/// (sigmoid), at most 100 by probability, a query's several classes each for itself.
///
/// # Panics
///
/// If there are not as many sizes as pictures.
#[must_use]
pub fn objects(predictions: &Predictions, sizes: &[(u32, u32)], threshold: f32) -> Vec<Vec<Found>> {
    const MOST: usize = 100;
    let [batch, queries, _] = predictions.logits.dims();
    assert_eq!(batch, sizes.len(), "a size a picture");
    let probabilities = predictions.probabilities.of(predictions.logits.clone());
    let [.., width] = probabilities.dims();
    let probabilities: Vec<f32> = probabilities.into_data().iter::<f32>().collect();
    let boxes: Vec<f32> = predictions.boxes.clone().into_data().iter::<f32>().collect();
    let pictures = probabilities.chunks(queries * width).zip(boxes.chunks(queries * 4)).zip(sizes);
    let found = pictures.map(|((probabilities, boxes), &(w, h))| {
        let place = |query: usize| {
            let sides = &boxes[4 * query..4 * query + 4];
            let [left, top, right, bottom] = corners([sides[0], sides[1], sides[2], sides[3]]);
            let (w, h) = (w as f32, h as f32);
            [left * w, top * h, right * w, bottom * h]
        };
        let found =
            |query: usize, class: usize, score: f32| Found { class, score, corners: place(query), query };
        match predictions.probabilities {
            Probabilities::Softmax => {
                let queries = probabilities.chunks(width).enumerate();
                let said = queries.filter_map(|(query, row)| most(row).map(|(class, p)| (query, class, p)));
                said.filter(|(.., p)| *p > threshold)
                    .map(|(query, class, p)| found(query, class, p))
                    .collect()
            }
            Probabilities::Sigmoid => {
                let mut places: Vec<usize> = (0..probabilities.len()).collect();
                places.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
                places.truncate(MOST);
                let said = places.into_iter().filter(|&place| probabilities[place] > threshold);
                said.map(|place| found(place / width, place % width, probabilities[place])).collect()
            }
        }
    });
    found.collect()
}

/// The first of the largest numbers, and its place.
fn most(numbers: &[f32]) -> Option<(usize, f32)> {
    numbers.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Masks, `[queries, rows, columns]` before the sigmoid, at a picture's size: what is more probable than not (facebookresearch's
/// `PostProcessSegm`). The picture was not padded.
#[must_use]
pub fn masks(masks: Tensor<3>, width: u32, height: u32) -> Vec<Rle> {
    let size = [height as usize, width as usize];
    let grown = interpolate(masks.unsqueeze_dim::<4>(1), size, InterpolationMode::Bilinear);
    let pixels: Vec<bool> = grown.into_data().iter::<f32>().map(|x| x > 0.0).collect();
    pixels.chunks((size[0] * size[1]).max(1)).map(|mask| Rle::encode(mask, height, width)).collect()
}

/// The map of one picture's segments, row by row, 0 for none, and what they are: `output` is of a batch of one. Queries that say an
/// object with a probability above `threshold` compete for each pixel; one that keeps less than 0.8 of its mask is dropped. Segments
/// of a class in `stuff` (sky, grass: what is not counted) become one, which has the greatest of their scores.
///
/// Where classes are told one by one, a query says the most probable. transformers takes the softmax there too, as if the last class
/// were "no object".
///
/// Numbers follow the queries. transformers', after it has joined a segment to an earlier one, goes on from that one's number, so
/// that a later segment can get a number that is taken; here none does.
///
/// # Panics
///
/// If there is more than one picture.
#[must_use]
pub fn segments(
    output: &SegmentationOutput,
    width: u32,
    height: u32,
    threshold: f32,
    stuff: &BTreeSet<usize>,
) -> (Vec<u32>, Vec<FoundSegment>) {
    const KEPT: f32 = 0.8;
    let predictions = &output.detection.predictions;
    let [batch, _, scores] = predictions.logits.dims();
    assert_eq!(batch, 1, "one picture at a time");
    let (w, h) = (width as usize, height as usize);
    let logits = predictions.logits.clone();
    // "No object" competes with the classes, and is none of them.
    let (probabilities, classes) = match predictions.probabilities {
        Probabilities::Softmax => (activation::softmax(logits, 2), scores - 1),
        Probabilities::Sigmoid => (activation::sigmoid(logits), scores),
    };
    let probabilities: Vec<f32> = probabilities.into_data().iter::<f32>().collect();
    let chosen: Vec<(usize, usize, f32)> = probabilities
        .chunks(scores)
        .enumerate()
        .filter_map(|(query, row)| most(row).map(|(class, score)| (query, class, score)))
        .filter(|&(_, class, score)| class < classes && score > threshold)
        .collect();
    let mut ids = vec![0_u32; w * h];
    // One mask after another, so that memory does not grow with the number of objects.
    let mask = |query: usize, score: f32| -> Vec<f32> {
        let mask: Tensor<4> = activation::sigmoid(output.masks.clone().narrow(1, query, 1));
        let mask = interpolate(mask, [h, w], InterpolationMode::Bilinear);
        mask.into_data().iter::<f32>().map(|p| p * score).collect()
    };
    let (mut owner, mut strongest) = (vec![0_usize; w * h], vec![f32::NEG_INFINITY; w * h]);
    let mut whole = vec![0_usize; chosen.len()];
    for (index, &(query, _, score)) in chosen.iter().enumerate() {
        for (place, p) in mask(query, score).into_iter().enumerate() {
            whole[index] += usize::from(p >= 0.5);
            if p > strongest[place] {
                (owner[place], strongest[place]) = (index, p);
            }
        }
    }
    let mut segments: Vec<FoundSegment> = Vec::new();
    let mut earlier = BTreeMap::new();
    for (index, &(_, class, score)) in chosen.iter().enumerate() {
        let kept = owner.iter().filter(|&&owner| owner == index).count();
        if kept == 0 || whole[index] == 0 || kept as f32 / whole[index] as f32 <= KEPT {
            continue;
        }
        let next = segments.len() as u32 + 1;
        let id = if stuff.contains(&class) { *earlier.entry(class).or_insert(next) } else { next };
        for (place, _) in owner.iter().enumerate().filter(|(_, owner)| **owner == index) {
            ids[place] = id;
        }
        match segments.iter_mut().find(|segment| segment.id == id) {
            Some(segment) => segment.score = segment.score.max(score),
            None => segments.push(FoundSegment { id, class, score }),
        }
    }
    (ids, segments)
}
