//! Conjugate gradients, with a preconditioner M or without (M = 1):
//!
//! ```text
//! r = b - A x,  z = M⁻¹ r,  p = z
//! α = r·z / p·Ap       x ← x + α p       r ← r - α Ap       z ← M⁻¹ r
//! β = r·z / (r·z before)                 p ← z + β p
//! ```
//!
//! Every p is conjugate to all before it, so that in exact arithmetic n steps end at A x = b. Hestenes and Stiefel,
//! "Methods of conjugate gradients for solving linear systems", 1952; Saad, 2nd edition, algorithm 9.1.

use super::descent::{TINY, begin};
use super::operator::Operator;
use super::precondition::Preconditioner;
use super::trace::{Options, Recorder, Trace};
use super::vector::{advance, dot, norm, turn};
use super::{Ended, QuadraticError};

/// Solves A x = r, A positive definite, which minimises 1/2 x'Ax - r'x. The error falls as
/// [`conjugate_gradients_bound`](super::conjugate_gradients_bound) says, or faster. A semidefinite A is solved too, if r is
/// in its range.
///
/// ```
/// use kiln_optim::quadratic::{Options, QuadraticForm, conjugate_gradients};
///
/// let form: QuadraticForm = "3x^2 + 2xy + 2y^2 - 2x + 8y".parse()?;
/// let trace = conjugate_gradients(&form, &form.right_side(), &Options::default())?;
/// assert_eq!(trace.steps(), 2);
/// assert!((trace.x[0] - 1.2).abs() < 1e-12 && (trace.x[1] + 2.6).abs() < 1e-12);
/// # Ok::<(), kiln_optim::quadratic::QuadraticError>(())
/// ```
///
/// # Errors
///
/// [`QuadraticError::NotPositiveDefinite`] where p'Ap is not positive; [`Size`](QuadraticError::Size) and
/// [`NotFinite`](QuadraticError::NotFinite) for what is handed in; [`Diverged`](QuadraticError::Diverged).
pub fn conjugate_gradients(
    a: &impl Operator,
    right: &[f64],
    options: &Options,
) -> Result<Trace, QuadraticError> {
    solve(a, right, None, options)
}

/// [`conjugate_gradients`] with a preconditioner. Residuals are those of A x = r itself.
///
/// # Errors
///
/// As [`conjugate_gradients`]; a preconditioner that is not positive definite is told as such an A.
pub fn preconditioned_conjugate_gradients(
    a: &impl Operator,
    right: &[f64],
    preconditioner: &dyn Preconditioner,
    options: &Options,
) -> Result<Trace, QuadraticError> {
    solve(a, right, Some(preconditioner), options)
}

fn solve(
    a: &impl Operator,
    right: &[f64],
    preconditioner: Option<&dyn Preconditioner>,
    options: &Options,
) -> Result<Trace, QuadraticError> {
    let (mut x, mut r) = begin(a, right, options)?;
    let mut recorder = Recorder::new(options, a.size(), norm(right));
    let mut square = dot(&r, &r);
    if let Some(ended) = recorder.push(&x, square.sqrt()) {
        return Ok(recorder.end(x, 1, ended));
    }
    let mut z = vec![0.0; if preconditioner.is_some() { r.len() } else { 0 }];
    // r·z, and p before the first turn.
    let mut product = match preconditioner {
        Some(m) => {
            m.apply(&r, &mut z);
            dot(&r, &z)
        }
        None => square,
    };
    let mut p = if preconditioner.is_some() { z.clone() } else { r.clone() };
    let mut q = vec![0.0; r.len()];
    loop {
        a.apply(&p, &mut q);
        let curvature = dot(&p, &q);
        if !curvature.is_finite() || !product.is_finite() {
            return Err(QuadraticError::Diverged { step: recorder.next() });
        }
        if curvature <= 0.0 || product <= 0.0 {
            return Err(QuadraticError::NotPositiveDefinite { step: recorder.next(), curvature });
        }
        square = advance(&mut x, &p, &mut r, &q, product / curvature);
        let ended = recorder.push(&x, square.sqrt());
        let evaluations = recorder.next();
        if let Some(ended) = if square < TINY { Some(Ended::Converged) } else { ended } {
            return Ok(recorder.end(x, evaluations, ended));
        }
        let before = product;
        match preconditioner {
            Some(m) => {
                m.apply(&r, &mut z);
                product = dot(&r, &z);
                turn(&mut p, &z, product / before);
            }
            None => {
                product = square;
                turn(&mut p, &r, product / before);
            }
        }
    }
}
