//! A convolution module, run by the backend's kernel.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;
use kiln_backend::{ops, watch};

/// What `conv.forward(x)` computes, through [`ops::conv2d`].
pub fn convolve(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let padding = match conv.padding {
        PaddingConfig2d::Valid => [(0, 0), (0, 0)],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        // It depends on the picture, by a rule that Burn keeps to itself.
        PaddingConfig2d::Same => return conv.forward(x),
    };
    let options = ConvOptions::new_with_padding(conv.stride, padding, conv.dilation, conv.groups);
    let y = ops::conv2d(x, conv.weight.val(), conv.bias.as_ref().map(burn::module::Param::val), options);
    watch::layer(&conv.weight, &y);
    y
}
