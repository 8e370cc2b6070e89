//! Convolution, as Burn's backends have it.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::ops::ConvOptions;

use crate::Bias;

pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Bias<B>,
    options: ConvOptions<2>,
) -> FloatTensor<B> {
    let bias = match bias {
        Bias::None => None,
        Bias::PerChannel(bias) => Some(bias),
    };
    B::conv2d(x, weight, bias, options)
}

/// The gradients with respect to x, weight and bias.
pub fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    options: ConvOptions<2>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let channels = burn::backend::TensorMetadata::shape(&weight)[0];
    let sum = B::float_sum_dim(B::float_sum_dim(B::float_sum_dim(grad.clone(), 3), 2), 0);
    let d_bias = B::float_reshape(sum, burn::tensor::Shape::new([channels]));
    let dx = B::conv2d_x_backward(x.clone(), weight.clone(), grad.clone(), options.clone());
    (dx, B::conv2d_weight_backward(x, weight, grad, options), d_bias)
}
