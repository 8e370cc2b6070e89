//! What the tests of this crate share.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_checkpoint::Checkpoint;

/// The goldens of tests/reference/attention_kinds.py.
pub struct Golden(Checkpoint);

impl Golden {
    pub fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kinds.safetensors");
        Self(Checkpoint::open(path).unwrap())
    }

    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let data = self.0.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        Tensor::from_data(data, device)
    }

    pub fn integers<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        Tensor::from_data(self.0.tensor(name).unwrap(), device)
    }

    pub fn part(&self, prefix: &str) -> Checkpoint {
        self.0.part(prefix)
    }
}

/// For laws with many cases: the CPU at each, all backends at every sixth, since a GPU that is a program compiles each new shape.
pub fn devices_at(case: usize) -> impl Iterator<Item = (&'static str, Device)> {
    kiln_backend::testing::devices().filter(move |(name, _)| *name == "flex" || case.is_multiple_of(6))
}

/// Numbers without a pattern, between -1 and 1.
pub fn values<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..n).map(|i| ((i + 1) as f32 * 12.9898 + seed as f32 * 78.233).sin() * 43_758.547 % 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[track_caller]
pub fn difference<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let difference: f32 = (found - expected).abs().max().into_scalar();
    // `max` may pass over what is not a number.
    if difference.is_nan() { f32::INFINITY } else { difference }
}

#[track_caller]
pub fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>, tolerance: f32) {
    let numbers: Vec<f32> = found.clone().into_data().iter().collect();
    assert!(numbers.iter().all(|x| x.is_finite()), "{what}: {numbers:?}");
    let error = difference(found, expected);
    assert!(error <= tolerance, "{what}: {error}");
}
