//! What kind of form it is, and where it is stationary: read off the eigenvalues of A.
//!
//! ```text
//! all λ > 0      positive definite       one minimum, at A x = -b
//! all λ ≥ 0      positive semidefinite   with d in the null space of A: without bound if b·d ≠ 0, else an affine set of minima
//! λ < 0 < λ'     indefinite              a saddle, without bound along the eigenvector of λ
//! ```
//!
//! and the same upside down. An eigenvalue counts as 0 below 8 n ε times the largest: then A is singular.

use std::fmt;

use super::QuadraticForm;
use super::dense::{Eigen, eigen};
use super::operator::Operator;

/// The kind of a symmetric matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All eigenvalues are positive.
    PositiveDefinite,
    /// None is negative, some are 0 and some are not.
    PositiveSemidefinite,
    /// All are negative.
    NegativeDefinite,
    /// None is positive, some are 0 and some are not.
    NegativeSemidefinite,
    /// Some are negative and some positive.
    Indefinite,
    /// All are 0.
    Zero,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PositiveDefinite => "positive definite",
            Self::PositiveSemidefinite => "positive semidefinite",
            Self::NegativeDefinite => "negative definite",
            Self::NegativeSemidefinite => "negative semidefinite",
            Self::Indefinite => "indefinite",
            Self::Zero => "zero",
        })
    }
}

/// Where the gradient is 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Stationary {
    /// At one point.
    Point(Vec<f64>),
    /// On a point plus every combination of directions, each of length 1 and at right angles to the others.
    Affine {
        /// The point of the set that is nearest to 0.
        point: Vec<f64>,
        /// What spans the set.
        directions: Vec<Vec<f64>>,
    },
    /// Nowhere: A x = -b has no solution, since b has a part in the null space of A.
    Nowhere,
}

/// Why a form falls without bound.
#[derive(Clone, Debug, PartialEq)]
pub enum Unbounded {
    /// v'Av < 0: from any point, both ways along v, it falls as the square of the distance.
    Curvature(f64),
    /// Av = 0 and b·v < 0: it falls along v in a straight line.
    Slope(f64),
}

/// The least value of a form.
#[derive(Clone, Debug, PartialEq)]
pub enum Minimum {
    /// It is taken where the form is stationary: at the point, or on all of the affine set.
    Attained(f64),
    /// There is none.
    None {
        /// A direction of length 1 along which the form falls for ever.
        direction: Vec<f64>,
        /// How.
        reason: Unbounded,
    },
}

/// What [`QuadraticForm::analyse`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// The kind of A.
    pub kind: Kind,
    /// The eigenvalues of A, in ascending order.
    pub eigenvalues: Vec<f64>,
    /// How many of them are 0, as far as rounding tells: A is singular if any is.
    pub nullity: usize,
    /// Where the form is stationary.
    pub stationary: Stationary,
    /// Its least value.
    pub minimum: Minimum,
}

impl Analysis {
    /// κ, the largest eigenvalue over the least, of a positive definite A.
    #[must_use]
    pub fn condition(&self) -> Option<f64> {
        let (least, largest) = (self.eigenvalues.first()?, self.eigenvalues.last()?);
        (self.kind == Kind::PositiveDefinite).then(|| largest / least)
    }

    /// The reason for the kind, in a sentence: the eigenvalues that make it.
    #[must_use]
    pub fn reason(&self) -> String {
        let (least, largest) = match self.eigenvalues[..] {
            [] => return "there are no variables".to_owned(),
            [only] => return format!("its one eigenvalue is {only:.6}"),
            [least, .., largest] => (least, largest),
        };
        let null = match self.nullity {
            0 => String::new(),
            1 => ", and one is 0: A is singular".to_owned(),
            several => format!(", and {several} are 0: A is singular"),
        };
        format!("its eigenvalues are from {least:.6} to {largest:.6}{null}")
    }
}

