//! Numbers in f64 for the tests of forms and methods: goldens (tests/reference/optim_quadratic.py), and random ones.

use kiln_optim::quadratic::QuadraticForm;
use safetensors::{Dtype, SafeTensors};

static BYTES: &[u8] = include_bytes!("../golden/quadratic.safetensors");

/// A golden tensor; integers too.
pub fn golden(name: &str) -> Vec<f64> {
    let file = SafeTensors::deserialize(BYTES).unwrap();
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no golden {name}"));
    let whole = view.dtype() == Dtype::I64;
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap();
        if whole { i64::from_le_bytes(bytes) as f64 } else { f64::from_le_bytes(bytes) }
    };
    view.data().chunks_exact(8).map(number).collect()
}

/// Each number within the tolerance, a share where it is above 1.
#[track_caller]
pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!((found - expected).abs() <= allowed, "[{i}]: {found} for {expected}");
    }
}

/// Knuth's linear congruential numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From -1 to 1.
    pub fn number(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn vector(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.number()).collect()
    }

    /// A form whose matrix has these eigenvalues: reflected three times, H = 1 - 2 u u', which keeps them.
    pub fn form(&mut self, eigenvalues: &[f64]) -> QuadraticForm {
        let n = eigenvalues.len();
        let mut a = vec![0.0; n * n];
        for (i, value) in eigenvalues.iter().enumerate() {
            a[i * n + i] = *value;
        }
        for _ in 0..3 {
            let u = self.vector(n);
            let length = dot(&u, &u).sqrt();
            let u: Vec<f64> = u.iter().map(|u| u / length).collect();
            let au: Vec<f64> = a.chunks(n).map(|row| dot(row, &u)).collect();
            let uau = dot(&u, &au);
            for i in 0..n {
                for j in 0..n {
                    a[i * n + j] += 4.0 * uau * u[i] * u[j] - 2.0 * (u[i] * au[j] + au[i] * u[j]);
                }
            }
        }
        QuadraticForm::new(&a, &self.vector(n), 0.0).unwrap()
    }
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}
