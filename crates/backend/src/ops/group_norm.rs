//! Group normalisation with an activation behind it.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::Activation;
use crate::FusedOps;

/// `act(w (x - mean) / √(var + eps) + b)`, with mean and (biased) variance over each of `groups` groups of
/// channels and all positions (Wu and He 2018, PyTorch's `group_norm`).
///
/// # Shapes
/// - `x`, output: `[batch, channels, ...]`
/// - `weight`, `bias`: `[channels]`
///
/// # Panics
/// If `channels` is no multiple of `groups`, or `weight` or `bias` has another length.
pub fn group_norm_act<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Tensor<D> {
    let shape = x.dims();
    assert!(D >= 2, "group_norm_act: the input has {D} axes, and needs [batch, channels, ...]");
    let channels = shape[1];
    assert!(
        groups > 0 && channels.is_multiple_of(groups),
        "group_norm_act: {channels} channels do not divide into {groups} groups (input {shape:?})"
    );
    assert!(
        weight.dims() == [channels] && bias.dims() == [channels],
        "group_norm_act: weight {:?} and bias {:?} must be [{channels}] for the input {shape:?}",
        weight.dims(),
        bias.dims()
    );
    Tensor::from_dispatch(<Dispatch as FusedOps>::group_norm_act(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        groups,
        eps,
        act,
    ))
}
