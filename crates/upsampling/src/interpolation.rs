//! Interpolation between pixels, with PyTorch's options and numbers.

use burn::module::Module;
use burn::tensor::Tensor;
use kiln_backend::ops::{self, AlignCorners, Interpolation, InterpolationMode, Taps, interpolate};
use serde::{Deserialize, Serialize};

use crate::axis::Axis;

/// How large a picture becomes, along each of `S` axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<const S: usize = 2> {
    /// Pixels (PyTorch: `size`).
    Size([usize; S]),
    /// So many times what it was, rounded down (PyTorch: `scale_factor`). Positions follow the factor, not the rounded size.
    Factor([f64; S]),
}

/// How values between pixels are found, under PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The pixel floor(i · scale).
    Nearest,
    /// The pixel whose area the output's centre is in, floor((i + 1/2) · scale).
    NearestExact,
    /// Between the two neighbours, on one axis.
    Linear,
    /// The same on two axes.
    Bilinear,
    /// The same on three axes.
    Trilinear,
    /// Cubic convolution over four neighbours (a = -0.75; antialiased a = -0.5, as PIL), on two axes.
    Bicubic,
    /// Windowed sinc over six neighbours, on two axes. PyTorch has it antialiased only.
    Lanczos,
}

/// Whether the kernel is stretched where a picture shrinks, and weights are as PIL has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Antialias {
    /// Neighbours only; what lies between them is not looked at.
    #[default]
    No,
    /// As PIL: every pixel under an output counts.
    Yes,
}

/// Interpolation as a layer on `S` axes: PyTorch's `torch.nn.Upsample`. It has no parameters, costs a few multiplications
/// an output and axis (a copy, if nearest), and shows no checkerboard: a constant picture stays one.
#[derive(Module, Debug)]
pub struct Upsample<const S: usize = 2> {
    #[module(skip)]
    target: Target<S>,
    #[module(skip)]
    mode: Mode,
    #[module(skip)]
    corners: AlignCorners,
    #[module(skip)]
    antialias: Antialias,
}

/// PyTorch's `UpsamplingNearest2d`.
#[must_use]
pub fn upsampling_nearest_2d(target: Target) -> Upsample {
    Upsample::new(target, Mode::Nearest)
}

/// PyTorch's `UpsamplingBilinear2d`: its corners are aligned.
#[must_use]
pub fn upsampling_bilinear_2d(target: Target) -> Upsample {
    Upsample::new(target, Mode::Bilinear).with_align_corners(AlignCorners::Yes)
}

impl<const S: usize> Upsample<S> {
    /// The layer for a target, with corners not aligned and no antialiasing.
    ///
    /// # Panics
    ///
    /// If the mode is none of `S` axes: linear has one, bilinear, bicubic and Lanczos two, trilinear three.
    #[must_use]
    pub fn new(target: Target<S>, mode: Mode) -> Self {
        let axes = match mode {
            Mode::Nearest | Mode::NearestExact => S.clamp(1, 3),
            Mode::Linear => 1,
            Mode::Bilinear | Mode::Bicubic | Mode::Lanczos => 2,
            Mode::Trilinear => 3,
        };
        assert!(S == axes, "Upsample: {mode:?} on {S} axes");
        Self { target, mode, corners: AlignCorners::No, antialias: Antialias::No }
    }

    /// Which points of both grids coincide; nearest does not look at it.
    #[must_use]
    pub fn with_align_corners(self, corners: AlignCorners) -> Self {
        Self { corners, ..self }
    }

    /// Whether kernels are stretched; nearest does not look at it.
    #[must_use]
    pub fn with_antialias(self, antialias: Antialias) -> Self {
        Self { antialias, ..self }
    }

    /// `[batch, channels, ...]` with `S` sides, to the target's sides.
    ///
    /// # Panics
    ///
    /// If `x` has not `S` sides, or a side, old or new, is 0.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dims = x.dims();
        assert!(D == S + 2, "Upsample on {S} axes: an input of shape {dims:?}");
        let taps: Vec<Taps> = (0..S).map(|axis| self.axis(axis, dims[axis + 2]).taps()).collect();
        let mut shape = dims;
        for (side, taps) in shape[2..].iter_mut().zip(&taps) {
            *side = taps.outputs();
        }
        let planes = dims[0] * dims[1];
        let whole = |side: usize| Taps::new(side, (0..side).map(|i| vec![(i, 1.0)]));
        let y = match taps.as_slice() {
            [columns] => {
                let x = x.reshape([1, 1, planes, dims[2]]);
                ops::resample(x, whole(planes), columns.clone())
            }
            [rows, columns] => {
                let x = x.reshape([1, planes, dims[2], dims[3]]);
                ops::resample(x, rows.clone(), columns.clone())
            }
            [layers, rows, columns] => {
                let x = x.reshape([1, planes * dims[2], dims[3], dims[4]]);
                let x = ops::resample(x, rows.clone(), columns.clone());
                let area = rows.outputs() * columns.outputs();
                ops::resample(x.reshape([1, planes, dims[2], area]), layers.clone(), whole(area))
            }
            _ => unreachable!("one to three axes"),
        };
        y.reshape(shape)
    }

    fn axis(&self, axis: usize, inputs: usize) -> Axis {
        let (outputs, factor) = match self.target {
            Target::Size(size) => (size[axis], None),
            Target::Factor(factor) => ((inputs as f64 * factor[axis]).floor() as usize, Some(factor[axis])),
        };
        assert!(inputs > 0 && outputs > 0, "Upsample: from {inputs} pixels to {outputs}");
        let Self { mode, corners, antialias, .. } = *self;
        // PyTorch's Lanczos looks at no corners.
        let corners = match mode {
            Mode::Nearest | Mode::NearestExact | Mode::Lanczos => AlignCorners::No,
            Mode::Linear | Mode::Bilinear | Mode::Trilinear | Mode::Bicubic => corners,
        };
        Axis { inputs, outputs, factor, mode, corners, antialias }
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
