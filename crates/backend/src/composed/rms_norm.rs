//! Normalisation by the root mean square.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{FloatDType, Shape};

pub fn forward<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, eps: f64) -> FloatTensor<B> {
    let (last, axes) = (x.shape()[x.shape().num_dims() - 1], x.shape().num_dims());
    let dtype = FloatDType::from(weight.dtype());
    // Squares of f16 would not fit into f16.
    let x = B::float_cast(x, FloatDType::F32);
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), axes - 1);
    let root = B::float_sqrt(B::float_add_scalar(mean, eps.into()));
    let mut shape = vec![1; axes];
    shape[axes - 1] = last;
    let weight = B::float_reshape(weight, Shape::from(shape));
    B::float_mul(B::float_cast(B::float_div(x, root), dtype), weight)
}
