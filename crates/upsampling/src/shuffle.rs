//! Channels become pixels, and back (Shi et al. 2016, arXiv 1609.05158): PyTorch's `PixelShuffle` and `PixelUnshuffle`, run by
//! the backend's operation.
//!
//! ```text
//! y[c, r i + a, r j + b] = x[c r² + r a + b, i, j]
//! ```
//!
//! Neither has parameters; each is a copy. A convolution before the shuffle shows a checkerboard while the filters of a block
//! differ by chance, as they do at the start: [`icnr_convolution`](crate::icnr_convolution) begins without.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use kiln_backend::ops;

/// Configuration of a [`PixelShuffle`].
#[derive(Config, Debug)]
pub struct PixelShuffleConfig {
    /// How many times larger the picture becomes.
    pub upscale_factor: usize,
}

/// Pixel shuffle: depth to space.
#[derive(Module, Debug)]
pub struct PixelShuffle {
    /// How many times larger the picture becomes.
    pub upscale_factor: usize,
}

impl PixelShuffleConfig {
    /// The layer.
    #[must_use]
    pub fn init(&self) -> PixelShuffle {
        PixelShuffle { upscale_factor: self.upscale_factor }
    }
}

impl PixelShuffle {
    /// `[batch, channels factor², height, width]` to `[batch, channels, factor height, factor width]`.
    ///
    /// # Panics
    ///
    /// If the factor is 0, or its square does not divide the channels.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::pixel_shuffle(x, self.upscale_factor)
    }
}

/// Configuration of a [`PixelUnshuffle`].
#[derive(Config, Debug)]
pub struct PixelUnshuffleConfig {
    /// How many times smaller the picture becomes.
    pub downscale_factor: usize,
}

/// The inverse of [`PixelShuffle`]: space to depth.
#[derive(Module, Debug)]
pub struct PixelUnshuffle {
    /// How many times smaller the picture becomes.
    pub downscale_factor: usize,
}

impl PixelUnshuffleConfig {
    /// The layer.
    #[must_use]
    pub fn init(&self) -> PixelUnshuffle {
        PixelUnshuffle { downscale_factor: self.downscale_factor }
    }
}

impl PixelUnshuffle {
    /// `[batch, channels, factor height, factor width]` to `[batch, channels factor², height, width]`.
    ///
    /// # Panics
    ///
    /// If the factor is 0, or does not divide both sides.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::pixel_unshuffle(x, self.downscale_factor)
    }
}
