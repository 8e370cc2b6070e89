//! A network over a picture of any size, tile by tile.
//!
//! A tile is a part of the picture with `margin` pixels around it, so that its network sees what is beside it. Across a
//! border both tiles are worked out for `blend` pixels to either side, and one passes into the other linearly:
//!
//! ```text
//! y = sum over tiles w(tile) network(tile)          w = product over axes of the ramps at the tile's two borders, sum 1
//! ```
//!
//! For a network that looks no farther than `margin - blend` pixels, that is what it gives on the whole picture. Memory is
//! that of the result, 1 byte a sample (of a band of it with [`enlarge_by_bands`]), of a band of tiles in single precision,
//! and of the network on one tile.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use kiln_picture::{Channels, Picture, PictureError};

/// How a picture is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// The longest side of a tile without its margin, in pixels of the small picture.
    pub side: usize,
    /// Pixels around a tile that its network sees.
    pub margin: usize,
    /// Pixels to either side of a border over which one tile passes into the next: at most `margin`, and a quarter of `side`.
    pub blend: usize,
}

/// Why a picture was not enlarged.
#[derive(Debug, thiserror::Error)]
pub enum TilesError {
    /// The result can't be held, or has more pixels along a side than a picture may have.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A side of the result does not fit its type.
    #[error("{width} x {height} pixels can't be made {scale} times as large")]
    TooLarge {
        /// Width of the small picture.
        width: u32,
        /// Height of the small picture.
        height: u32,
        /// How many times larger it was to be.
        scale: usize,
    },
    /// A tile came back with another shape than `[1, 3, scale height, scale width]`.
    #[error("the network made {found:?} of a tile, where {expected:?} was expected")]
    Shape {
        /// What came back.
        found: [usize; 4],
        /// What should have.
        expected: [usize; 4],
    },
    /// A tile came back as anything but finite floats.
    #[error("the network made values of a tile that are no finite numbers")]
    Values,
    /// The caller's `progress` ended it.
    #[error("stopped after {done} of {total} tiles")]
    Stopped {
        /// Tiles that were done.
        done: usize,
        /// Tiles in all.
        total: usize,
    },
}

/// What [`enlarge`] is told after each tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    On,
    /// Give up.
    Stop,
}

/// `picture` in colour, `scale` times as large, by a network that takes and gives `[1, 3, height, width]` with brightness
/// from 0 to 1. After each tile `progress` is told how many are done, and of how many.
///
/// # Errors
///
/// [`TilesError`]; the result's memory is reserved before the network is first run.
///
/// # Panics
///
/// If `scale` or a tile's side is 0, or `blend` is more than the margin or a quarter of the side.
pub fn enlarge(
    picture: &Picture,
    scale: usize,
    tiles: Tiles,
    device: &Device,
    network: impl FnMut(Tensor<4>) -> Tensor<4>,
    progress: impl FnMut(usize, usize) -> Next,
) -> Result<Picture, TilesError> {
    let (width, height) = larger(picture, scale)?;
    let samples = (width as usize).checked_mul(height as usize).and_then(|area| area.checked_mul(CHANNELS));
    let mut out = Vec::new();
    out.try_reserve_exact(samples.ok_or_else(|| too_large(picture, scale))?)
        .map_err(|_| PictureError::OutOfMemory { width, height })?;
    enlarge_by_bands(picture, scale, tiles, device, network, progress, |rows| {
        out.extend_from_slice(rows);
        Ok(())
    })?;
    Ok(Picture::new(width, height, Channels::Rgb, out)?)
}

