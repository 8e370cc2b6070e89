//! Interpolation as a separable linear map: each output row and column is a weighted sum of a few inputs.
//!
//! y = R x Cᵗ, with sparse `R` and `C` made on the host. So one operation and one kernel serve every mode, and
//! the gradient is the same operation with `Rᵗ` and `Cᵗ`.

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::FusedOps;

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterpolationMode {
    /// The input pixel floor(i · in / out), PyTorch's `nearest`.
    Nearest,
    /// Linear between the two neighbours, along each axis.
    Bilinear,
    /// Keys' cubic convolution with a = -0.75 over four neighbours, along each axis, as PyTorch's `bicubic`.
    Bicubic,
}

/// Which points of both grids coincide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlignCorners {
    /// The outer edges of the corner pixels (PyTorch's default).
    #[default]
    No,
    /// The centres of the corner pixels.
    Yes,
}

/// Options of [`interpolate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interpolation {
    /// How values between pixels are found.
    pub mode: InterpolationMode,
    /// Which points of both grids coincide; nearest does not look at it.
    pub align_corners: AlignCorners,
}

impl From<InterpolationMode> for Interpolation {
    fn from(mode: InterpolationMode) -> Self {
        Self { mode, align_corners: AlignCorners::No }
    }
}

/// A sparse matrix `[outputs, inputs]` that resamples one axis: for each output the inputs it reads, with weights.
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps(Arc<Rows>);

#[derive(Debug, PartialEq)]
struct Rows {
    inputs: usize,
    /// Output i owns `taps[starts[i]..starts[i + 1]]`.
    starts: Vec<usize>,
    taps: Vec<(u32, f32)>,
}

impl Taps {
    /// The matrix whose row i is `rows[i]`, a list of (input, weight).
    ///
    /// # Panics
    /// If an input is not below `inputs`.
    pub fn new(inputs: usize, rows: impl IntoIterator<Item = Vec<(usize, f32)>>) -> Self {
        let mut starts = vec![0];
        let mut taps = Vec::new();
        for row in rows {
            for (input, weight) in row {
                assert!(input < inputs, "Taps: input {input} of {inputs}");
                taps.push((input as u32, weight));
            }
            starts.push(taps.len());
        }
        Self(Arc::new(Rows { inputs, starts, taps }))
    }

    /// The matrix of `mode` from `inputs` to `outputs` pixels.
    pub fn interpolation(inputs: usize, outputs: usize, options: Interpolation) -> Self {
        let source = |i: usize| -> f64 {
            match options.align_corners {
                AlignCorners::Yes if outputs > 1 => i as f64 * (inputs - 1) as f64 / (outputs - 1) as f64,
                AlignCorners::Yes => 0.0,
                AlignCorners::No => (i as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5,
            }
        };
        let clamp = |j: i64| j.clamp(0, inputs as i64 - 1) as usize;
        Self::new(
            inputs,
            (0..outputs).map(|i| match options.mode {
                // In integers: what floor(i · in / out) means, without rounding.
                InterpolationMode::Nearest => vec![((i * inputs / outputs).min(inputs - 1), 1.0)],
                InterpolationMode::Bilinear => {
                    let x = source(i).max(0.0);
                    let (j, t) = (x.floor() as i64, x.fract());
                    vec![(clamp(j), (1.0 - t) as f32), (clamp(j + 1), t as f32)]
                }
                InterpolationMode::Bicubic => {
                    let x = source(i);
                    let (j, t) = (x.floor() as i64, x - x.floor());
                    (-1..=2).map(|k| (clamp(j + k), cubic(t - k as f64) as f32)).collect()
                }
            }),
        )
    }

    /// The number of inputs (columns of the matrix).
    pub fn inputs(&self) -> usize {
        self.0.inputs
    }

    /// The number of outputs (rows of the matrix).
    pub fn outputs(&self) -> usize {
        self.0.starts.len() - 1
    }

    /// What output `i` reads: (input, weight).
    pub fn row(&self, i: usize) -> &[(u32, f32)] {
        &self.0.taps[self.0.starts[i]..self.0.starts[i + 1]]
    }

    /// The transposed matrix, which carries gradients back.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let mut rows = vec![Vec::new(); self.inputs()];
        for i in 0..self.outputs() {
            for &(j, weight) in self.row(i) {
                rows[j as usize].push((i, weight));
            }
        }
        Self::new(self.outputs(), rows)
    }

    /// Where each output copies one input: which one. `None` for any other matrix.
    pub(crate) fn selection(&self) -> Option<Vec<i64>> {
        (0..self.outputs())
            .map(|i| match self.row(i) {
                [(input, 1.0)] => Some(i64::from(*input)),
                _ => None,
            })
            .collect()
    }

    /// The matrix in full, row by row.
    pub(crate) fn dense(&self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.outputs() * self.inputs()];
        for i in 0..self.outputs() {
            for &(j, weight) in self.row(i) {
                matrix[i * self.inputs() + j as usize] += weight;
            }
        }
        matrix
    }
}

/// Keys' cubic convolution kernel with a = -0.75, at distance `x`.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

/// Resizes pictures to `size` = `[height, width]`, as PyTorch's `interpolate` does without antialiasing.
/// Differentiable on every backend.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, size[0], size[1]]`
///
/// # Panics
/// If a height or width, old or new, is 0.
pub fn interpolate(x: Tensor<4>, size: [usize; 2], options: impl Into<Interpolation>) -> Tensor<4> {
    let options = options.into();
    let [_, _, height, width] = x.dims();
    assert!(
        [height, width, size[0], size[1]].iter().all(|&n| n > 0),
        "interpolate: from {height} x {width} to {} x {}",
        size[0],
        size[1]
    );
    resample(x, Taps::interpolation(height, size[0], options), Taps::interpolation(width, size[1], options))
}

/// y = R x Cᵗ on each plane, with R = `rows` and C = `columns`. Differentiable on every backend.
///
/// # Shapes
/// - `x`: `[batch, channels, rows.inputs(), columns.inputs()]`
/// - output: `[batch, channels, rows.outputs(), columns.outputs()]`
///
/// # Panics
/// If `x` has another height or width than the matrices take.
pub fn resample(x: Tensor<4>, rows: Taps, columns: Taps) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    assert!(
        height == rows.inputs() && width == columns.inputs(),
        "resample: a picture of {height} x {width} for matrices that take {} x {}",
        rows.inputs(),
        columns.inputs()
    );
    Tensor::from_dispatch(<Dispatch as FusedOps>::resample(x.into_dispatch(), rows, columns))
}
