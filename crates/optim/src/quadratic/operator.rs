//! Symmetric matrices as what methods need of them: their products A x.

use std::fmt;

use super::QuadraticError;
use super::error::{finite, sized};
use super::vector::{dot, fill};

/// A symmetric matrix, known by its products.
pub trait Operator: Sync {
    /// n, its number of rows.
    fn size(&self) -> usize;

    /// y ← A x; both have n numbers.
    fn apply(&self, x: &[f64], y: &mut [f64]);

    /// Its diagonal, where it is known.
    fn diagonal(&self) -> Option<Vec<f64>> {
        None
    }
}

/// A matrix that is a closure (x, y), which writes A x into y.
///
/// ```
/// use kiln_optim::quadratic::{MatrixFree, Options, conjugate_gradients};
///
/// // -1, 2, -1 on three diagonals.
/// let n = 50;
/// let laplacian = MatrixFree::new(n, |x: &[f64], y: &mut [f64]| {
///     for i in 0..n {
///         let left = if i > 0 { x[i - 1] } else { 0.0 };
///         let right = x.get(i + 1).copied().unwrap_or(0.0);
///         y[i] = 2.0 * x[i] - left - right;
///     }
/// })?;
/// let trace = conjugate_gradients(&laplacian, &vec![1.0; n], &Options::default())?;
/// assert!((trace.x[0] - 25.0).abs() < 1e-6); // x[i] = (i + 1) (n - i) / 2
/// # Ok::<(), kiln_optim::quadratic::QuadraticError>(())
/// ```
#[derive(Clone)]
pub struct MatrixFree<F> {
    size: usize,
    product: F,
}

impl<F> fmt::Debug for MatrixFree<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatrixFree").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<F: Fn(&[f64], &mut [f64]) + Sync> MatrixFree<F> {
    /// A matrix of `size` rows. That it is symmetric is tried out on two vectors: u'Av = v'Au.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::AsymmetricProduct`], or [`NotFinite`](QuadraticError::NotFinite) if a product is no number.
    pub fn new(size: usize, product: F) -> Result<Self, QuadraticError> {
        let matrix = Self { size, product };
        // Two vectors with no structure that a matrix could share: fractions of multiples of irrational numbers.
        let vector = |step: f64| (1..=size).map(|i| (i as f64 * step).fract() - 0.5).collect::<Vec<_>>();
        let (u, v) = (vector(0.618_033_988_749_895), vector(0.414_213_562_373_095));
        let (mut au, mut av) = (vec![0.0; size], vec![0.0; size]);
        matrix.apply(&u, &mut au);
        matrix.apply(&v, &mut av);
        finite("A u", &au)?;
        finite("A v", &av)?;
        let (one, other) = (dot(&u, &av), dot(&v, &au));
        let scale = (dot(&u, &u) * dot(&av, &av)).sqrt() + (dot(&v, &v) * dot(&au, &au)).sqrt();
        if (one - other).abs() > 1e-10 * scale {
            return Err(QuadraticError::AsymmetricProduct { one, other });
        }
        Ok(matrix)
    }
}

impl<F: Fn(&[f64], &mut [f64]) + Sync> Operator for MatrixFree<F> {
    fn size(&self) -> usize {
        self.size
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) {
        (self.product)(x, y);
    }
}

/// A symmetric matrix of three diagonals.
#[derive(Clone, Debug, PartialEq)]
pub struct Tridiagonal {
    diagonal: Vec<f64>,
    beside: Vec<f64>,
}

impl Tridiagonal {
    /// The matrix with `diagonal`, `[n]`, and with `beside`, `[n - 1]`, above and below it.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::Size`] or [`NotFinite`](QuadraticError::NotFinite).
    pub fn new(diagonal: Vec<f64>, beside: Vec<f64>) -> Result<Self, QuadraticError> {
        sized("the diagonal", diagonal.len().max(1), diagonal.len())?;
        sized("what is beside the diagonal", diagonal.len() - 1, beside.len())?;
        finite("the diagonal", &diagonal)?;
        finite("what is beside the diagonal", &beside)?;
        Ok(Self { diagonal, beside })
    }
}

