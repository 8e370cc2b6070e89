//! Preconditioners: M ≈ A of which M⁻¹ r is cheap, so that M⁻¹ A has its eigenvalues closer together.
//!
//! ```text
//! Jacobi                 M = diag A
//! incomplete Cholesky    M = L L', with L nowhere but where A is        (IC(0); exact for three diagonals)
//! ```
//!
//! Saad, "Iterative methods for sparse linear systems", 2nd edition, §10.2 and §10.3.

use super::QuadraticError;
use super::operator::{Operator, Sparse};

/// M⁻¹, symmetric and positive definite.
pub trait Preconditioner: Sync {
    /// z ← M⁻¹ r.
    fn apply(&self, r: &[f64], z: &mut [f64]);
}

/// M = diag A.
#[derive(Clone, Debug)]
pub struct Jacobi {
    inverse: Vec<f64>,
}

impl Jacobi {
    /// Of a diagonal, `[n]`.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::Pivot`] if an entry of the diagonal is not positive.
    pub fn new(diagonal: &[f64]) -> Result<Self, QuadraticError> {
        match diagonal.iter().position(|&d| !(d > 0.0 && d.is_finite())) {
            Some(row) => Err(QuadraticError::Pivot { name: "Jacobi", row, pivot: diagonal[row] }),
            None => Ok(Self { inverse: diagonal.iter().map(|d| 1.0 / d).collect() }),
        }
    }
}

impl Preconditioner for Jacobi {
    fn apply(&self, r: &[f64], z: &mut [f64]) {
        z.iter_mut().zip(r.iter().zip(&self.inverse)).for_each(|(z, (r, d))| *z = r * d);
    }
}

/// M = L L', L lower triangular with the places of A's lower half.
#[derive(Clone, Debug)]
pub struct IncompleteCholesky {
    /// The rows of L without the diagonal: (column, value), in order.
    starts: Vec<usize>,
    columns: Vec<usize>,
    values: Vec<f64>,
    /// 1 / L[i, i].
    inverse: Vec<f64>,
}

impl IncompleteCholesky {
    /// Of a sparse matrix. It exists for every M-matrix (no positive entry off the diagonal); a matrix that is positive
    /// definite may have none.
    ///
    /// # Errors
    ///
    /// [`QuadraticError::Pivot`] if a pivot is not positive: then take [`Jacobi`].
    pub fn new(a: &Sparse) -> Result<Self, QuadraticError> {
        let n = a.size();
        let mut l = Self { starts: vec![0], columns: Vec::new(), values: Vec::new(), inverse: Vec::new() };
        // The row that is being made, spread out, so that a row above meets it without a search.
        let mut spread = vec![0.0; n];
        for i in 0..n {
            let mut pivot = a.entry(i, i);
            let row: Vec<(usize, f64)> = a.row(i).filter(|(column, _)| *column < i).collect();
            for &(j, aij) in &row {
                let above = l.starts[j]..l.starts[j + 1];
                let known: f64 = above.map(|place| l.values[place] * spread[l.columns[place]]).sum();
                let lij = (aij - known) * l.inverse[j];
                spread[j] = lij;
                pivot -= lij * lij;
                l.columns.push(j);
                l.values.push(lij);
            }
            if !(pivot > 0.0 && pivot.is_finite()) {
                return Err(QuadraticError::Pivot { name: "incomplete Cholesky", row: i, pivot });
            }
            row.iter().for_each(|&(j, _)| spread[j] = 0.0);
            l.inverse.push(1.0 / pivot.sqrt());
            l.starts.push(l.columns.len());
        }
        Ok(l)
    }

    fn row(&self, i: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = self.starts[i]..self.starts[i + 1];
        self.columns[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }
}

impl Preconditioner for IncompleteCholesky {
    fn apply(&self, r: &[f64], z: &mut [f64]) {
        for i in 0..r.len() {
            let known: f64 = self.row(i).map(|(j, lij)| lij * z[j]).sum();
            z[i] = (r[i] - known) * self.inverse[i];
        }
        // L' by the rows of L: what is known of z[i] is taken from those above it.
        for i in (0..r.len()).rev() {
            z[i] *= self.inverse[i];
            for (j, lij) in self.row(i) {
                z[j] -= lij * z[i];
            }
        }
    }
}
