//! Group normalisation with its activation: a group of one sample lies in one piece, so one thread takes it
//! through mean, variance and output while it is in the cache.

use burn::backend::TensorMetadata;
use rayon::prelude::*;

use super::activation::{with_activation, with_derivative};
use super::{FlexTensor, contiguous, fresh, math, tensor, values, vectorised};
use crate::ops::Activation;

/// How `[batch, channels, positions]` divides into groups.
#[derive(Clone, Copy)]
struct Layout {
    channels: usize,
    groups: usize,
    positions: usize,
}

impl Layout {
    fn of(shape: &[usize], groups: usize) -> Self {
        Self { channels: shape[1], groups, positions: shape[2..].iter().product() }
    }

    fn channels_per_group(&self) -> usize {
        self.channels / self.groups
    }

    fn group_len(&self) -> usize {
        self.channels_per_group() * self.positions
    }

    /// The first channel of the `index`-th group, counted over all samples.
    fn first_channel(&self, index: usize) -> usize {
        index % self.groups * self.channels_per_group()
    }
}

/// Mean and 1 / √(variance + eps) of a group, in two passes.
#[inline(always)]
fn moments(x: &[f32], eps: f64) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = math::sum(x, |v| v) / n;
    let variance = math::sum(x, |v| (v - mean) * (v - mean)) / n;
    (mean, 1.0 / (variance + eps as f32).sqrt())
}

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> FlexTensor {
    let layout = Layout::of(&x.shape().to_vec(), groups);
    let (weight, bias) = (contiguous(weight), contiguous(bias));
    let (weight, bias) = (values(&weight), values(&bias));
    if layout.group_len() == 0 {
        return x;
    }
    let mut x = contiguous(x);
    let norm = |index: usize, group: &mut [f32]| {
        let first = layout.first_channel(index);
        with_activation!(act, f => vectorised(
            #[inline(always)]
            || {
                let (mean, inverse) = moments(group, eps);
                for (c, channel) in group.chunks_exact_mut(layout.positions).enumerate() {
                    let scale = weight[first + c] * inverse;
                    let shift = bias[first + c] - mean * scale;
                    for v in channel.iter_mut() {
                        *v = f(v.mul_add(scale, shift));
                    }
                }
            }
        ));
    };
    let length = layout.group_len();
    if x.is_unique() {
        let groups = x.storage_mut::<f32>().par_chunks_mut(length).enumerate();
        groups.for_each(|(index, group)| norm(index, group));
        return x;
    }
    let shape = x.shape().to_vec();
    let x = values(&x);
    let normed = fresh::pieces(x.len() / length, length, |index, group| {
        group.copy_from_slice(&x[index * length..][..length]);
        norm(index, group);
    });
    tensor(normed, shape)
}

pub(super) fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    grad: FlexTensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let shape = x.shape().to_vec();
    let layout = Layout::of(&shape, groups);
    let [x, weight, bias, grad] = [x, weight, bias, grad].map(contiguous);
    let (x, weight, bias, grad) = (values(&x), values(&weight), values(&bias), values(&grad));
    let per_group = layout.channels_per_group();
    let mut dx = fresh::zeros(x.len());
    // ∂w and ∂b of each group of each sample; summed over samples afterwards, in order, so that the result does
    // not depend on which thread was first.
    let mut partial = vec![[0.0_f32; 2]; x.len() / layout.positions.max(1)];
    if !x.is_empty() {
        dx.par_chunks_mut(layout.group_len())
            .zip(partial.par_chunks_mut(per_group))
            .zip(x.par_chunks(layout.group_len()))
            .zip(grad.par_chunks(layout.group_len()))
            .enumerate()
            .for_each(|(index, (((dx, partial), x), grad))| {
                let first = layout.first_channel(index);
                let affine = (&weight[first..first + per_group], &bias[first..first + per_group]);
                with_derivative!(act, derivative => vectorised(
                    #[inline(always)]
                    || group_backward(x, grad, affine, eps, derivative, dx, partial)
                ));
            });
    }
    let mut d_weight = vec![0.0; layout.channels];
    let mut d_bias = vec![0.0; layout.channels];
    for sample in partial.chunks_exact(layout.channels) {
        for (c, [dw, db]) in sample.iter().enumerate() {
            d_weight[c] += dw;
            d_bias[c] += db;
        }
    }
    (tensor(dx, shape), tensor(d_weight, [layout.channels]), tensor(d_bias, [layout.channels]))
}

/// One group: fills `dx` and the channels' (∂w, ∂b). The formula stands at the composed definition.
#[inline(always)]
fn group_backward(
    x: &[f32],
    grad: &[f32],
    (weight, bias): (&[f32], &[f32]),
    eps: f64,
    derivative: impl Fn(f32) -> f32,
    dx: &mut [f32],
    partial: &mut [[f32; 2]],
) {
    let n = x.len() as f32;
    let positions = x.len() / weight.len();
    let (mean, inverse) = moments(x, eps);
    let (mut total, mut projection) = (0.0, 0.0);
    let channels =
        x.chunks_exact(positions).zip(grad.chunks_exact(positions)).zip(dx.chunks_exact_mut(positions));
    for (c, ((x, grad), dx)) in channels.enumerate() {
        let scale = weight[c] * inverse;
        let shift = bias[c] - mean * scale;
        // dx holds ∂z for now.
        for ((dz, &x), &grad) in dx.iter_mut().zip(x).zip(grad) {
            *dz = grad * derivative(x.mul_add(scale, shift));
        }
        let db = math::sum(dx, |v| v);
        let dw = math::sum2(dx, x, |dz, x| dz * (x - mean)) * inverse;
        partial[c] = [dw, db];
        total += weight[c] * db;
        projection += weight[c] * dw;
    }
    let (total, projection) = (total / n, projection / n);
    for (c, (x, dx)) in x.chunks_exact(positions).zip(dx.chunks_exact_mut(positions)).enumerate() {
        for (d, &x) in dx.iter_mut().zip(x) {
            *d = inverse * (weight[c] * *d - total - (x - mean) * inverse * projection);
        }
    }
}