impl QuadraticForm {
    /// What kind of form this is, where it is stationary, and what its minimum is or why it has none.
    ///
    /// ```
    /// use kiln_optim::quadratic::{Kind, Minimum, QuadraticForm, Stationary};
    ///
    /// let valley: QuadraticForm = "x^2 + 2xy + y^2 - 2x - 2y".parse()?;
    /// let analysis = valley.analyse();
    /// assert_eq!(analysis.kind, Kind::PositiveSemidefinite);
    /// assert!(matches!(analysis.stationary, Stationary::Affine { .. })); // all of x + y = 1
    /// assert_eq!(analysis.minimum, Minimum::Attained(-1.0));
    /// # Ok::<(), kiln_optim::quadratic::QuadraticError>(())
    /// ```
    #[must_use]
    pub fn analyse(&self) -> Analysis {
        let n = self.size();
        let Eigen { values: eigenvalues, vectors } = eigen(self.matrix(), n);
        let rounding = 8.0 * n as f64 * f64::EPSILON;
        let largest = eigenvalues.iter().fold(0.0_f64, |largest, l| largest.max(l.abs()));
        let is_null = |value: f64| value.abs() <= rounding * largest;
        let negative = eigenvalues.iter().filter(|&&l| !is_null(l) && l < 0.0).count();
        let nullity = eigenvalues.iter().filter(|&&l| is_null(l)).count();
        let kind = match (negative, nullity, n - negative - nullity) {
            (0, 0, _) => Kind::PositiveDefinite,
            (_, 0, 0) => Kind::NegativeDefinite,
            (0, _, 0) => Kind::Zero,
            (0, _, _) => Kind::PositiveSemidefinite,
            (_, _, 0) => Kind::NegativeSemidefinite,
            (_, _, _) => Kind::Indefinite,
        };
        let null: Vec<&Vec<f64>> =
            eigenvalues.iter().zip(&vectors).filter(|(l, _)| is_null(**l)).map(|(_, v)| v).collect();
        // The part of -b in the null space: where it is not 0, nothing balances b.
        let right = self.right_side();
        let length = norm(&right);
        let mut slope = vec![0.0; n];
        for v in &null {
            add(&mut slope, dot(v, &right), v);
        }
        let balanced = norm(&slope) <= 8.0 * rounding * length;
        let stationary = if !balanced {
            Stationary::Nowhere
        } else {
            let inverse: Vec<_> = eigenvalues.iter().zip(&vectors).filter(|(l, _)| !is_null(**l)).collect();
            let mut point = vec![0.0; n];
            // Three times: what is left of the gradient is taken out, down to its own rounding.
            for _ in 0..3 {
                let rest: Vec<f64> = self.gradient(&point).iter().map(|g| -g).collect();
                for (l, v) in &inverse {
                    add(&mut point, dot(v, &rest) / *l, v);
                }
            }
            match null.is_empty() {
                true => Stationary::Point(point),
                false => Stationary::Affine { point, directions: null.into_iter().cloned().collect() },
            }
        };
        let minimum = if negative > 0 {
            let curvature = eigenvalues.first().copied().unwrap_or_default();
            let direction = vectors.into_iter().next().unwrap_or_default();
            Minimum::None { direction, reason: Unbounded::Curvature(curvature) }
        } else {
            match &stationary {
                Stationary::Point(x) | Stationary::Affine { point: x, .. } => {
                    Minimum::Attained(self.value(x))
                }
                Stationary::Nowhere => {
                    let along = norm(&slope);
                    let direction = slope.iter().map(|s| s / along).collect();
                    Minimum::None { direction, reason: Unbounded::Slope(-along) }
                }
            }
        };
        Analysis { kind, eigenvalues, nullity, stationary, minimum }
    }
}

/// The most that k steps of steepest descent leave of the error ‖x - x*‖_A = √((x - x*)'A(x - x*)): the share
/// ((κ - 1) / (κ + 1))ᵏ.
///
/// Shewchuk, "An introduction to the conjugate gradient method without the agonizing pain", 1994, equation 28.
#[must_use]
pub fn steepest_descent_bound(condition: f64, steps: usize) -> f64 {
    ((condition - 1.0) / (condition + 1.0)).powf(steps as f64)
}

/// The most that k steps of conjugate gradients leave of it: the share 2 ((√κ - 1) / (√κ + 1))ᵏ, and nothing after n steps.
///
/// Shewchuk 1994, equation 52.
#[must_use]
pub fn conjugate_gradients_bound(condition: f64, steps: usize) -> f64 {
    let root = condition.sqrt();
    (2.0 * ((root - 1.0) / (root + 1.0)).powf(steps as f64)).min(1.0)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(to, v)| *to += factor * v);
}

/// √(e'Ae): the length of an error in the norm that the bounds are in.
///
/// # Panics
///
/// Panics if e has not the size of the operator.
#[must_use]
pub fn energy_norm(a: &impl Operator, e: &[f64]) -> f64 {
    assert_eq!(e.len(), a.size(), "the error has another size than the operator");
    let mut ae = vec![0.0; e.len()];
    a.apply(e, &mut ae);
    dot(e, &ae).max(0.0).sqrt()
}
