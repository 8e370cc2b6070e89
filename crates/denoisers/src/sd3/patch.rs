//! A latent as a sequence of patches, each told where it is (diffusers: `PatchEmbed`).
//!
//! ```text
//! x_n = W patch_n + b + e(row, column)        Dosovitskiy et al. 2021; positions: kiln_attention::positions
//! ```
//!
//! The positions are a table of `side * side` in the file, which counts even where it is not what the formula gives; a
//! latent takes the middle of it. So a network works at any size up to the table's.

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::nn::Initializer;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use kiln_attention::positions::{centred, sincos_2d};
use kiln_blocks::convolve;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A latent whose sides a network can't take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LatentSizeError {
    /// It is empty, or not made of whole patches.
    #[error(
        "a latent of {height} x {width} is not made of patches of {patch} x {patch}; its sides must be multiples of {patch}"
    )]
    Patches {
        /// Height of the latent.
        height: usize,
        /// Width of the latent.
        width: usize,
        /// Side of a patch.
        patch: usize,
    },
    /// The table of positions is smaller than it.
    #[error(
        "a latent of {height} x {width} is larger than this network's table of positions; neither side may exceed {largest}"
    )]
    Positions {
        /// Height of the latent.
        height: usize,
        /// Width of the latent.
        width: usize,
        /// Largest side of a latent that the table suffices for.
        largest: usize,
    },
}

/// How a patch learns where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatchPositions {
    /// Not at all.
    None,
    /// By the middle of a table, kept in the file, whose rows span the positions of `base` patches.
    Table {
        /// Rows and columns of the table.
        side: usize,
        /// Patches in a row of the pictures first trained on.
        base: usize,
    },
    /// By sines and cosines computed for the latent's own size, any size spanning the positions of `base` patches.
    Computed {
        /// Patches in a row of the pictures trained on.
        base: usize,
    },
}

/// Configuration of a [`PatchEmbedding`].
#[derive(Config, Debug)]
pub struct PatchEmbeddingConfig {
    /// Channels of the latent.
    pub in_channels: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Side of a patch.
    pub patch: usize,
    /// How a patch learns where it is.
    pub positions: PatchPositions,
    /// How the projection starts; PyTorch's default if not given.
    pub initializer: Option<Initializer>,
}

/// A latent as tokens; see the [module](self).
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    proj: Conv2d,
    /// `[1, side * side, channels]`; not trained.
    pos_embed: Option<Param<Tensor<3>>>,
    patch: usize,
    #[module(skip)]
    positions: PatchPositions,
}

impl PatchEmbeddingConfig {
    /// The projection on `device`; the table is computed when first used, unless a
    /// file gives it.
    #[must_use]
    pub fn init(&self, device: &Device) -> PatchEmbedding {
        let pos_embed = match self.positions {
            PatchPositions::None | PatchPositions::Computed { .. } => None,
            PatchPositions::Table { side, base } => {
                let shape = [1, side * side, self.channels];
                let width = self.channels;
                let table = move |device: &Device, _| {
                    sincos_2d(width, [side, side], base, device).reshape(shape).set_require_grad(false)
                };
                Some(Param::uninitialized(ParamId::new(), table, device.clone(), false, shape.into()))
            }
        };
        let sides = [self.patch, self.patch];
        let proj = Conv2dConfig::new([self.in_channels, self.channels], sides).with_stride(sides);
        let proj = match &self.initializer {
            Some(initializer) => proj.with_initializer(initializer.clone()),
            None => proj,
        };
        PatchEmbedding { proj: proj.init(device), pos_embed, patch: self.patch, positions: self.positions }
    }
}

impl PatchEmbedding {
    /// Rows and columns of patches in a latent of `[height, width]`.
    ///
    /// # Errors
    ///
    /// [`LatentSizeError`] if it has no whole number of them, or more than the table of positions.
    pub fn grid(&self, [height, width]: [usize; 2]) -> Result<[usize; 2], LatentSizeError> {
        let patch = self.patch;
        if [height, width].iter().any(|&side| side == 0 || !side.is_multiple_of(patch)) {
            return Err(LatentSizeError::Patches { height, width, patch });
        }
        match self.positions {
            PatchPositions::Table { side, .. } if height.max(width) > side * patch => {
                Err(LatentSizeError::Positions { height, width, largest: side * patch })
            }
            _ => Ok([height / patch, width / patch]),
        }
    }

    /// `[batch, in_channels, height, width]` to `[batch, rows * columns, channels]`, row by row.
    ///
    /// # Panics
    ///
    /// If the latent's sides are none that [`grid`](Self::grid) takes.
    #[must_use]
    pub fn forward(&self, latent: Tensor<4>) -> Tensor<3> {
        let [batch, _, height, width] = latent.dims();
        let grid = match self.grid([height, width]) {
            Ok(grid) => grid,
            Err(error) => panic!("{error}"),
        };
        let tokens = grid[0] * grid[1];
        let x = convolve(&self.proj, latent);
        let channels = x.dims()[1];
        let x: Tensor<3> = x.reshape([batch, channels, tokens]).swap_dims(1, 2);
        let table = match (self.positions, &self.pos_embed) {
            (PatchPositions::Table { side, .. }, Some(table)) => {
                centred(table.val().reshape([side, side, channels]), grid)
            }
            (PatchPositions::Computed { base }, _) => sincos_2d(channels, grid, base, &x.device()),
            _ => return x,
        };
        let table = table.reshape([1, tokens, channels]).cast(x.dtype());
        x + table
    }
}
