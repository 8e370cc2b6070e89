//! Derivatives of functions of tensors: of a number over a point, or of a tensor over a tensor.
//!
//! ```text
//! gradient                 ∇f(x)
//! partial derivative       ∂f/∂xᵢ = (∇f)ᵢ
//! directional derivative   D_v f(x) = ∇f(x) · v / |v|
//! steepest direction       ∇f / |∇f|, along which D f is largest, |∇f|
//! with F: Rⁿ → Rᵐ          J v, by central differences, or exactly in m backward passes;  u'J, exactly in one
//! Hessian-vector product   H v = (∇f(x + h v) - ∇f(x - h v)) / 2h
//! ```
//!
//! Gradients are Burn's autodiff, which is of the first order: second derivatives are differences of gradients. Computing
//! happens in the type of the tensor that is handed in, on its device, with or without autodiff; numbers are f64. Where a
//! central difference is taken, f32 leaves some three digits of it and f64 some ten: [`point`] is in f64, which backends on
//! the CPU have.
//!
//! f(x, y) = x² + y² at (1, 2) rises by 22/5 along (3, 4), and by 2 along (1, 0):
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_optim::calculus::{directional, gradient, numbers, partial, point, steepest};
//!
//! # fn main() -> Result<(), kiln_optim::calculus::CalculusError> {
//! let f = |p: Tensor<1>| p.square().sum();
//! let device = Device::flex();
//! let at = point(&[1.0, 2.0], &device);
//!
//! assert_eq!(directional(f, &at, &point(&[3.0, 4.0], &device))?, 22.0 / 5.0);
//! assert_eq!(directional(f, &at, &point(&[1.0, 0.0], &device))?, 2.0);
//!
//! assert_eq!(numbers(&gradient(f, &at)?), [2.0, 4.0]);
//! assert_eq!(partial(f, &at, [1])?, 4.0);
//! let steepest = steepest(f, &at)?;
//! assert!((steepest.slope - 20.0_f64.sqrt()).abs() < 1e-12); // along (1, 2) / √5
//! # Ok(())
//! # }
//! ```

mod check;
mod error;
mod first;
mod hessian;
mod jacobian;

use burn::tensor::{DType, Device, Tensor, TensorData};

pub use check::{GradientCheck, Mismatch, Tolerance, check_gradient, check_gradient_of};
pub use error::CalculusError;
pub use first::{Steepest, directional, gradient, partial, steepest, value_and_gradient};
pub use hessian::{hessian, hessian_vector};
pub use jacobian::{jacobian, jacobian_vector, jacobian_vector_exact, vector_jacobian};

/// A point in f64.
///
/// # Panics
///
/// Panics if the device has no f64.
#[must_use]
pub fn point(coordinates: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(coordinates.to_vec(), [coordinates.len()]), (device, DType::F64))
}

/// The values of a tensor as f64, in row-major order.
///
/// # Panics
///
/// Panics if the device fails while they are read.
#[must_use]
pub fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    // Scaled, so that no square overflows or vanishes.
    let largest = a.iter().fold(0.0_f64, |largest, a| largest.max(a.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * a.iter().map(|a| (a / largest).powi(2)).sum::<f64>().sqrt()
}

/// `tensor`, alone and without autodiff.
fn plain<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().without_autodiff()
}

/// `at` as a leaf whose gradient is kept.
fn leaf<const D: usize>(at: &Tensor<D>) -> Tensor<D> {
    plain(at).autodiff().require_grad()
}

/// `at + h along`.
fn moved<const D: usize>(at: &Tensor<D>, h: f64, along: &Tensor<D>) -> Tensor<D> {
    plain(at) + plain(along).mul_scalar(h)
}

/// The step of a central difference along `v` at `x`: the error of the difference is of order h², that of rounding of
/// order ε / h, so that h is the cube root of ε in units of |x| or 1, for |v| = 1.
fn step<const D: usize>(at: &Tensor<D>, along: &[f64]) -> f64 {
    let epsilon = match at.dtype() {
        DType::F64 => f64::EPSILON,
        DType::F16 => 9.8e-4,
        DType::BF16 => 7.8e-3,
        _ => f64::from(f32::EPSILON),
    };
    let largest = |values: &[f64]| values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    epsilon.cbrt() * largest(&numbers(at)).max(1.0) / largest(along)
}

fn same_shape<const D: usize>(
    what: &'static str,
    expected: &Tensor<D>,
    found: &Tensor<D>,
) -> Result<(), CalculusError> {
    if expected.dims() == found.dims() {
        return Ok(());
    }
    Err(CalculusError::Shape { what, expected: expected.dims().to_vec(), found: found.dims().to_vec() })
}

/// The values of a direction: not all 0, and all finite.
fn direction<const D: usize>(at: &Tensor<D>, v: &Tensor<D>) -> Result<Vec<f64>, CalculusError> {
    same_shape("direction", at, v)?;
    let values = numbers(v);
    if values.iter().any(|value| !value.is_finite()) {
        return Err(CalculusError::NotFinite { what: "direction" });
    }
    if values.iter().all(|&value| value == 0.0) {
        return Err(CalculusError::NoDirection);
    }
    Ok(values)
}
