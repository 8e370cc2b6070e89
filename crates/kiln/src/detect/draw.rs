//! Boxes with their names on a photograph, where the network looked, and segments as COCO's PNG.

use anyhow::Result;
use burn::tensor::Tensor;
use font8x8::UnicodeFonts;
use kiln::backend::ops::{InterpolationMode, interpolate};
use kiln::detection::DetrConfig;
use kiln::detection::results::Found;
use kiln::picture::{Channels, Filter, Picture, grid};

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

/// Objects whose attention is drawn, at most, and the longest side of each one's picture.
const SHOWN: usize = 16;
const TILE: u32 = 320;

/// For each object the photograph, as bright as its query looked there, with its box: `maps` is `[1, queries, heads, rows, columns]`. There
/// has to be an object.
pub fn attention(
    picture: &Picture,
    objects: &[Found],
    maps: &Tensor<5>,
    config: &DetrConfig,
) -> Result<Picture> {
    let [_, _, _, rows, columns] = maps.dims();
    let longest = picture.width().max(picture.height());
    let scale = f64::from(TILE.min(longest)) / f64::from(longest);
    let size = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let (width, height) = (size(picture.width()), size(picture.height()));
    let small = picture.resize(width, height, Filter::Bilinear)?;
    let tiles = objects.iter().take(SHOWN).map(|object| {
        let map = maps.clone().narrow(1, object.query, 1).mean_dim(2).reshape([1, 1, rows, columns]);
        let map = interpolate(map, [height as usize, width as usize], InterpolationMode::Bilinear);
        let map: Vec<f32> = map.into_data().iter().collect();
        let most = map.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        // The photograph stays to be seen where nobody looks.
        let light = map.iter().map(|share| 0.25 + 0.75 * share / most);
        let pixels = small.samples().chunks_exact(3).zip(light);
        let lit = pixels
            .flat_map(|(pixel, light)| pixel.iter().map(move |&v| (f32::from(v) * light).round() as u8));
        let lit = Picture::new(width, height, Channels::Rgb, lit.collect())?;
        let corners = object.corners.map(|side| side * scale as f32);
        boxes(&lit, &[Found { corners, ..*object }], config)
    });
    let tiles: Vec<_> = tiles.collect::<Result<_>>()?;
    let across = (tiles.len() as f64).sqrt().ceil() as usize;
    Ok(grid(&tiles, across, 2)?)
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
