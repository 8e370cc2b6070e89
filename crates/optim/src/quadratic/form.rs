//! Quadratic forms f(x) = 1/2 x'Ax + b'x + c with A symmetric, so that ∇f(x) = Ax + b.

use std::fmt;
use std::str::FromStr;

use super::error::{finite, sized};
use super::operator::Operator;
use super::polynomial::{Polynomial, Variable};
use super::{ParseError, Problem, QuadraticError};

/// Variables of a form that is read from a text: its matrix is stored whole.
const MAX_VARIABLES: usize = 2_000;

/// A form 1/2 x'Ax + b'x + c in n variables, A symmetric and stored whole.
///
/// ```
/// use kiln_optim::quadratic::QuadraticForm;
///
/// let form: QuadraticForm = "3x^2 + 2xy + 2y^2 - 2x + 8y".parse()?;
/// assert_eq!(form.matrix(), [6.0, 2.0, 2.0, 4.0]);
/// assert_eq!(form.linear(), [-2.0, 8.0]);
/// assert_eq!(form.value(&[1.0, 1.0]), 13.0);
/// assert_eq!(form.gradient(&[1.0, 1.0]), [6.0, 14.0]);
/// # Ok::<(), kiln_optim::quadratic::QuadraticError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QuadraticForm {
    names: Vec<String>,
    a: Vec<f64>,
    b: Vec<f64>,
    c: f64,
}

impl QuadraticForm {
    /// The form of A (`[n, n]` in row-major order), b (`[n]`) and c, in x1 to xn. A may differ from its transpose by
    /// rounding, 1e-12 of its largest entry, and is made symmetric.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::Asymmetric`], [`Size`](QuadraticError::Size) if A has not n² numbers or n is 0,
    /// [`NotFinite`](QuadraticError::NotFinite).
    pub fn new(a: &[f64], b: &[f64], c: f64) -> Result<Self, QuadraticError> {
        let form = Self::symmetrised(a, b, c)?;
        let n = b.len();
        let largest = a.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        for row in 0..n {
            for column in row + 1..n {
                let (one, other) = (a[row * n + column], a[column * n + row]);
                if (one - other).abs() > 1e-12 * largest {
                    return Err(QuadraticError::Asymmetric { row, column, one, other });
                }
            }
        }
        Ok(form)
    }

    /// The form 1/2 x'Mx + b'x + c of any square M, whose symmetric part A = (M + M')/2 gives the same values.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), but for `Asymmetric`.
    pub fn symmetrised(m: &[f64], b: &[f64], c: f64) -> Result<Self, QuadraticError> {
        let n = b.len();
        sized("b", n.max(1), n)?;
        sized("A", n * n, m.len())?;
        finite("A", m)?;
        finite("b", b)?;
        finite("c", &[c])?;
        // Halves are added, not a sum halved, which could overflow.
        let a = (0..n * n).map(|i| m[i] / 2.0 + m[(i % n) * n + i / n] / 2.0).collect();
        let names = (1..=n).map(|i| format!("x{i}")).collect();
        Ok(Self { names, a, b: b.to_vec(), c })
    }

    /// The form of a polynomial, in its variables in order.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::NotQuadratic`] if no term of degree 2 is left in it.
    pub fn from_polynomial(polynomial: &Polynomial) -> Result<Self, QuadraticError> {
        let degree = polynomial.degree();
        if degree < 2 {
            return Err(QuadraticError::NotQuadratic { degree });
        }
        let variables = polynomial.variables();
        let n = variables.len();
        if n > MAX_VARIABLES {
            let problem = Problem::TooMany { what: "variables", most: MAX_VARIABLES };
            return Err(ParseError { column: 1, problem }.into());
        }
        let place = |variable: &Variable| variables.binary_search(variable).unwrap_or_default();
        let (mut a, mut b) = (vec![0.0; n * n], vec![0.0; n]);
        for ((one, other), coefficient) in &polynomial.quadratic {
            let (i, j) = (place(one), place(other));
            // q x y is 1/2 (q x y + q y x); q x² is 1/2 · 2q x².
            a[i * n + j] += coefficient;
            a[j * n + i] += coefficient;
        }
        for (variable, coefficient) in &polynomial.linear {
            b[place(variable)] += coefficient;
        }
        let mut form = Self::symmetrised(&a, &b, polynomial.constant)?;
        form.names = variables.iter().map(ToString::to_string).collect();
        Ok(form)
    }

    /// n, the number of variables.
    #[must_use]
    pub fn size(&self) -> usize {
        self.b.len()
    }

    /// A, `[n, n]` in row-major order.
    #[must_use]
    pub fn matrix(&self) -> &[f64] {
        &self.a
    }

    /// b, `[n]`.
    #[must_use]
    pub fn linear(&self) -> &[f64] {
        &self.b
    }

    /// c.
    #[must_use]
    pub fn constant(&self) -> f64 {
        self.c
    }

    /// What the variables are called.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// -b, the right side of A x = -b, which holds where the gradient is 0.
    #[must_use]
    pub fn right_side(&self) -> Vec<f64> {
        self.b.iter().map(|b| -b).collect()
    }

    /// f(x).
    ///
    /// # Panics
    ///
    /// Panics if x has not n numbers.
    #[must_use]
    pub fn value(&self, x: &[f64]) -> f64 {
        let mut ax = vec![0.0; self.size()];
        self.apply(x, &mut ax);
        let sum = |terms: &mut dyn Iterator<Item = f64>| terms.sum::<f64>();
        sum(&mut x.iter().zip(ax.iter().zip(&self.b)).map(|(x, (ax, b))| x * (0.5 * ax + b))) + self.c
    }

    /// ∇f(x) = Ax + b.
    ///
    /// # Panics
    ///
    /// Panics if x has not n numbers.
    #[must_use]
    pub fn gradient(&self, x: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.size()];
        self.apply(x, &mut gradient);
        gradient.iter_mut().zip(&self.b).for_each(|(g, b)| *g += b);
        gradient
    }
}

impl Operator for QuadraticForm {
    fn size(&self) -> usize {
        self.b.len()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) {
        assert_eq!(x.len(), self.size(), "x has another size than the form");
        for (row, y) in self.a.chunks_exact(self.size()).zip(y) {
            *y = row.iter().zip(x).map(|(a, x)| a * x).sum();
        }
    }

    fn diagonal(&self) -> Option<Vec<f64>> {
        Some(self.a.iter().step_by(self.size() + 1).copied().collect())
    }
}

impl FromStr for QuadraticForm {
    type Err = QuadraticError;

    fn from_str(text: &str) -> Result<Self, QuadraticError> {
        Self::from_polynomial(&text.parse::<Polynomial>()?)
    }
}

/// As a polynomial: `3x^2 + 2xy + 2y^2 - 2x + 8y`.
impl fmt::Display for QuadraticForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.size();
        let squares = (0..n).flat_map(|i| (i..n).map(move |j| (i, j))).map(|(i, j)| match i == j {
            true => (self.a[i * n + i] / 2.0, format!("{}^2", self.names[i])),
            false => (self.a[i * n + j], format!("{}{}", self.names[i], self.names[j])),
        });
        let linear = self.b.iter().copied().zip(self.names.iter().cloned());
        let terms = squares.chain(linear).chain([(self.c, String::new())]);
        super::polynomial::write_terms(f, terms)
    }
}
