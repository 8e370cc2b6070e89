//! Products with the Jacobian J of F: Rⁿ → Rᵐ, J[i, j] = ∂Fᵢ/∂xⱼ.
//!
//! Reverse mode gives u'J in one backward pass. J v would need forward mode, which Burn has not: it is a difference of two
//! values, or exact in m backward passes.

use burn::tensor::{DType, Tensor, TensorData};

use super::{CalculusError, direction, dot, leaf, moved, numbers, plain, same_shape, step};

/// u'J at x: the gradient of u · F, `[..]` as x. Exact, in one backward pass.
///
/// # Errors
///
/// [`CalculusError::Shape`] if u has not the shape of F(x).
pub fn vector_jacobian<const D: usize, const E: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<E>,
    at: &Tensor<D>,
    u: &Tensor<E>,
) -> Result<Tensor<D>, CalculusError> {
    let x = leaf(at);
    let value = f(x.clone());
    same_shape("vector on the left", &value, u)?;
    let number = (value * plain(u).autodiff()).sum();
    let gradient = if number.is_tracked() { x.grad(&number.backward()) } else { None };
    Ok(gradient.unwrap_or_else(|| x.without_autodiff().zeros_like()))
}

/// J v at x, `[..]` as F(x), by a central difference: (F(x + h v) - F(x - h v)) / 2h, in two evaluations of F.
///
/// # Errors
///
/// [`CalculusError::Shape`] if v has not the shape of x; [`CalculusError::NoDirection`] for v = 0.
pub fn jacobian_vector<const D: usize, const E: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<E>,
    at: &Tensor<D>,
    v: &Tensor<D>,
) -> Result<Tensor<E>, CalculusError> {
    let h = step(at, &direction(at, v)?);
    let (ahead, behind) = (f(moved(at, h, v)), f(moved(at, -h, v)));
    Ok((plain(&ahead) - plain(&behind)).div_scalar(2.0 * h))
}

/// J v at x, `[..]` as F(x), exactly: a backward pass for each element of F(x), of which this has to be few.
///
/// # Errors
///
/// As [`jacobian_vector`].
pub fn jacobian_vector_exact<const D: usize, const E: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<E>,
    at: &Tensor<D>,
    v: &Tensor<D>,
) -> Result<Tensor<E>, CalculusError> {
    let v = direction(at, v)?;
    let value = plain(&f(plain(at)));
    let products = rows(&f, at, &value)?.iter().map(|row| dot(row, &v)).collect::<Vec<_>>();
    let (device, dtype) = (value.device(), value.dtype());
    let data = TensorData::new(products, value.shape()).convert_dtype(dtype);
    Ok(Tensor::from_data(data, (&device, dtype)))
}

/// J at x, `[m, n]` over the elements of F(x) and of x in row-major order. A backward pass a row.
///
/// # Errors
///
/// None of its own; those of [`vector_jacobian`].
pub fn jacobian<const D: usize, const E: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<E>,
    at: &Tensor<D>,
) -> Result<Tensor<2>, CalculusError> {
    let value = plain(&f(plain(at)));
    let rows = rows(&f, at, &value)?;
    let shape = [rows.len(), at.shape().num_elements()];
    let (device, dtype): (_, DType) = (value.device(), value.dtype());
    Ok(Tensor::from_data(TensorData::new(rows.concat(), shape).convert_dtype(dtype), (&device, dtype)))
}

fn rows<const D: usize, const E: usize>(
    f: &impl Fn(Tensor<D>) -> Tensor<E>,
    at: &Tensor<D>,
    value: &Tensor<E>,
) -> Result<Vec<Vec<f64>>, CalculusError> {
    let elements = value.shape().num_elements();
    let row = |i: usize| {
        let mut unit = vec![0.0; elements];
        unit[i] = 1.0;
        let dtype = value.dtype();
        let unit = TensorData::new(unit, value.shape()).convert_dtype(dtype);
        let unit = Tensor::from_data(unit, (&value.device(), dtype));
        Ok(numbers(&vector_jacobian(f, at, &unit)?))
    };
    (0..elements).map(row).collect()
}
