//! The gradient, and what is read off it.

use burn::tensor::Tensor;

use super::{CalculusError, direction, dot, leaf, norm, numbers};

/// f(x) and ∇f(x).
///
/// `f` gives one number, as a tensor of one element. Where `f` does not depend on x, the gradient is 0.
///
/// # Errors
///
/// [`CalculusError::NotANumber`] if `f` gives more than one, [`CalculusError::NotFinite`] if its value or a coordinate of its
/// gradient is no finite number.
pub fn value_and_gradient<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
) -> Result<(f64, Tensor<D>), CalculusError> {
    let x = leaf(at);
    let value = f(x.clone());
    let found = value.shape().num_elements();
    if found != 1 {
        return Err(CalculusError::NotANumber { found });
    }
    let number = value.to_data().iter::<f64>().next().unwrap_or(f64::NAN);
    if !number.is_finite() {
        return Err(CalculusError::NotFinite { what: "value of the function" });
    }
    let gradient = if value.is_autodiff() && value.is_tracked() { x.grad(&value.backward()) } else { None };
    let gradient = gradient.unwrap_or_else(|| x.without_autodiff().zeros_like());
    if numbers(&gradient).iter().any(|value| !value.is_finite()) {
        return Err(CalculusError::NotFinite { what: "gradient" });
    }
    Ok((number, gradient))
}

/// ∇f(x), without autodiff.
///
/// # Errors
///
/// As [`value_and_gradient`].
pub fn gradient<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
) -> Result<Tensor<D>, CalculusError> {
    Ok(value_and_gradient(f, at)?.1)
}

/// ∂f/∂xᵢ at x, i being the index of a coordinate.
///
/// # Errors
///
/// [`CalculusError::Coordinate`] if `index` is not in the shape, and as [`value_and_gradient`].
pub fn partial<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
    index: [usize; D],
) -> Result<f64, CalculusError> {
    let shape = at.dims();
    if index.iter().zip(shape).any(|(&index, size)| index >= size) {
        return Err(CalculusError::Coordinate { index: index.to_vec(), shape: shape.to_vec() });
    }
    let place = index.iter().zip(shape).fold(0, |place, (index, size)| place * size + index);
    Ok(numbers(&gradient(f, at)?)[place])
}

/// D_v f(x) = ∇f(x) · v / |v|: how fast f rises along v, for each unit of length, whatever the length of v.
///
/// # Errors
///
/// [`CalculusError::NoDirection`] for v = 0, [`CalculusError::Shape`] if v has not the shape of x, and as
/// [`value_and_gradient`].
pub fn directional<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
    v: &Tensor<D>,
) -> Result<f64, CalculusError> {
    let v = direction(at, v)?;
    Ok(dot(&numbers(&gradient(f, at)?), &v) / norm(&v))
}

/// The direction in which a function rises fastest.
#[derive(Clone, Debug)]
pub struct Steepest<const D: usize> {
    /// ∇f / |∇f|, of length 1; down is the other way.
    pub direction: Tensor<D>,
    /// |∇f|, the directional derivative along it, which no other direction exceeds.
    pub slope: f64,
}

/// The direction in which f rises fastest at x, and how fast.
///
/// # Errors
///
/// [`CalculusError::Stationary`] where the gradient is 0, and as [`value_and_gradient`].
pub fn steepest<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
) -> Result<Steepest<D>, CalculusError> {
    let gradient = gradient(f, at)?;
    let slope = norm(&numbers(&gradient));
    if slope == 0.0 {
        return Err(CalculusError::Stationary);
    }
    Ok(Steepest { direction: gradient.div_scalar(slope), slope })
}
