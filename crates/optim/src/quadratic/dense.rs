//! Eigenvalues and eigenvectors of a small symmetric matrix, by Jacobi's rotations:
//!
//! ```text
//! A ← Jᵗ A J, with J the rotation in the plane (p, q) that makes A[p, q] = 0, over all planes, until all are 0
//! ```
//!
//! Golub and Van Loan, "Matrix computations", 4th edition, §8.5. Slower than tridiagonalisation, of the order of n³ a sweep
//! with some ten sweeps, and more exact for small eigenvalues. (The crates that have it change the features of what Burn is
//! built from, or are larger than all of this one.)

/// Eigenvalues in ascending order with their eigenvectors, each of length 1: A = Σ λ v vᵗ.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Vec<Vec<f64>>,
}

const MAX_SWEEPS: usize = 60;

/// Of the symmetric matrix `a`, `[n, n]` in row-major order.
pub(super) fn eigen(a: &[f64], n: usize) -> Eigen {
    // Scaled by a power of two, so that no square overflows and nothing is rounded.
    let largest = a.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    let scale = if largest > 0.0 { largest.log2().floor().clamp(-1000.0, 1000.0).exp2() } else { 1.0 };
    let mut a: Vec<f64> = a.iter().map(|x| x / scale).collect();
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    for _ in 0..MAX_SWEEPS {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                let negligible = f64::EPSILON * 0.25 * (a[p * n + p].abs() * a[q * n + q].abs()).sqrt();
                if apq.abs() <= negligible.max(f64::EPSILON.powi(2)) {
                    continue;
                }
                rotated = true;
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                rotate(&mut a, &mut vectors, n, (p, q), (c, t * c));
            }
        }
        if !rotated {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[i * n + i].total_cmp(&a[j * n + j]));
    Eigen {
        values: order.iter().map(|&i| a[i * n + i] * scale).collect(),
        vectors: order.iter().map(|&i| vectors[i * n..][..n].to_vec()).collect(),
    }
}

/// A ← Jᵗ A J; the rows of `vectors` are the columns of the product of all J.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    for k in 0..n {
        let (kp, kq) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * kp - s * kq;
        a[k * n + q] = s * kp + c * kq;
    }
    for matrix in [a, vectors] {
        for k in 0..n {
            let (pk, qk) = (matrix[p * n + k], matrix[q * n + k]);
            matrix[p * n + k] = c * pk - s * qk;
            matrix[q * n + k] = s * pk + c * qk;
        }
    }
}
