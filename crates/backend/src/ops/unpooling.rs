//! What undoes max pooling: values go back to where they were found.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::FusedOps;

/// `y[indices[i]] = x[i]`, 0 elsewhere, in each plane for itself. Of inputs of one index the last is kept, and it alone has
/// a gradient.
///
/// # Shapes
/// - `x`, `indices`: `[batch, channels, inputs]`
/// - output: `[batch, channels, outputs]`
///
/// # Panics
/// If the shapes differ, or an index is below 0 or not below `outputs`.
pub fn max_unpool(x: Tensor<3>, indices: Tensor<3, Int>, outputs: usize) -> Tensor<3> {
    assert!(x.dims() == indices.dims(), "max unpooling: {:?}, with indices {:?}", x.dims(), indices.dims());
    Tensor::from_dispatch(<Dispatch as FusedOps>::max_unpool(
        x.into_dispatch(),
        indices.into_dispatch(),
        outputs,
    ))
}
