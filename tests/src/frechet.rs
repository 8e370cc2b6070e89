//! The Fréchet distance between two sets of features, each taken for a normal distribution: with the features of Inception it is
//! FID (Heusel et al. 2017); here they are those of the reader of digits.
//!
//! ```text
//! d² = |m_1 - m_2|² + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2))
//! ```

/// Mean and covariance of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Normal {
    mean: Vec<f64>,
    covariance: Matrix,
}

/// A square matrix, row after row.
#[derive(Debug, Clone, PartialEq)]
struct Matrix {
    size: usize,
    values: Vec<f64>,
}

impl Normal {
    /// The distribution of `features`, one row a sample.
    ///
    /// # Panics
    /// If there are fewer than two rows, or they are not of one length.
    #[must_use]
    pub fn of(features: &[Vec<f64>]) -> Self {
        let (count, size) = (features.len(), features[0].len());
        assert!(
            count >= 2 && features.iter().all(|row| row.len() == size),
            "two rows or more, of one length"
        );
        let mean: Vec<f64> =
            (0..size).map(|i| features.iter().map(|row| row[i]).sum::<f64>() / count as f64).collect();
        let mut covariance = Matrix { size, values: vec![0.0; size * size] };
        for row in features {
            for i in 0..size {
                for j in 0..size {
                    covariance.values[i * size + j] +=
                        (row[i] - mean[i]) * (row[j] - mean[j]) / (count - 1) as f64;
                }
            }
        }
        Self { mean, covariance }
    }

    /// The squared Fréchet distance, as FID is given.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        let means: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let root = self.covariance.root();
        let (eigenvalues, _) = root.times(&other.covariance).times(&root).eigen();
        let cross: f64 = eigenvalues.iter().map(|value| value.max(0.0).sqrt()).sum();
        means + self.covariance.trace() + other.covariance.trace() - 2.0 * cross
    }
}

impl Matrix {
    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.size + j]
    }

    fn trace(&self) -> f64 {
        (0..self.size).map(|i| self.at(i, i)).sum()
    }

    fn times(&self, other: &Self) -> Self {
        let size = self.size;
        let entry = |k: usize| (0..size).map(|l| self.at(k / size, l) * other.at(l, k % size)).sum();
        Self { size, values: (0..size * size).map(entry).collect() }
    }

    /// The root of a symmetric matrix without negative eigenvalues; those that rounding made are taken for 0.
    fn root(&self) -> Self {
        let size = self.size;
        let (eigenvalues, vectors) = self.eigen();
        let entry = |k: usize| {
            let (i, j) = (k / size, k % size);
            (0..size).map(|l| vectors.at(i, l) * eigenvalues[l].max(0.0).sqrt() * vectors.at(j, l)).sum()
        };
        Self { size, values: (0..size * size).map(entry).collect() }
    }

    /// Eigenvalues, and eigenvectors as columns, of a symmetric matrix: Jacobi's rotations, each of which takes one entry beside
    /// the diagonal away, sweep after sweep.
    fn eigen(&self) -> (Vec<f64>, Self) {
        let size = self.size;
        let mut a = self.clone();
        let mut vectors = Self {
            size,
            values: (0..size * size).map(|k| f64::from(u8::from(k / size == k % size))).collect(),
        };
        let beside = |a: &Self| -> f64 {
            (0..size).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a.at(i, j).powi(2)).sum()
        };
        let scale = a.values.iter().map(|v| v * v).sum::<f64>();
        for _sweep in 0..60 {
            if beside(&a) <= 1e-24 * scale {
                break;
            }
            for p in 0..size {
                for q in p + 1..size {
                    let entry = a.at(p, q);
                    if entry == 0.0 {
                        continue;
                    }
                    let theta = (a.at(q, q) - a.at(p, p)) / (2.0 * entry);
                    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                    let cos = 1.0 / (t * t + 1.0).sqrt();
                    let sin = t * cos;
                    for k in 0..size {
                        let (x, y) = (a.at(k, p), a.at(k, q));
                        a.values[k * size + p] = cos * x - sin * y;
                        a.values[k * size + q] = sin * x + cos * y;
                    }
                    for k in 0..size {
                        let (x, y) = (a.at(p, k), a.at(q, k));
                        a.values[p * size + k] = cos * x - sin * y;
                        a.values[q * size + k] = sin * x + cos * y;
                        let (x, y) = (vectors.at(k, p), vectors.at(k, q));
                        vectors.values[k * size + p] = cos * x - sin * y;
                        vectors.values[k * size + q] = sin * x + cos * y;
                    }
                }
            }
        }
        ((0..size).map(|i| a.at(i, i)).collect(), vectors)
    }
}
