//! Transposed convolution, as Burn's backends have it.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;
use burn::tensor::ops::ConvTransposeOptions;

use super::conv::plain;
use crate::Bias;

pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Bias<B>,
    options: ConvTransposeOptions<2>,
) -> FloatTensor<B> {
    let bias = match bias {
        Bias::None => None,
        Bias::PerChannel(bias) => Some(bias),
    };
    plain::<B>(B::conv_transpose2d(x, weight, bias, options))
}

/// The gradients with respect to x, weight and bias.
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    options: ConvTransposeOptions<2>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let channels = grad.shape()[1];
    let sum = B::float_sum_dim(B::float_sum_dim(B::float_sum_dim(grad.clone(), 3), 2), 0);
    let d_bias = B::float_reshape(sum, Shape::new([channels]));
    let dx = plain::<B>(B::conv_transpose2d_x_backward(weight.clone(), grad.clone(), options.clone()));
    (dx, B::conv_transpose2d_weight_backward(x, weight, grad, options), d_bias)
}
