//! What can be wrong with a polynomial, a matrix, or the system that they pose.

/// Why a text is no polynomial of degree 2, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ParseError {
    /// The character it is about, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a polynomial's text.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A character that can't be there.
    #[error("expected {expected}, found `{found}`")]
    Unexpected {
        /// What could be there.
        expected: &'static str,
        /// What is there.
        found: char,
    },
    /// The text ends too early.
    #[error("expected {expected}, and the text ends")]
    Ended {
        /// What has to come.
        expected: &'static str,
    },
    /// A product or a power of more than two variables.
    #[error("a term of degree {degree}: a quadratic polynomial has none above 2")]
    Degree {
        /// Its degree.
        degree: usize,
    },
    /// An exponent that is no whole number from 0.
    #[error("an exponent must be a whole number from 0 to 99")]
    Exponent,
    /// A division by 0.
    #[error("a division by 0")]
    DivisionByZero,
    /// A division by a variable.
    #[error("a division by a variable: that is no polynomial")]
    Divisor,
    /// A number too large for f64.
    #[error("a number that is not finite")]
    NotFinite,
    /// More than anyone writes.
    #[error("more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many may be.
        most: usize,
    },
}

/// A quadratic form, or a system A x = r, that can't be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuadraticError {
    /// The text is no polynomial of degree 2 at most.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The polynomial has no term of degree 2.
    #[error("the polynomial is not quadratic: its degree is {degree}")]
    NotQuadratic {
        /// Its degree.
        degree: usize,
    },
    /// The matrix is not symmetric.
    #[error("A is not symmetric: A[{row}, {column}] is {one}, and A[{column}, {row}] is {other}")]
    Asymmetric {
        /// The row of the entry above the diagonal.
        row: usize,
        /// Its column.
        column: usize,
        /// The entry above the diagonal.
        one: f64,
        /// The one below.
        other: f64,
    },
    /// A matrix known by its products alone is not symmetric.
    #[error("A is not symmetric: u'Av is {one}, and v'Au is {other}")]
    AsymmetricProduct {
        /// u'Av.
        one: f64,
        /// v'Au.
        other: f64,
    },
    /// Something has another size than the problem.
    #[error("{what} has {found} numbers, and {expected} are needed")]
    Size {
        /// What.
        what: &'static str,
        /// The numbers it must have.
        expected: usize,
        /// The numbers it has.
        found: usize,
    },
    /// NaN or an infinity.
    #[error("{what} is not finite at {index}")]
    NotFinite {
        /// What.
        what: &'static str,
        /// The place of the first such number, from 0.
        index: usize,
    },
    /// An entry is outside of the matrix.
    #[error("the entry [{row}, {column}] is outside of a matrix of {size} rows")]
    Entry {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// Rows of the matrix.
        size: usize,
    },
    /// The matrix is not positive definite: along p = the search direction, p'Ap is not positive.
    #[error("A is not positive definite: p'Ap is {curvature:.3e} along the direction of step {step}")]
    NotPositiveDefinite {
        /// The step, from 1.
        step: usize,
        /// p'Ap.
        curvature: f64,
    },
    /// A preconditioner can't be made of the matrix.
    #[error("no {name} preconditioner: the pivot of row {row} is {pivot:.3e}, and has to be positive")]
    Pivot {
        /// Its name.
        name: &'static str,
        /// The row, from 0.
        row: usize,
        /// What is on the diagonal there.
        pivot: f64,
    },
    /// The function gave NaN or an infinity where a method needs to go on.
    #[error("the function or its gradient is not finite at step {step}")]
    Diverged {
        /// The step, from 0.
        step: usize,
    },
    /// The line search found no step that lets the function fall enough.
    #[error(
        "no step along the direction of step {step} fulfils the strong Wolfe conditions: is the gradient the function's?"
    )]
    LineSearch {
        /// The step, from 1.
        step: usize,
    },
}

/// Every number is finite, or an error that names the first which is not.
pub(super) fn finite(what: &'static str, values: &[f64]) -> Result<(), QuadraticError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(QuadraticError::NotFinite { what, index }),
        None => Ok(()),
    }
}

pub(super) fn sized(what: &'static str, expected: usize, found: usize) -> Result<(), QuadraticError> {
    if expected == found { Ok(()) } else { Err(QuadraticError::Size { what, expected, found }) }
}
