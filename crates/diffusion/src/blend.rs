//! Two-term sums of tensors with scalar or per-sample coefficients: all the tensor arithmetic that the mathematics needs.

use burn::tensor::{Tensor, TensorData};

/// `a x + b y`. A term with coefficient 0 is left out, so that what it would multiply need not be finite.
pub(crate) fn blend<const D: usize>([a, b]: [f64; 2], x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    match (a == 0.0, b == 0.0) {
        (true, true) => x.zeros_like(),
        (true, false) => scale(b, y),
        (false, true) => scale(a, x),
        (false, false) => scale(a, x) + scale(b, y),
    }
}

/// `a x`, with nothing to do for 1.
pub(crate) fn scale<const D: usize>(a: f64, x: Tensor<D>) -> Tensor<D> {
    if a == 1.0 { x } else { x.mul_scalar(a) }
}

/// `a_i x_i + b_i y_i` for each row i of the batch.
///
/// # Panics
/// If the coefficients are not one pair a row.
pub(crate) fn blend_each<const D: usize>(coefficients: &[[f64; 2]], x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    let [a, b] = [0, 1].map(|which| {
        let values: Vec<f64> = coefficients.iter().map(|pair| pair[which]).collect();
        column(&values, &x)
    });
    x * a + y * b
}

/// One number a sample, shaped `[batch, 1, ...]` to broadcast against `like`, in its float type.
///
/// # Panics
/// If there is not one value a row of `like`.
pub(crate) fn column<const D: usize>(values: &[f64], like: &Tensor<D>) -> Tensor<D> {
    let batch = like.dims()[0];
    assert_eq!(values.len(), batch, "one value a sample: {} values for a batch of {batch}", values.len());
    let mut shape = [1; D];
    shape[0] = batch;
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&like.device(), like.dtype()))
}

/// `sum_i a_i x_i`. Terms with coefficient 0 are left out, so that what they would multiply need not be finite.
///
/// # Panics
/// If there is no term.
pub(crate) fn sum<const D: usize>(terms: impl IntoIterator<Item = (f64, Tensor<D>)>) -> Tensor<D> {
    let mut zero = None;
    let mut total: Option<Tensor<D>> = None;
    for (a, x) in terms {
        if a == 0.0 {
            zero.get_or_insert(x);
            continue;
        }
        let term = scale(a, x);
        total = Some(match total {
            Some(total) => total + term,
            None => term,
        });
    }
    total.unwrap_or_else(|| zero.expect("a sum of at least one term").zeros_like())
}
