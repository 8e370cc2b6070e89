//! Interpolation between pixels, with PyTorch's options and numbers.

use burn::module::Module;
use burn::tensor::Tensor;
use kiln_backend::ops::{AlignCorners, Interpolation, InterpolationMode, interpolate};

/// How large a picture becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Height and width in pixels.
    Size([usize; 2]),
    /// So many times its height and width.
    Factor([usize; 2]),
}

/// Interpolation as a layer (PyTorch: `torch.nn.Upsample` on pictures). It has no parameters.
#[derive(Module, Debug)]
pub struct Upsample {
    #[module(skip)]
    target: Target,
    #[module(skip)]
    interpolation: Interpolation,
}

impl Upsample {
    /// The layer for a target; a mode alone stands for `align_corners` = false.
    #[must_use]
    pub fn new(target: Target, interpolation: impl Into<Interpolation>) -> Self {
        Self { target, interpolation: interpolation.into() }
    }

    /// `[batch, channels, height, width]` to the target's sides.
    ///
    /// # Panics
    ///
    /// If a side, old or new, is 0.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let size = match self.target {
            Target::Size(size) => size,
            Target::Factor([rows, columns]) => [rows * height, columns * width],
        };
        interpolate(x, size, self.interpolation)
    }
}

/// Resize by repeating or leaving out pixels, `[batch, channels, height, width]` to the sides `size`: output `i` is input
/// `floor(i in / out)` (PyTorch: `nearest`).
///
/// # Panics
///
/// If a side, old or new, is 0.
#[must_use]
pub fn nearest(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    interpolate(x, size, Interpolation { mode: InterpolationMode::Nearest, align_corners: AlignCorners::No })
}
