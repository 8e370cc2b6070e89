//! What PyTorch and diffusers compute (tests/reference/upsampling.py), values and gradients, on every backend compiled in.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use kiln_backend::testing;
use kiln_checkpoint::Checkpoint;
use kiln_upsampling::{
    AlignCorners, BINOMIAL, Edges, Mode, Rates, Target, Upsample, fir_downsample, fir_upsample, nearest,
    upfirdn,
};
use rstest::rstest;

const LOPSIDED: [f64; 5] = [1.0, 4.0, -2.0, 0.5, 3.0];

#[track_caller]
pub fn assert_close(what: &str, found: &TensorData, expected: &TensorData) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter::<f32>().zip(expected.iter::<f32>()) {
        assert!((found - expected).abs() <= 2e-6 * largest, "{what}: {found} for {expected}");
    }
}

fn resize(target: Target, mode: Mode, corners: AlignCorners, x: Tensor<4>) -> Tensor<4> {
    Upsample::new(target, mode).with_align_corners(corners).forward(x)
}

#[rstest]
#[case::nearest_size("nearest_size", |x| nearest(x, [8, 9]))]
#[case::bilinear_factor("bilinear_factor",
    |x| resize(Target::Factor([2.0, 3.0]), Mode::Bilinear, AlignCorners::No, x))]
#[case::bilinear_corners("bilinear_corners",
    |x| resize(Target::Size([7, 3]), Mode::Bilinear, AlignCorners::Yes, x))]
#[case::bicubic_factor("bicubic_factor",
    |x| resize(Target::Factor([2.0, 2.0]), Mode::Bicubic, AlignCorners::No, x))]
#[case::fir_up("fir_up", |x| fir_upsample(x, &BINOMIAL, 2))]
#[case::fir_up_3_lopsided("fir_up_3_lopsided", |x| fir_upsample(x, &LOPSIDED, 3))]
#[case::fir_down("fir_down", |x| fir_downsample(x, &BINOMIAL, 2))]
#[case::fir_down_odd("fir_down_odd", |x| fir_downsample(x, &BINOMIAL, 2))]
#[case::fir_down_3_lopsided("fir_down_3_lopsided", |x| fir_downsample(x, &LOPSIDED, 3))]
#[case::upfirdn("upfirdn", |x| upfirdn(x, &LOPSIDED, Rates { up: 3, down: 2 }, Edges { before: 4, after: -1 }))]
fn values_and_gradients_are_pytorchs(#[case] name: &str, #[case] compute: fn(Tensor<4>) -> Tensor<4>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/upsampling.safetensors");
    let golden = Checkpoint::open(golden).unwrap();
    let tensor = |part: &str| golden.tensor(&format!("{name}.{part}")).unwrap();
    for (backend, device) in testing::devices() {
        let device = device.autodiff();
        let x = Tensor::<4>::from_data(tensor("x"), &device).require_grad();
        let y = compute(x.clone());
        assert_close(&format!("{name} on {backend}"), &y.to_data(), &tensor("y"));
        let loss = (y * Tensor::from_data(tensor("weight"), &device)).sum();
        let gradient = x.grad(&loss.backward()).unwrap();
        assert_close(&format!("{name}'s gradient on {backend}"), &gradient.into_data(), &tensor("grad"));
    }
}
