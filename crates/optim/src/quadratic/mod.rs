//! Quadratic forms f(x) = 1/2 x'Ax + b'x + c, what kind they are, and the methods that minimise them.
//!
//! ```
//! use kiln_optim::quadratic::{Minimum, Options, QuadraticForm, Stationary, conjugate_gradients, steepest_descent};
//!
//! let form: QuadraticForm = "3x^2 + 2xy + 2y^2 - 2x + 8y".parse()?;
//! let analysis = form.analyse();
//! assert_eq!(analysis.kind.to_string(), "positive definite");
//! let Stationary::Point(x) = analysis.stationary else { panic!("A is not singular") };
//! assert!((x[0] - 1.2).abs() < 1e-14 && (x[1] + 2.6).abs() < 1e-14);
//! assert!(matches!(analysis.minimum, Minimum::Attained(least) if (least + 11.6).abs() < 1e-13));
//!
//! let right = form.right_side();
//! let two = conjugate_gradients(&form, &right, &Options::default())?;
//! let many = steepest_descent(&form, &right, &Options::default())?;
//! assert!(two.steps() == 2 && many.steps() > 10);
//! # Ok::<(), kiln_optim::quadratic::QuadraticError>(())
//! ```
//!
//! | | A | f |
//! |---|---|---|
//! | [`steepest_descent`] | any [`Operator`], positive definite | the form |
//! | [`conjugate_gradients`], [`preconditioned_conjugate_gradients`] | the same | the form |
//! | [`nonlinear_conjugate_gradients`], [`lbfgs`] | | any function with its gradient |
//!
//! An [`Operator`] is a form itself, [`Sparse`], [`Tridiagonal`], or a closure ([`MatrixFree`]). Everything is on the host in
//! f64. Each method gives a [`Trace`]: the residual of every step, and the path if asked for.

mod analysis;
mod cg;
mod dense;
mod descent;
mod error;
mod form;
mod lbfgs;
mod line_search;
mod nonlinear;
mod operator;
mod parse;
mod polynomial;
mod precondition;
mod trace;
mod vector;

pub use analysis::{
    Analysis, Kind, Minimum, Stationary, Unbounded, conjugate_gradients_bound, energy_norm,
    steepest_descent_bound,
};
pub use cg::{conjugate_gradients, preconditioned_conjugate_gradients};
pub use descent::steepest_descent;
pub use error::{ParseError, Problem, QuadraticError};
pub use form::QuadraticForm;
pub use lbfgs::lbfgs;
pub use nonlinear::{Beta, nonlinear_conjugate_gradients};
pub use operator::{MatrixFree, Operator, Sparse, Tridiagonal};
pub use polynomial::{Polynomial, Variable};
pub use precondition::{IncompleteCholesky, Jacobi, Preconditioner};
pub use trace::{Ended, Options, Record, Trace};
