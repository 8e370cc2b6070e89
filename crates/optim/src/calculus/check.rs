//! A gradient held to central differences, coordinate by coordinate.

use std::fmt;

use burn::tensor::{Tensor, TensorData};

use super::{CalculusError, gradient, moved, numbers, plain, same_shape, step};

/// What is let pass: |g - d| ≤ absolute + relative · max(|g|, |d|), with g the gradient and d the difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// In units of the function over those of the coordinate.
    pub absolute: f64,
    /// A share.
    pub relative: f64,
}

impl Tolerance {
    /// For f64: 1e-7 and 1e-6.
    pub const F64: Self = Self { absolute: 1e-7, relative: 1e-6 };
    /// For f32, whose differences have three digits: 5e-3 and 1e-2.
    pub const F32: Self = Self { absolute: 5e-3, relative: 1e-2 };
}

/// A coordinate at which the gradient is not what the function's values say.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The coordinate's index.
    pub index: Vec<usize>,
    /// The gradient there.
    pub gradient: f64,
    /// The central difference there.
    pub difference: f64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at {:?} the gradient is {:.6e}, and differences say {:.6e}",
            self.index, self.gradient, self.difference
        )
    }
}

/// What a check of a gradient found.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientCheck {
    /// How many coordinates were checked: all.
    pub checked: usize,
    /// Those that fail, the worst first.
    pub failures: Vec<Mismatch>,
    /// The largest |g - d|, where it is, failed or not; `None` for a point without coordinates.
    pub worst: Option<Mismatch>,
}

impl GradientCheck {
    /// Whether every coordinate is within the tolerance.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for GradientCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} coordinates fail", self.failures.len(), self.checked)?;
        self.failures.iter().take(3).try_for_each(|mismatch| write!(f, "; {mismatch}"))
    }
}

/// Holds the gradient that autodiff computes of `f` at x to central differences of its values, two evaluations a coordinate.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_optim::calculus::{Tolerance, check_gradient, check_gradient_of, point};
///
/// # fn main() -> Result<(), kiln_optim::calculus::CalculusError> {
/// let at = point(&[0.3, -1.2], &Device::flex());
/// let f = |x: Tensor<1>| x.powi_scalar(3).sum();
/// assert!(check_gradient(f, &at, Tolerance::F64)?.passes());
///
/// // By hand, with a mistake in it.
/// let report = check_gradient_of(f, |x: Tensor<1>| x.square() * 2.0, &at, Tolerance::F64)?;
/// assert_eq!(report.failures[0].index, [1]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`value_and_gradient`](super::value_and_gradient). A gradient that is wrong is no error, but a report.
pub fn check_gradient<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    at: &Tensor<D>,
    tolerance: Tolerance,
) -> Result<GradientCheck, CalculusError> {
    let computed = gradient(&f, at)?;
    compare(&f, &computed, at, tolerance)
}

/// [`check_gradient`] of a gradient that was written by hand.
///
/// # Errors
///
/// [`CalculusError::Shape`] if it has not the shape of x, and as [`check_gradient`].
pub fn check_gradient_of<const D: usize>(
    f: impl Fn(Tensor<D>) -> Tensor<1>,
    gradient: impl Fn(Tensor<D>) -> Tensor<D>,
    at: &Tensor<D>,
    tolerance: Tolerance,
) -> Result<GradientCheck, CalculusError> {
    let computed = plain(&gradient(plain(at)));
    same_shape("gradient", at, &computed)?;
    compare(&f, &computed, at, tolerance)
}

fn compare<const D: usize>(
    f: &impl Fn(Tensor<D>) -> Tensor<1>,
    computed: &Tensor<D>,
    at: &Tensor<D>,
    tolerance: Tolerance,
) -> Result<GradientCheck, CalculusError> {
    let computed = numbers(computed);
    let (device, dtype) = (plain(at).device(), at.dtype());
    let mut all = Vec::with_capacity(computed.len());
    for (place, &gradient) in computed.iter().enumerate() {
        let mut unit = vec![0.0; computed.len()];
        unit[place] = 1.0;
        let h = step(at, &unit);
        let unit =
            Tensor::from_data(TensorData::new(unit, at.shape()).convert_dtype(dtype), (&device, dtype));
        let value = |h| number(&f(moved(at, h, &unit)));
        let difference = (value(h)? - value(-h)?) / (2.0 * h);
        all.push(Mismatch { index: index(place, at.dims()), gradient, difference });
    }
    let error = |m: &Mismatch| (m.gradient - m.difference).abs();
    // What is no number is worst.
    all.sort_by(|a, b| error(b).total_cmp(&error(a)));
    let passes = |m: &Mismatch| {
        error(m) <= tolerance.absolute + tolerance.relative * m.gradient.abs().max(m.difference.abs())
    };
    let failures = all.iter().filter(|m| !passes(m)).cloned().collect();
    Ok(GradientCheck { checked: all.len(), failures, worst: all.into_iter().next() })
}

fn number(value: &Tensor<1>) -> Result<f64, CalculusError> {
    match numbers(value)[..] {
        [value] if value.is_finite() => Ok(value),
        [_] => Err(CalculusError::NotFinite { what: "value of the function" }),
        ref several => Err(CalculusError::NotANumber { found: several.len() }),
    }
}

fn index<const D: usize>(mut place: usize, shape: [usize; D]) -> Vec<usize> {
    let mut index = vec![0; D];
    for (i, &size) in shape.iter().enumerate().rev() {
        index[i] = place % size;
        place /= size;
    }
    index
}
