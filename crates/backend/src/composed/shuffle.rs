//! Pixel shuffle as a permutation of axes.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

pub fn forward<B: Backend>(x: FloatTensor<B>, factor: usize) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let channels = channels / (factor * factor);
    let x = B::float_reshape(x, Shape::new([batch, channels, factor, factor, height, width]));
    let x = B::float_permute(x, &[0, 1, 4, 2, 5, 3]);
    B::float_reshape(x, Shape::new([batch, channels, factor * height, factor * width]))
}

pub fn backward<B: Backend>(x: FloatTensor<B>, factor: usize) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let (height, width) = (height / factor, width / factor);
    let x = B::float_reshape(x, Shape::new([batch, channels, height, factor, width, factor]));
    let x = B::float_permute(x, &[0, 1, 3, 5, 2, 4]);
    B::float_reshape(x, Shape::new([batch, channels * factor * factor, height, width]))
}
