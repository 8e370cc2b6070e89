//! Interpolation as what it is, two small matrices: y = R x Cᵗ.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, TensorData};

use crate::ops::Taps;

pub fn forward<B: Backend>(x: FloatTensor<B>, rows: &Taps, columns: &Taps) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let planes = batch * channels;
    // x Cᵗ as one matrix product over all rows of all planes, then R on each plane.
    let x = B::float_reshape(x, Shape::new([planes * height, width]));
    let x = apply_columns::<B>(x, columns);
    let x = B::float_reshape(x, Shape::new([planes, height, columns.outputs()]));
    let x = apply_rows::<B>(x, rows);
    B::float_reshape(x, Shape::new([batch, channels, rows.outputs(), columns.outputs()]))
}

fn apply_columns<B: Backend>(x: FloatTensor<B>, columns: &Taps) -> FloatTensor<B> {
    match columns.selection() {
        Some(indices) => select::<B>(x, 1, indices),
        None => {
            let matrix = dense::<B>(columns, &x);
            B::float_matmul(x, B::float_transpose(matrix))
        }
    }
}

fn apply_rows<B: Backend>(x: FloatTensor<B>, rows: &Taps) -> FloatTensor<B> {
    match rows.selection() {
        Some(indices) => select::<B>(x, 1, indices),
        None => {
            let planes = x.shape()[0];
            let shape = Shape::new([planes, rows.outputs(), rows.inputs()]);
            let matrix = dense::<B>(rows, &x);
            let matrix = B::float_reshape(matrix, Shape::new([1, rows.outputs(), rows.inputs()]));
            B::float_matmul(B::float_expand(matrix, shape), x)
        }
    }
}

/// Where every output copies one input (nearest), a selection is the whole product.
fn select<B: Backend>(x: FloatTensor<B>, dim: usize, indices: Vec<i64>) -> FloatTensor<B> {
    let device = x.device();
    let count = indices.len();
    let dtype = get_or_init_device_settings::<B>(&device).int_dtype;
    let indices = TensorData::new(indices, [count]).convert_dtype(dtype.into());
    B::float_select(x, dim, B::int_from_data(indices, &device))
}

fn dense<B: Backend>(taps: &Taps, like: &FloatTensor<B>) -> FloatTensor<B> {
    let data = TensorData::new(taps.dense(), [taps.outputs(), taps.inputs()]).convert_dtype(like.dtype());
    B::float_from_data(data, &like.device())
}
