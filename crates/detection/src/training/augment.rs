//! The random changes that DETR is trained with (Carion et al. 2020, section 4): each picture is flipped or not, then brought to a
//! random size, or first cut out of itself at random.
//!
//! ```text
//! flip with probability flip
//! with probability crop:  shorter side to one of before_crop, then a part of random width and height, each from crop_sides
//! shorter side to one of sizes, but no side above longest
//! ```

use kiln_backend::noise::{NoiseKey, uniform_values};
use kiln_picture::PictureError;

use super::sample::Sample;
use crate::processor::{Processor, TargetSize};

/// What is done to the pictures of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation {
    /// The share of pictures that are flipped: 0 where left and right matter.
    pub flip: f64,
    /// The share of pictures that are cut.
    pub crop: f64,
    /// Shorter sides that a picture may be brought to before it is cut.
    pub before_crop: Vec<u32>,
    /// The least and the largest side of what is cut out.
    pub crop_sides: [u32; 2],
    /// Shorter sides that a picture may be brought to.
    pub sizes: Vec<u32>,
    /// What the longer side may then be at most.
    pub longest: u32,
}

impl Augmentation {
    /// The published one, for COCO.
    #[must_use]
    pub fn published() -> Self {
        Self::at(800)
    }

    /// The published one with 800, the largest of the shorter sides, brought to `size`, and all others with it.
    #[must_use]
    pub fn at(size: u32) -> Self {
        let scaled = |side: u32| ((f64::from(side) * f64::from(size) / 800.0).round() as u32).max(1);
        Self {
            flip: 0.5,
            crop: 0.5,
            before_crop: [400, 500, 600].map(scaled).to_vec(),
            crop_sides: [384, 600].map(scaled),
            sizes: (480..=800).step_by(32).map(scaled).collect(),
            longest: scaled(1333),
        }
    }

    /// No change but that of the size.
    #[must_use]
    pub fn none(size: u32) -> Self {
        Self { flip: 0.0, crop: 0.0, sizes: vec![size], ..Self::at(size) }
    }

    /// The sample changed as the numbers of `key` say: the same key, the same change.
    ///
    /// # Errors
    ///
    /// [`PictureError`], if it can't be resized.
    ///
    /// # Panics
    ///
    /// If a list of sizes that is needed is empty.
    pub fn apply(&self, sample: Sample, key: NoiseKey) -> Result<Sample, PictureError> {
        let draws = uniform_values(8, key);
        let chosen = |draw: f32, sides: &[u32]| sides[at(draw, sides.len())];
        let mut sample = if f64::from(draws[0]) < self.flip { sample.flip() } else { sample };
        if f64::from(draws[1]) < self.crop {
            sample = resized(&sample, chosen(draws[2], &self.before_crop), u32::MAX)?;
            let [least, most] = self.crop_sides;
            let side = |draw: f32, side: u32| {
                let (least, most) = (least.min(side), most.min(side));
                least + at(draw, (most - least) as usize + 1) as u32
            };
            let (w, h) = (sample.picture.width(), sample.picture.height());
            let (width, height) = (side(draws[3], w), side(draws[4], h));
            let left = at(draws[5], (w - width) as usize + 1) as u32;
            let top = at(draws[6], (h - height) as usize + 1) as u32;
            sample = sample.crop(left, top, width, height)?;
        }
        resized(&sample, chosen(draws[7], &self.sizes), self.longest)
    }
}

/// One of `count` by a number below 1.
fn at(draw: f32, count: usize) -> usize {
    ((f64::from(draw) * count as f64) as usize).min(count - 1)
}

fn resized(sample: &Sample, shortest: u32, longest: u32) -> Result<Sample, PictureError> {
    let size = TargetSize {
        shortest_edge: Some(shortest),
        longest_edge: (longest < u32::MAX).then_some(longest),
        ..TargetSize::default()
    };
    let (w, h) = (sample.picture.width(), sample.picture.height());
    let (width, height) = Processor::default().with_size(size).resized(w, h);
    if (width, height) == (w, h) { Ok(sample.clone()) } else { sample.resize(width, height) }
}
