//! Steepest descent with the exact step along the gradient:
//!
//! ```text
//! r = b - A x        α = r·r / r·Ar        x ← x + α r        r ← r - α Ar
//! ```
//!
//! for 1/2 x'Ax - b'x. Shewchuk, "An introduction to the conjugate gradient method without the agonizing pain", 1994, B2.

use super::error::{finite, sized};
use super::operator::Operator;
use super::trace::{Options, Recorder, Trace};
use super::vector::{advance, dot, norm};
use super::{Ended, QuadraticError};

/// A residual whose square is below this is 0: products of its numbers would vanish.
pub(super) const TINY: f64 = 1e-290;

/// Minimises 1/2 x'Ax - r'x, A positive definite, which solves A x = r. The error falls as
/// [`steepest_descent_bound`](super::steepest_descent_bound) says.
///
/// # Errors
///
/// [`QuadraticError::NotPositiveDefinite`] where a step finds no minimum along the gradient; [`Size`](QuadraticError::Size)
/// and [`NotFinite`](QuadraticError::NotFinite) for what is handed in; [`Diverged`](QuadraticError::Diverged).
pub fn steepest_descent(
    a: &impl Operator,
    right: &[f64],
    options: &Options,
) -> Result<Trace, QuadraticError> {
    let (mut x, mut r) = begin(a, right, options)?;
    let mut recorder = Recorder::new(options, a.size(), norm(right));
    let mut q = vec![0.0; r.len()];
    let mut square = dot(&r, &r);
    loop {
        if !square.is_finite() {
            return Err(QuadraticError::Diverged { step: recorder.next() });
        }
        if let Some(ended) = recorder.push(&x, square.sqrt()) {
            let evaluations = recorder.next();
            return Ok(recorder.end(x, evaluations, ended));
        }
        a.apply(&r, &mut q);
        let curvature = dot(&r, &q);
        if curvature.is_nan() {
            return Err(QuadraticError::Diverged { step: recorder.next() });
        }
        if curvature <= 0.0 {
            return Err(QuadraticError::NotPositiveDefinite { step: recorder.next(), curvature });
        }
        let direction = r.clone();
        square = advance(&mut x, &direction, &mut r, &q, square / curvature);
        if square < TINY {
            recorder.push(&x, square.sqrt());
            let evaluations = recorder.next();
            return Ok(recorder.end(x, evaluations, Ended::Converged));
        }
    }
}

/// The start, and the residual r - A x there.
pub(super) fn begin(
    a: &impl Operator,
    right: &[f64],
    options: &Options,
) -> Result<(Vec<f64>, Vec<f64>), QuadraticError> {
    let n = a.size();
    sized("the right side", n, right.len())?;
    finite("the right side", right)?;
    let x = Recorder::start(options, n)?;
    let mut r = right.to_vec();
    if options.start.is_some() {
        let mut ax = vec![0.0; n];
        a.apply(&x, &mut ax);
        finite("A x", &ax)?;
        r.iter_mut().zip(&ax).for_each(|(r, ax)| *r -= ax);
    }
    Ok((x, r))
}
