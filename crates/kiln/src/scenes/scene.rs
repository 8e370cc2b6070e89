//! One scene: a part of a photograph, and one to four digits on it, none over another.
//!
//! ```text
//! pixel = (1 - a) photograph + a colour        a the digit's ink, enlarged, from 0 to 1
//! ```
//!
//! A digit's box is the smallest around its ink, which is where a is at least a quarter.

use anyhow::Result;
use kiln::backend::noise::{NoiseKey, uniform_values};
use kiln::detection::coco::Rle;
use kiln::picture::{Channels, Filter, Picture};
use kiln::training::data::Pictures;

/// What scenes are made of.
pub struct Makings<'a> {
    pub digits: &'a Pictures,
    pub labels: &'a [u32],
    pub photos: Vec<Picture>,
}

pub struct Scene {
    pub picture: Picture,
    pub digits: Vec<Digit>,
}

pub struct Digit {
    pub label: u32,
    pub ink: Rle,
}

/// Ink counts from here on, of 255.
const INK: u8 = 64;
/// The side of a digit's frame as a share of the scene's; its ink fills some 0.7 of it.
const FRAME: [f64; 2] = [0.28, 0.62];
/// How much lighter or darker than what is behind it a digit is at least, of 255.
const CONTRAST: f64 = 70.0;
/// How often a place is looked for.
const TRIES: usize = 30;

/// Numbers of a stream, one after another.
struct Draws {
    values: Vec<f32>,
    next: usize,
}

impl Draws {
    fn number(&mut self) -> f64 {
        self.next += 1;
        f64::from(self.values[self.next - 1])
    }

    fn between(&mut self, [least, most]: [f64; 2]) -> f64 {
        least + (most - least) * self.number()
    }

    /// A whole number below `count`.
    fn below(&mut self, count: usize) -> usize {
        ((self.number() * count as f64) as usize).min(count - 1)
    }
}

/// The scene of a seed and a number; those held out are others.
pub fn scene(makings: &Makings<'_>, size: u32, seed: u64, number: u64, held_out: bool) -> Result<Scene> {
    let key = NoiseKey { seed, sample: number, step: u64::from(held_out) };
    let mut draws = Draws { values: uniform_values(1024, key), next: 0 };
    let background = background(makings, size, &mut draws)?;
    let side = size as usize;
    let mut samples = background.samples().to_vec();
    let mut digits: Vec<(Digit, [usize; 4])> = Vec::new();
    for _ in 0..=draws.below(4) {
        let index = draws.below(makings.digits.len());
        let frame = draws.between(FRAME.map(|share| share * f64::from(size))).round() as u32;
        let digit =
            makings.digits.picture(index).convert(Channels::Grey).resize(frame, frame, Filter::Bicubic)?;
        let Some([left, top, right, bottom]) = around(&digit) else { continue };
        let (width, height) = (right - left, bottom - top);
        if width >= side || height >= side {
            continue;
        }
        let mut place = None;
        for _ in 0..TRIES {
            let (x, y) = (draws.below(side - width + 1), draws.below(side - height + 1));
            let apart = |[l, t, r, b]: [usize; 4]| x + width <= l || r <= x || y + height <= t || b <= y;
            if digits.iter().all(|(_, corners)| apart(*corners)) {
                place = Some([x, y]);
                break;
            }
        }
        let Some([x, y]) = place else { continue };
        let colour = colour(&samples, side, [x, y, x + width, y + height], &mut draws);
        let mut ink = vec![false; side * side];
        for row in 0..height {
            for column in 0..width {
                let shade = digit.samples()[(top + row) * frame as usize + left + column];
                let pixel = (y + row) * side + x + column;
                ink[pixel] = shade >= INK;
                let a = f64::from(shade) / 255.0;
                for (sample, wanted) in samples[3 * pixel..3 * pixel + 3].iter_mut().zip(colour) {
                    *sample = ((1.0 - a) * f64::from(*sample) + a * wanted).round() as u8;
                }
            }
        }
        let digit = Digit { label: makings.labels[index], ink: Rle::encode(&ink, size, size) };
        digits.push((digit, [x, y, x + width, y + height]));
    }
    let picture = Picture::new(size, size, Channels::Rgb, samples)?;
    Ok(Scene { picture, digits: digits.into_iter().map(|(digit, _)| digit).collect() })
}

/// A square of a photograph, its colours changed: there are few photographs, and many scenes.
fn background(makings: &Makings<'_>, size: u32, draws: &mut Draws) -> Result<Picture> {
    let photo = &makings.photos[draws.below(makings.photos.len())];
    let most = photo.width().min(photo.height());
    let side = draws.between([f64::from(size), f64::from(most)]).round() as u32;
    let left = draws.below((photo.width() - side) as usize + 1) as u32;
    let top = draws.below((photo.height() - side) as usize + 1) as u32;
    let part = photo.crop(left, top, side, side)?.resize(size, size, Filter::Bilinear)?;
    let mirrored = draws.number() < 0.5;
    let gains = [0; 3].map(|_| draws.between([0.6, 1.3]));
    let lift = draws.between([-25.0, 25.0]);
    let mut samples = part.samples().to_vec();
    for row in samples.chunks_mut(3 * size as usize) {
        if mirrored {
            row.reverse();
            row.chunks_mut(3).for_each(<[u8]>::reverse);
        }
        for pixel in row.chunks_mut(3) {
            for (sample, gain) in pixel.iter_mut().zip(gains) {
                *sample = (f64::from(*sample) * gain + lift).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    Ok(Picture::new(size, size, Channels::Rgb, samples)?)
}

/// Left, top, right, bottom of the ink.
fn around(digit: &Picture) -> Option<[usize; 4]> {
    let width = digit.width() as usize;
    let inked = digit.samples().iter().enumerate().filter(|(_, shade)| **shade >= INK);
    let places = inked.map(|(place, _)| [place % width, place / width]);
    places.fold(None, |corners, [x, y]| {
        let [left, top, right, bottom] = corners.unwrap_or([x, y, x, y]);
        Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)])
    })
}

fn luminance(colour: [f64; 3]) -> f64 {
    0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
}

/// A colour that stands out from what is within the corners.
fn colour(
    samples: &[u8],
    side: usize,
    [left, top, right, bottom]: [usize; 4],
    draws: &mut Draws,
) -> [f64; 3] {
    let mut mean = [0.0; 3];
    for row in top..bottom {
        for pixel in samples[3 * (row * side + left)..3 * (row * side + right)].chunks(3) {
            for (mean, sample) in mean.iter_mut().zip(pixel) {
                *mean += f64::from(*sample) / ((right - left) * (bottom - top)) as f64;
            }
        }
    }
    let behind = luminance(mean);
    for _ in 0..8 {
        let colour = [0; 3].map(|_| draws.between([0.0, 255.0]));
        if (luminance(colour) - behind).abs() >= CONTRAST {
            return colour;
        }
    }
    if behind < 128.0 { [255.0; 3] } else { [0.0; 3] }
}
