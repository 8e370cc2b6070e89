//! Convolution, as Burn's backends have it.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;

use crate::Bias;

pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Bias<B>,
    options: ConvOptions<2>,
) -> FloatTensor<B> {
    let weight = widened::<B>(weight, &x);
    let bias = match bias {
        Bias::None => None,
        Bias::PerChannel(bias) => Some(bias),
    };
    plain::<B>(B::conv2d(x, weight, bias, options))
}

/// A weight in the type of `x`.
pub(crate) fn widened<B: Backend>(weight: FloatTensor<B>, x: &FloatTensor<B>) -> FloatTensor<B> {
    let (of_weight, of_x) = (weight.dtype(), x.dtype());
    if of_weight == of_x { weight } else { B::float_cast(weight, of_x.into()) }
}

/// On CubeCL backends a convolution gives a view of `[batch, height, width, channels]`. Where it has one channel, Burn
/// 0.22.1's fusion mistakes that view for a contiguous tensor and computes wrong values with it, without an error;
/// through a flat shape it becomes one.
pub(super) fn plain<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    if shape[1] != 1 {
        return x;
    }
    let flat = Shape::new([shape[0], shape[2] * shape[3]]);
    B::float_reshape(B::float_reshape(x, flat), shape)
}

/// The gradients with respect to x, weight and bias.
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    options: ConvOptions<2>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let channels = weight.shape()[0];
    let sum = B::float_sum_dim(B::float_sum_dim(B::float_sum_dim(grad.clone(), 3), 2), 0);
    let d_bias = B::float_reshape(sum, Shape::new([channels]));
    let dx = plain::<B>(B::conv2d_x_backward(x.clone(), weight.clone(), grad.clone(), options.clone()));
    (dx, B::conv2d_weight_backward(x, weight, grad, options), d_bias)
}
