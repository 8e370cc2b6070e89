//! Group normalisation with an activation behind it.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::activation;
use crate::ops::Activation;

/// x as `[batch, groups, values]`, normalised, together with 1 / σ of each group.
fn normalise<B: Backend>(x: FloatTensor<B>, groups: usize, eps: f64) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let values = shape.num_elements() / (shape[0] * groups);
    let x = B::float_reshape(x, Shape::new([shape[0], groups, values]));
    let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 2));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 2);
    let inverse = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, eps.into())));
    (B::float_mul(centred, inverse.clone()), inverse)
}

/// One value a channel, shaped to broadcast over `[batch, channels, positions]`.
fn per_channel<B: Backend>(v: FloatTensor<B>) -> FloatTensor<B> {
    let channels = v.shape()[0];
    B::float_reshape(v, Shape::new([1, channels, 1]))
}

pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    groups: usize,
    eps: f64,
    act: Activation,
) -> FloatTensor<B> {
    let shape = x.shape();
    let positions = shape.num_elements() / (shape[0] * shape[1]);
    let (normal, _) = normalise::<B>(x, groups, eps);
    let normal = B::float_reshape(normal, Shape::new([shape[0], shape[1], positions]));
    let affine = B::float_add(B::float_mul(normal, per_channel::<B>(weight)), per_channel::<B>(bias));
    activation::forward::<B>(B::float_reshape(affine, shape), act)
}

/// With n the normalised values and z = w n + b: ∂b = Σ ∂z, ∂w = Σ ∂z n, and
/// ∂x = (∂n - mean ∂n - n mean(∂n n)) / σ, where ∂n = w ∂z and the means are over a group.
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    grad: FloatTensor<B>,
    groups: usize,
    eps: f64,
    act: Activation,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let (batch, channels) = (shape[0], shape[1]);
    let by_channel = Shape::new([batch, channels, shape.num_elements() / (batch * channels)]);
    let by_group = Shape::new([batch, groups, shape.num_elements() / (batch * groups)]);

    let (normal, inverse) = normalise::<B>(x, groups, eps);
    let normal = B::float_reshape(normal, by_channel.clone());
    let weight = per_channel::<B>(weight);
    let grad = B::float_reshape(grad, by_channel);
    let z = B::float_add(B::float_mul(normal.clone(), weight.clone()), per_channel::<B>(bias));
    let dz = activation::backward::<B>(z, grad, act);

    let sum = |t: FloatTensor<B>| {
        B::float_reshape(B::float_sum_dim(B::float_sum_dim(t, 2), 0), Shape::new([channels]))
    };
    let d_bias = sum(dz.clone());
    let d_weight = sum(B::float_mul(dz.clone(), normal.clone()));

    let normal = B::float_reshape(normal, by_group.clone());
    let dn = B::float_reshape(B::float_mul(dz, weight), by_group);
    let mean = B::float_mean_dim(dn.clone(), 2);
    let projection = B::float_mean_dim(B::float_mul(dn.clone(), normal.clone()), 2);
    let dx = B::float_sub(B::float_sub(dn, mean), B::float_mul(normal, projection));
    (B::float_reshape(B::float_mul(dx, inverse), shape), d_weight, d_bias)
}
