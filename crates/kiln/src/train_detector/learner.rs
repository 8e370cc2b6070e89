//! What learns: a detector, or one with masks; and what is asked of either, in lessons and in examinations.

use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};
use kiln::detection::coco::{Masks, Rle};
use kiln::detection::processor::Processor;
use kiln::detection::results::{Found, FoundSegment, masks, objects, segments};
use kiln::detection::training::{Criterion, Target, batch};
use kiln::detection::{Detr, DetrSegmentation};
use kiln::picture::{Filter, Picture, PictureError};
use kiln::training::BoxError;

use super::options::Learned;

/// What a network is told of its answers.
pub struct Lesson {
    pub criterion: Criterion,
    /// Weight of what is said at each place of the map.
    pub place_loss: f64,
    /// What of a network with masks learns.
    pub learned: Learned,
}

/// Pictures of a batch, and where they are in it.
pub type Shown = (Tensor<4>, Option<Tensor<3, Bool>>);

/// What a network says of a picture.
pub struct Answer {
    pub objects: Vec<Found>,
    /// The mask of each query, where there are masks.
    pub masks: Vec<Rle>,
    /// The map of segments, and what they are.
    pub segments: Option<(Vec<u32>, Vec<FoundSegment>)>,
}

/// A query says a segment from here on.
const SAID: f32 = 0.5;

pub trait Learner: Module {
    /// Whether it has masks to learn.
    const MASKS: Masks;

    fn loss(&self, lesson: &Lesson, shown: Shown, targets: &[Target]) -> Result<Tensor<1>, BoxError>;

    /// What it says of pictures of one size, which are brought to the network's already; `sizes` are those they had.
    fn say(&self, pixels: Tensor<4>, sizes: &[(u32, u32)]) -> Vec<Answer>;
}

impl Learner for Detr {
    const MASKS: Masks = Masks::Left;

    fn loss(
        &self,
        lesson: &Lesson,
        (pixels, mask): Shown,
        targets: &[Target],
    ) -> Result<Tensor<1>, BoxError> {
        if lesson.place_loss == 0.0 {
            return Ok(lesson.criterion.forward(&self.forward(pixels, mask), None, targets)?.total);
        }
        let (output, places) = self.forward_with_places(pixels, mask);
        let loss = lesson.criterion.forward(&output, None, targets)?.total;
        Ok(loss + lesson.criterion.of_predictions(&places, targets)? * lesson.place_loss)
    }

    fn say(&self, pixels: Tensor<4>, sizes: &[(u32, u32)]) -> Vec<Answer> {
        let found = objects(&self.forward(pixels, None).predictions, sizes, 0.0);
        found.into_iter().map(|objects| Answer { objects, masks: Vec::new(), segments: None }).collect()
    }
}

impl Learner for DetrSegmentation {
    const MASKS: Masks = Masks::Read;

    fn loss(
        &self,
        lesson: &Lesson,
        (pixels, mask): Shown,
        targets: &[Target],
    ) -> Result<Tensor<1>, BoxError> {
        let seen = self.see(pixels, mask);
        let drawn = |pairs: &[(usize, usize)]| self.masks_of(&seen, pairs);
        let Lesson { criterion, place_loss, learned } = lesson;
        if *learned == Learned::Head {
            return Ok(criterion.of_masks(seen.detection(), drawn, targets)?);
        }
        let loss = criterion.forward_drawing(seen.detection(), drawn, targets)?.total;
        if *place_loss == 0.0 {
            return Ok(loss);
        }
        Ok(loss + criterion.of_predictions(&self.predict_places(&seen), targets)? * *place_loss)
    }

    fn say(&self, pixels: Tensor<4>, sizes: &[(u32, u32)]) -> Vec<Answer> {
        let output = self.forward(pixels, None);
        let found = objects(&output.detection.predictions, sizes, 0.0);
        let answers = found.into_iter().zip(sizes).enumerate().map(|(index, (objects, &(width, height)))| {
            let output = output.picture(index);
            Answer {
                objects,
                masks: masks(output.masks.clone().squeeze_dim(0), width, height),
                segments: Some(segments(&output, width, height, SAID, &std::collections::BTreeSet::new())),
            }
        });
        answers.collect()
    }
}

/// What a network finds in pictures, whatever its score. Pictures of one size are a batch; none is padded.
pub fn look(
    network: &impl Learner,
    processor: &Processor,
    pictures: &[Picture],
    device: &Device,
) -> Result<Vec<Answer>, PictureError> {
    let size = |picture: &Picture| (picture.width(), picture.height());
    let mut answers = Vec::with_capacity(pictures.len());
    for pictures in pictures.chunk_by(|a, b| size(a) == size(b)) {
        let resized = pictures.iter().map(|picture| {
            let (width, height) = processor.resized(picture.width(), picture.height());
            if (width, height) == size(picture) {
                Ok(picture.clone())
            } else {
                picture.resize(width, height, Filter::Bilinear)
            }
        });
        let resized: Vec<Picture> = resized.collect::<Result<_, _>>()?;
        let (pixels, _) = batch(&resized, processor, device);
        answers.extend(network.say(pixels, &pictures.iter().map(size).collect::<Vec<_>>()));
    }
    Ok(answers)
}
