//! Boxes with their names on a photograph, and segments as COCO's PNG.

use anyhow::Result;
use font8x8::UnicodeFonts;
use kiln::detection::DetrConfig;
use kiln::detection::results::Found;
use kiln::picture::{Channels, Picture};

const COLOURS: [[u8; 3]; 8] = [
    [230, 57, 70],
    [29, 120, 210],
    [42, 157, 80],
    [244, 140, 6],
    [131, 56, 190],
    [0, 150, 160],
    [214, 40, 140],
    [110, 90, 40],
];

/// What a class is called.
pub fn name(class: usize, config: &DetrConfig) -> String {
    config.label(class).map_or_else(|| format!("class {class}"), str::to_owned)
}

/// The photograph with a box around each object, the least probable drawn first.
pub fn boxes(picture: &Picture, objects: &[Found], config: &DetrConfig) -> Result<Picture> {
    let mut canvas =
        Canvas { width: picture.width(), height: picture.height(), samples: picture.samples().to_vec() };
    let thick = (picture.width().max(picture.height()) / 400).max(1);
    for object in objects.iter().rev() {
        let colour = COLOURS[object.class % COLOURS.len()];
        let [left, top, right, bottom] = object.corners.map(|side| side.round() as i64);
        let t = i64::from(thick);
        for [x0, y0, x1, y1] in [
            [left, top, right, top + t],
            [left, bottom - t, right, bottom],
            [left, top, left + t, bottom],
            [right - t, top, right, bottom],
        ] {
            canvas.fill([x0, y0, x1, y1], colour);
        }
        let text = format!("{} {:.2}", name(object.class, config), object.score);
        canvas.label(left.max(0), top.max(0), &text, colour, t.min(4));
    }
    Ok(Picture::new(canvas.width, canvas.height, Channels::Rgb, canvas.samples)?)
}

/// A map of segments: red + 256 green + 256² blue.
pub fn map(ids: &[u32], width: u32, height: u32) -> Result<Picture> {
    let samples = ids.iter().flat_map(|id| [*id as u8, (id >> 8) as u8, (id >> 16) as u8]).collect();
    Ok(Picture::new(width, height, Channels::Rgb, samples)?)
}

struct Canvas {
    width: u32,
    height: u32,
    samples: Vec<u8>,
}

impl Canvas {
    /// What of a rectangle is on the picture.
    fn fill(&mut self, [x0, y0, x1, y1]: [i64; 4], colour: [u8; 3]) {
        let (width, height) = (i64::from(self.width), i64::from(self.height));
        for y in y0.max(0)..y1.min(height) {
            for x in x0.max(0)..x1.min(width) {
                let place = 3 * (y * width + x) as usize;
                self.samples[place..place + 3].copy_from_slice(&colour);
            }
        }
    }

    /// Text in white on the colour; characters that the font has not are left out.
    fn label(&mut self, left: i64, top: i64, text: &str, colour: [u8; 3], zoom: i64) {
        let wide = 8 * zoom * text.chars().count() as i64;
        self.fill([left, top, left + wide + 2 * zoom, top + 10 * zoom], colour);
        for (place, character) in text.chars().enumerate() {
            let Some(glyph) = font8x8::BASIC_FONTS.get(character) else { continue };
            for (row, bits) in glyph.into_iter().enumerate() {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    let x = left + zoom + (8 * place as i64 + column) * zoom;
                    let y = top + zoom + row as i64 * zoom;
                    self.fill([x, y, x + zoom, y + zoom], [255; 3]);
                }
            }
        }
    }
}
