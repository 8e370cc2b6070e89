//! Large pictures in little memory: a picture is cut into overlapping tiles that go through the network one by one, and where
//! two overlap the one fades into the other.
//!
//! ```text
//! y[i] = (1 - i / n) before[i] + (i / n) after[i]       over the n pixels of an overlap
//! ```
//!
//! Tiles know nothing of one another, while the network's norms and its attention see a whole picture: so the result is
//! close to that of the picture as a whole, and not the same. It is what diffusers' `enable_tiling` gives.

use burn::tensor::{Tensor, TensorData};
use thiserror::Error;

/// How a batch goes through an autoencoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pieces {
    /// All at once.
    #[default]
    Whole,
    /// One sample after another; the result is the same.
    Samples,
    /// One sample after another, each in tiles if it is larger than one.
    Tiles(Tiling),
}

/// Tiles of `tile` x `tile` pixels of a latent, each `overlap` pixels into the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    tile: usize,
    overlap: usize,
}

/// Tiles that would not get on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("tiles of {tile} latent pixels that overlap by {overlap}; a tile must be larger than its overlap")]
pub struct TilingError {
    /// Side of a tile.
    pub tile: usize,
    /// Pixels that two tiles share.
    pub overlap: usize,
}

impl Tiling {
    /// Tiles of `tile` latent pixels a side, of which the next shares `overlap`.
    ///
    /// # Errors
    ///
    /// [`TilingError`], unless `overlap` is below `tile`.
    pub const fn new(tile: usize, overlap: usize) -> Result<Self, TilingError> {
        if overlap < tile { Ok(Self { tile, overlap }) } else { Err(TilingError { tile, overlap }) }
    }

    /// A quarter of a tile overlaps: diffusers' own choice.
    pub(crate) const fn with_quarter(tile: usize) -> Self {
        Self { tile, overlap: tile / 4 }
    }

    /// Side of a tile in pixels of a latent.
    #[must_use]
    pub const fn tile(&self) -> usize {
        self.tile
    }

    /// Pixels of a latent that two neighbouring tiles share.
    #[must_use]
    pub const fn overlap(&self) -> usize {
        self.overlap
    }
}

/// Pixels that one latent pixel stands for, on either side of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub input: usize,
    pub output: usize,
}

/// `[1, channels, height, width]` through `network`, tile by tile. In memory are the result and one row of tiles.
pub(crate) fn in_tiles(
    x: &Tensor<4>,
    tiling: Tiling,
    scale: Scale,
    network: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let tile = tiling.tile * scale.input;
    let stride = (tiling.tile - tiling.overlap) * scale.input;
    let kept = (tiling.tile - tiling.overlap) * scale.output;
    let overlap = tiling.overlap * scale.output;

    let mut rows = Vec::new();
    // The lower edges of the tiles above, which fade into those below.
    let mut above: Vec<Option<Tensor<4>>> = Vec::new();
    for top in starts(height, stride, scale.input) {
        let mut row = Vec::new();
        let mut edges = Vec::new();
        let mut left: Option<Tensor<4>> = None;
        for (column, start) in starts(width, stride, scale.input).enumerate() {
            let piece =
                x.clone().narrow(2, top, tile.min(height - top)).narrow(3, start, tile.min(width - start));
            let mut y = network(piece);
            if let Some(Some(edge)) = above.get(column) {
                y = fade(2, edge.clone(), y);
            }
            if let Some(edge) = left {
                y = fade(3, edge, y);
            }
            let [_, _, rows, columns] = y.dims();
            edges.push(last(2, y.clone(), overlap.min(rows)));
            left = last(3, y.clone(), overlap.min(columns));
            row.push(y.narrow(2, 0, kept.min(rows)).narrow(3, 0, kept.min(columns)));
        }
        above = edges;
        rows.push(Tensor::cat(row, 3));
    }
    Tensor::cat(rows, 2)
}

/// Where tiles start; what is left of less than a latent pixel gives none.
fn starts(side: usize, stride: usize, pixel: usize) -> impl Iterator<Item = usize> {
    (0..side).step_by(stride).filter(move |start| *start == 0 || side - start >= pixel)
}

/// The last `count` along `dim`, if any.
fn last(dim: usize, x: Tensor<4>, count: usize) -> Option<Tensor<4>> {
    let size = x.dims()[dim];
    (count > 0).then(|| x.narrow(dim, size - count, count))
}

/// `after`, whose beginning along `dim` fades in from the end of `before`.
fn fade(dim: usize, before: Tensor<4>, after: Tensor<4>) -> Tensor<4> {
    let (ending, size) = (before.dims()[dim], after.dims()[dim]);
    let count = ending.min(size);
    let mut shape = [1; 4];
    shape[dim] = count;
    let weights: Vec<f32> = (0..count).map(|i| i as f32 / count as f32).collect();
    let weights = Tensor::<4>::from_data(TensorData::new(weights, shape), (&after.device(), after.dtype()));
    let before = before.narrow(dim, ending - count, count);
    let mixed = before * (weights.clone() * -1.0 + 1.0) + after.clone().narrow(dim, 0, count) * weights;
    if count == size { mixed } else { Tensor::cat(vec![mixed, after.narrow(dim, count, size - count)], dim) }
}