/// As [`enlarge`], for a result that is never held as a whole: `take` gets its next rows, three bytes a pixel, each time that
/// some are complete.
///
/// # Errors
///
/// [`TilesError`], and what `take` gives.
///
/// # Panics
///
/// As `enlarge` does.
pub fn enlarge_by_bands(
    picture: &Picture,
    scale: usize,
    tiles: Tiles,
    device: &Device,
    mut network: impl FnMut(Tensor<4>) -> Tensor<4>,
    mut progress: impl FnMut(usize, usize) -> Next,
    mut take: impl FnMut(&[u8]) -> Result<(), PictureError>,
) -> Result<(), TilesError> {
    assert!(
        scale > 0 && tiles.side > 0 && tiles.blend <= tiles.margin && 4 * tiles.blend <= tiles.side,
        "enlarge {scale} times: {tiles:?}"
    );
    let (out_width, out_height) = larger(picture, scale)?;
    let picture = picture.convert(Channels::Rgb);
    let (width, height) = (picture.width(), picture.height());
    let columns = Axis::cut(width as usize, scale, tiles);
    let rows = Axis::cut(height as usize, scale, tiles);
    let total = rows.len() * columns.len();
    let stride = out_width as usize * CHANNELS;
    // Rows of the result that are not complete, from `first` on.
    let mut band: Vec<f32> = Vec::new();
    let mut first = 0;
    let mut rounded = Vec::new();
    for (down, row) in rows.iter().enumerate() {
        band.resize((row.touched.end - first) * stride, 0.0);
        for (across, column) in columns.iter().enumerate() {
            let expected = [1, CHANNELS, row.seen.len() * scale, column.seen.len() * scale];
            let made = network(tile(&picture, row.seen.clone(), column.seen.clone(), device));
            if made.dims() != expected {
                return Err(TilesError::Shape { found: made.dims(), expected });
            }
            let made: Vec<f32> = made.into_data().iter::<f32>().collect();
            if !made.iter().all(|value| value.is_finite()) {
                return Err(TilesError::Values);
            }
            let [_, _, tile_height, tile_width] = expected;
            let (above, left) = (row.seen.start * scale, column.seen.start * scale);
            for (y, weight) in row.touched.clone().zip(&row.weights) {
                let band = &mut band[(y - first) * stride..][..stride];
                for (x, across) in column.touched.clone().zip(&column.weights) {
                    for (channel, sum) in band[x * CHANNELS..][..CHANNELS].iter_mut().enumerate() {
                        let at = (channel * tile_height + y - above) * tile_width + x - left;
                        *sum += weight * across * made[at];
                    }
                }
            }
            let done = down * columns.len() + across + 1;
            if progress(done, total) == Next::Stop && done < total {
                return Err(TilesError::Stopped { done, total });
            }
        }
        let complete = rows.get(down + 1).map_or(out_height as usize, |next| next.touched.start);
        let rows = band.drain(..(complete - first) * stride);
        rounded.clear();
        rounded.extend(rows.map(|v| (v * 255.0).round().clamp(0.0, 255.0) as u8));
        take(&rounded)?;
        first = complete;
    }
    Ok(())
}

/// The result's sides, if they fit their type.
fn larger(picture: &Picture, scale: usize) -> Result<(u32, u32), TilesError> {
    let side = |side: u32| {
        let side = (side as usize).checked_mul(scale).and_then(|side| u32::try_from(side).ok());
        side.ok_or_else(|| too_large(picture, scale))
    };
    Ok((side(picture.width())?, side(picture.height())?))
}

fn too_large(picture: &Picture, scale: usize) -> TilesError {
    TilesError::TooLarge { width: picture.width(), height: picture.height(), scale }
}

const CHANNELS: usize = 3;

/// One tile's part of an axis.
struct Axis {
    /// Pixels of the small picture that the network sees.
    seen: Range<usize>,
    /// Pixels of the result that the tile has a share of.
    touched: Range<usize>,
    /// The share of each.
    weights: Vec<f32>,
}

impl Axis {
    /// Tiles of nearly equal lengths.
    fn cut(length: usize, scale: usize, Tiles { side, margin, blend }: Tiles) -> Vec<Self> {
        let count = length.div_ceil(side);
        let border = |i: usize| (i as u128 * length as u128 / count as u128) as usize;
        let tile = |i: usize| {
            let (start, end) = (border(i), border(i + 1));
            let reach = |by: usize| {
                let before = if i == 0 { 0 } else { start.saturating_sub(by) };
                let after = if i + 1 == count { length } else { (end + by).min(length) };
                before..after
            };
            let touched = reach(blend);
            let touched = touched.start * scale..touched.end * scale;
            // From 0 to 1 across a border at `at`.
            let ramp = |pixel: usize, at: usize| {
                let past = pixel as f32 + 0.5 - ((at - blend.min(at)) * scale) as f32;
                if blend == 0 {
                    f32::from(u8::from(past > 0.0))
                } else {
                    (past / (2 * blend * scale) as f32).clamp(0.0, 1.0)
                }
            };
            let weight = |pixel: usize| {
                let entered = if i == 0 { 1.0 } else { ramp(pixel, start) };
                let left = if i + 1 == count { 0.0 } else { ramp(pixel, end) };
                entered - left
            };
            Self { seen: reach(margin), weights: touched.clone().map(weight).collect(), touched }
        };
        (0..count).map(tile).collect()
    }
}

/// Part of a picture in colour, `[1, 3, height, width]`, brightness from 0 to 1.
fn tile(picture: &Picture, rows: Range<usize>, columns: Range<usize>, device: &Device) -> Tensor<4> {
    let width = picture.width() as usize;
    let shape = [1, CHANNELS, rows.len(), columns.len()];
    let values: Vec<f32> = (0..CHANNELS)
        .flat_map(|channel| rows.clone().map(move |y| (channel, y)))
        .flat_map(|(channel, y)| columns.clone().map(move |x| (y * width + x) * CHANNELS + channel))
        .map(|at| f32::from(picture.samples()[at]) / 255.0)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
