//! Normalisation by the root mean square.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::FusedOps;

/// `w x / √(mean x² + eps)`, the mean over the last axis and computed in f32; the result is of the type of `weight`.
///
/// # Shapes
/// - `x`, output: `[..., channels]`
/// - `weight`: `[channels]`
///
/// # Panics
/// If `weight` has another length.
///
/// Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    let shape = x.dims();
    assert!(
        weight.dims() == [shape[D - 1]],
        "rms_norm: weight {:?} must be [{}] for the input {shape:?}",
        weight.dims(),
        shape[D - 1]
    );
    Tensor::from_dispatch(<Dispatch as FusedOps>::rms_norm(x.into_dispatch(), weight.into_dispatch(), eps))
}
