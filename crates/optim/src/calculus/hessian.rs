//! Second derivatives, as differences of gradients: Burn's autodiff is of the first order.

use burn::tensor::{Tensor, TensorData};

use super::{CalculusError, direction, gradient, moved, numbers, plain, step};

/// H v at x, with H[i, j] = ∂²f/∂xᵢ∂xⱼ: (∇f(x + h v) - ∇f(x - h v)) / 2h, `[..]` as x, in two backward passes.
///
/// Exact but for rounding where f is quadratic; else the error is of order h² |v|³ of the fourth derivatives.
///
/// # Errors
///
/// [`CalculusError::Shape`] if v has not the shape of x, [`CalculusError::NoDirection`] for v = 0, and as
/// [`value_and_gradient`](super::value_and_gradient).
pub fn hessian_vector<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
    v: &Tensor<D>,
) -> Result<Tensor<D>, CalculusError> {
    let h = step(at, &direction(at, v)?);
    let ahead = gradient(&f, &moved(at, h, v))?;
    let behind = gradient(&f, &moved(at, -h, v))?;
    Ok((ahead - behind).div_scalar(2.0 * h))
}

/// H at x, `[n, n]` over the elements of x in row-major order, made symmetric: two backward passes a column.
///
/// # Errors
///
/// As [`hessian_vector`].
pub fn hessian<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
) -> Result<Tensor<2>, CalculusError> {
    let n = at.shape().num_elements();
    let (device, dtype) = (plain(at).device(), at.dtype());
    let mut columns = Vec::with_capacity(n * n);
    for i in 0..n {
        let mut unit = vec![0.0; n];
        unit[i] = 1.0;
        let unit = TensorData::new(unit, at.shape()).convert_dtype(dtype);
        columns.extend(numbers(&hessian_vector(&f, at, &Tensor::from_data(unit, (&device, dtype)))?));
    }
    let data = TensorData::new(columns, [n, n]).convert_dtype(dtype);
    let columns = Tensor::<2>::from_data(data, (&device, dtype));
    Ok((columns.clone() + columns.transpose()).div_scalar(2.0))
}
