//! Max unpooling as a scatter. Which of several inputs a scatter keeps is not said on every backend, so those that are not
//! kept are taken out before: they are found on the host.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Shape, TensorData, try_read_sync};

pub fn forward<B: Backend>(x: FloatTensor<B>, indices: IntTensor<B>, outputs: usize) -> FloatTensor<B> {
    let [batch, channels, _] = x.shape().dims();
    let (device, dtype) = (x.device(), x.dtype());
    let x = only_kept::<B>(x, &indices, outputs);
    let empty = B::float_zeros(Shape::new([batch, channels, outputs]), &device, dtype.into());
    B::float_scatter(2, empty, indices, x, IndexingUpdateOp::Add)
}

/// The gradient with respect to x.
pub fn backward<B: Backend>(grad: FloatTensor<B>, indices: &IntTensor<B>) -> FloatTensor<B> {
    let outputs = grad.shape()[2];
    only_kept::<B>(B::float_gather(2, grad, indices.clone()), indices, outputs)
}

/// 0 for inputs that a later one of their plane and index replaces.
fn only_kept<B: Backend>(x: FloatTensor<B>, indices: &IntTensor<B>, outputs: usize) -> FloatTensor<B> {
    let data = try_read_sync(B::int_into_data(indices.clone()))
        .expect("indices are read at once on every backend")
        .expect("the device gives back what it holds");
    match kept(&data, outputs) {
        None => x,
        Some(kept) => {
            let kept = TensorData::new(kept, x.shape()).convert_dtype(x.dtype());
            let kept = B::float_from_data(kept, &x.device());
            B::float_mul(x, kept)
        }
    }
}

/// 1 for each input that is the last of its index and 0 for the others, if there are others.
fn kept(indices: &TensorData, outputs: usize) -> Option<Vec<f32>> {
    let inputs = indices.shape()[2];
    let mut kept = vec![1.0_f32; indices.num_elements()];
    let mut repeated = false;
    let mut last = vec![usize::MAX; outputs];
    let indices: Vec<i64> = indices.iter::<i64>().collect();
    for (plane, indices) in indices.chunks_exact(inputs.max(1)).enumerate() {
        for (i, &index) in indices.iter().enumerate() {
            let here = plane * inputs + i;
            let before = std::mem::replace(&mut last[place(index, outputs)], here);
            // What is left of planes before this one is no repetition.
            if before != usize::MAX && before >= plane * inputs {
                kept[before] = 0.0;
                repeated = true;
            }
        }
    }
    repeated.then_some(kept)
}

/// The index as a place in a plane.
///
/// # Panics
/// If it is none.
#[inline(always)]
pub(crate) fn place(index: i64, outputs: usize) -> usize {
    if index.cast_unsigned() >= outputs as u64 {
        outside(index, outputs);
    }
    index as usize
}

#[cold]
#[inline(never)]
fn outside(index: i64, outputs: usize) -> ! {
    panic!("max unpooling: the index {index} in a plane of {outputs} values")
}
