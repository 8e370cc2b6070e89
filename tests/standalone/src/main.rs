//! A program that picks one crate of Kiln by itself: a device, reproducible noise, a fused operation.

use burn::tensor::Tensor;
use kiln_backend::noise::{NoiseKey, normal, normal_values};
use kiln_backend::{BACKENDS, BackendError, open, ops};

fn main() -> Result<(), BackendError> {
    let names: Vec<_> = BACKENDS.iter().map(|backend| backend.name).collect();
    assert_eq!(names, ["flex"], "the default features of kiln-backend are the CPU backend alone");

    let device = open(None)?;
    let key = NoiseKey { seed: 7, sample: 0, step: 0 };
    let x = normal([2, 8, 16, 16], key, &device);
    let first_row = x.clone().slice([0..1]).into_data();
    let on_host = normal_values(8 * 16 * 16, key);
    assert_eq!(first_row.as_slice::<f32>().expect("noise is f32"), on_host, "noise is the same anywhere");

    let (weight, bias) = (Tensor::ones([8], &device), Tensor::zeros([8], &device));
    let y = ops::group_norm_act(x, weight, bias, 4, 1e-5, ops::Activation::Identity);
    let mean: f32 = y.clone().mean().into_scalar();
    let spread: f32 = y.square().mean().into_scalar();
    assert!(mean.abs() < 1e-5 && (spread - 1.0).abs() < 1e-3, "normalised to {mean} and {spread}");
    println!("kiln-backend by itself: {} backend, mean {mean:.1e}, mean square {spread:.5}", names[0]);
    Ok(())
}
