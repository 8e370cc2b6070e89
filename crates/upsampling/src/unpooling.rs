//! What undoes pooling.
//!
//! ```text
//! max unpooling     y[index[i]] = x[i], 0 elsewhere       the places are those that max pooling found
//! bed of nails      y[factor i] = x[i], 0 elsewhere       the upper left pixel of each block
//! nearest           y[j] = x[floor(j / factor)]           all pixels of each block
//! ```
//!
//! None has parameters, and each is a copy; the first two leave zeros between pixels, which a convolution after them has to fill.
//! Zeiler and Fergus 2014 ("Visualizing and Understanding Convolutional Networks") for the first.

use std::fmt::Debug;

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use kiln_backend::ops::{Taps, max_unpool, resample};

use crate::nearest;

/// The inverse of max pooling over `S` axes, as far as there is one: PyTorch's `MaxUnpool1d`, `2d` and `3d`.
///
/// It has no parameters and costs a copy. Among the zeros its values stand as in a grid of dots, which what comes after has to
/// fill.
///
/// Where several inputs have one index, as overlapping windows give it, the last one in the input's order is kept: what
/// PyTorch computes on one thread. Here that holds on every backend, and only the input that was kept has a gradient: this
/// is the adjoint. (PyTorch hands the output's gradient to all inputs of that index.)
#[derive(Module, Debug)]
pub struct MaxUnpool<const S: usize> {
    kernel: [usize; S],
    stride: [usize; S],
    padding: [usize; S],
}

/// [`MaxUnpool`] of `[batch, channels, length]`.
pub type MaxUnpool1d = MaxUnpool<1>;
/// [`MaxUnpool`] of `[batch, channels, height, width]`.
pub type MaxUnpool2d = MaxUnpool<2>;
/// [`MaxUnpool`] of `[batch, channels, depth, height, width]`.
pub type MaxUnpool3d = MaxUnpool<3>;

impl<const S: usize> MaxUnpool<S> {
    /// For a pooling with windows of `kernel`, moved by as much, without padding.
    #[must_use]
    pub fn new(kernel: [usize; S]) -> Self {
        Self { kernel, stride: kernel, padding: [0; S] }
    }

    /// For windows that were moved by `stride`.
    #[must_use]
    pub fn with_stride(self, stride: [usize; S]) -> Self {
        Self { stride, ..self }
    }

    /// For a picture that was padded.
    #[must_use]
    pub fn with_padding(self, padding: [usize; S]) -> Self {
        Self { padding, ..self }
    }

    /// The values of `x` at the places `indices`, each counted from 0 within its plane, as max pooling gives them.
    ///
    /// The output's sides are `(side - 1) stride - 2 padding + kernel`, or `output_size` if it is given.
    ///
    /// # Shapes
    ///
    /// - `x`, `indices`: `[batch, channels, ...]` with `S` sides
    ///
    /// # Panics
    ///
    /// If a shape does not fit, `output_size` is a stride or more from the default, or an index lies outside the plane.
    #[must_use]
    pub fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        indices: Tensor<D, Int>,
        output_size: Option<[usize; S]>,
    ) -> Tensor<D> {
        let dims = x.dims();
        assert!(
            D == S + 2 && indices.dims() == dims,
            "max unpooling: {dims:?}, with indices {:?}",
            indices.dims()
        );
        let mut shape = dims;
        for axis in 0..S {
            let usual = ((dims[axis + 2] - 1) * self.stride[axis] + self.kernel[axis])
                .checked_sub(2 * self.padding[axis])
                .expect("max unpooling: more padding than picture");
            let side = output_size.map_or(usual, |size| size[axis]);
            assert!(
                side + self.stride[axis] > usual && side < usual + self.stride[axis],
                "max unpooling: a side of {side}, where {usual} is usual and the stride {}",
                self.stride[axis]
            );
            shape[axis + 2] = side;
        }
        let flat = [dims[0], dims[1], dims[2..].iter().product()];
        let outputs = shape[2..].iter().product();
        max_unpool(x.reshape(flat), indices.reshape(flat), outputs).reshape(shape)
    }
}

/// Zeros between the pixels: pixel `[y, x]` goes to `[factor y, factor x]`.
///
/// It has no parameters and costs a copy; the grid of dots that it makes is the plainest checkerboard.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, factor height, factor width]`
///
/// # Panics
///
/// If a factor is 0.
#[must_use]
pub fn bed_of_nails(x: Tensor<4>, factor: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let taps = |side: usize, factor: usize| {
        assert!(factor > 0, "bed of nails: a factor of 0");
        let row = |i: usize| if i.is_multiple_of(factor) { vec![(i / factor, 1.0)] } else { Vec::new() };
        Taps::new(side, (0..side * factor).map(row))
    };
    resample(x, taps(height, factor[0]), taps(width, factor[1]))
}

/// Each pixel repeated over a block of `factor`. It has no parameters, costs a copy, and shows no checkerboard.
///
/// # Panics
///
/// If a side or a factor is 0.
#[must_use]
pub fn nearest_unpool(x: Tensor<4>, factor: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    nearest(x, [height * factor[0], width * factor[1]])
}