impl Operator for Tridiagonal {
    fn size(&self) -> usize {
        self.diagonal.len()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) {
        let n = x.len();
        let row = |i: usize| {
            let left = if i > 0 { self.beside[i - 1] * x[i - 1] } else { 0.0 };
            let right = if i + 1 < n { self.beside[i] * x[i + 1] } else { 0.0 };
            left + self.diagonal[i] * x[i] + right
        };
        fill(y, |start, y| {
            let end = start + y.len();
            // The first and the last row of all have a neighbour less; the others need no question.
            let (from, to) = (start.max(1), end.min(n - 1));
            if start < from {
                y[0] = row(start);
            }
            if to < end && to >= from {
                y[to - start] = row(to);
            }
            if from >= to {
                return;
            }
            let inner = &mut y[from - start..to - start];
            let count = inner.len();
            let (below, above) = (&self.beside[from - 1..][..count], &self.beside[from..][..count]);
            let (before, here, after) =
                (&x[from - 1..][..count], &x[from..][..count], &x[from + 1..][..count]);
            let diagonal = &self.diagonal[from..][..count];
            for i in 0..count {
                inner[i] = below[i] * before[i] + diagonal[i] * here[i] + above[i] * after[i];
            }
        });
    }

    fn diagonal(&self) -> Option<Vec<f64>> {
        Some(self.diagonal.clone())
    }
}

/// A symmetric matrix of which the entries that are not 0 are stored, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    /// Where each row begins in the other two, and the end.
    starts: Vec<usize>,
    columns: Vec<usize>,
    values: Vec<f64>,
}

impl Sparse {
    /// The matrix of `size` rows with these entries (row, column, value), both halves of it; entries of one place are added.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::Entry`], [`Asymmetric`](QuadraticError::Asymmetric) or [`NotFinite`](QuadraticError::NotFinite).
    pub fn new(size: usize, mut entries: Vec<(usize, usize, f64)>) -> Result<Self, QuadraticError> {
        if let Some(&(row, column, _)) = entries.iter().find(|(row, column, _)| *row.max(column) >= size) {
            return Err(QuadraticError::Entry { row, column, size });
        }
        if let Some(index) = entries.iter().position(|(_, _, value)| !value.is_finite()) {
            return Err(QuadraticError::NotFinite { what: "an entry of A", index });
        }
        entries.sort_by_key(|&(row, column, _)| (row, column));
        let mut matrix = Self { starts: vec![0; size + 1], columns: Vec::new(), values: Vec::new() };
        let mut last = None;
        for (row, column, value) in entries {
            if last == Some((row, column)) {
                if let Some(sum) = matrix.values.last_mut() {
                    *sum += value;
                }
                continue;
            }
            last = Some((row, column));
            matrix.starts[row + 1] += 1;
            matrix.columns.push(column);
            matrix.values.push(value);
        }
        for row in 0..size {
            matrix.starts[row + 1] += matrix.starts[row];
        }
        matrix.symmetric()?;
        Ok(matrix)
    }

    fn symmetric(&self) -> Result<(), QuadraticError> {
        let largest = self.values.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        for row in 0..self.size() {
            for (column, one) in self.row(row) {
                let other = self.entry(column, row);
                if (one - other).abs() > 1e-12 * largest {
                    let (one, other) = if row < column { (one, other) } else { (other, one) };
                    let (row, column) = (row.min(column), row.max(column));
                    return Err(QuadraticError::Asymmetric { row, column, one, other });
                }
            }
        }
        Ok(())
    }

    /// The entries of a row, (column, value), in order.
    pub(super) fn row(&self, row: usize) -> impl DoubleEndedIterator<Item = (usize, f64)> + Clone + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    /// The entry at a place, 0 where none is stored.
    pub(super) fn entry(&self, row: usize, column: usize) -> f64 {
        let range = self.starts[row]..self.starts[row + 1];
        match self.columns[range.clone()].binary_search(&column) {
            Ok(place) => self.values[range.start + place],
            Err(_) => 0.0,
        }
    }
}

impl From<&Tridiagonal> for Sparse {
    fn from(matrix: &Tridiagonal) -> Self {
        let n = matrix.diagonal.len();
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for i in 0..n {
            let left = (i > 0).then(|| (i - 1, matrix.beside[i - 1]));
            let right = (i + 1 < n).then(|| (i + 1, matrix.beside[i]));
            for (column, value) in left.into_iter().chain([(i, matrix.diagonal[i])]).chain(right) {
                columns.push(column);
                values.push(value);
            }
            starts.push(columns.len());
        }
        Self { starts, columns, values }
    }
}

impl Operator for Sparse {
    fn size(&self) -> usize {
        self.starts.len() - 1
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) {
        fill(y, |start, y| {
            for (offset, y) in y.iter_mut().enumerate() {
                *y = self.row(start + offset).map(|(column, value)| value * x[column]).sum();
            }
        });
    }

    fn diagonal(&self) -> Option<Vec<f64>> {
        Some((0..self.size()).map(|i| self.entry(i, i)).collect())
    }
}
