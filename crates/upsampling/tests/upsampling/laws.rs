//! What holds of every filter and every size.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_upsampling::{
    BINOMIAL, Edges, Mode, Rates, Target, Upsample, fir_downsample, fir_upsample, fir_upsample_to, nearest,
    upfirdn,
};
use proptest::prelude::*;
use rstest::rstest;

fn drawn(shape: [usize; 4], seed: u64, device: &Device) -> Tensor<4> {
    normal(shape, NoiseKey { seed, sample: 0, step: 0 }, device)
}

/// `<x, y>`.
fn product(x: Tensor<4>, y: Tensor<4>) -> f64 {
    assert_eq!(x.dims(), y.dims());
    let pairs = x.into_data();
    let other = y.into_data();
    pairs.iter::<f32>().zip(other.iter::<f32>()).map(|(x, y)| f64::from(x) * f64::from(y)).sum()
}

fn linear_map(kind: u8, factor: usize, kernel: &[f64], x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    match kind {
        0 => fir_upsample(x, kernel, factor),
        1 => fir_downsample(x, kernel, factor),
        2 => nearest(x, [height * 2 + 1, width + factor]),
        3 => Upsample::new(Target::Factor([factor as f64, 2.0]), Mode::Bilinear).forward(x),
        4 => Upsample::new(Target::Size([height + 3, width * factor]), Mode::Bicubic).forward(x),
        _ => upfirdn(x, kernel, Rates { up: factor, down: 2 }, Edges { before: 3, after: 2 }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// <A x, y> = <x, A' y>, A' being what carries gradients back.
    #[test]
    fn gradients_are_the_adjoint(
        kind in 0_u8..6, factor in 1_usize..4, height in 4_usize..9, width in 4_usize..9, seed in 0_u64..1000,
        kernel in proptest::collection::vec(0.1_f64..2.0, 3..6),
    ) {
        let device = Device::flex().autodiff();
        let x = drawn([1, 2, height, width], seed, &device).require_grad();
        let forward = linear_map(kind, factor, &kernel, x.clone());
        let y = drawn(forward.dims(), seed + 1, &device);
        let left = product(forward.clone(), y.clone());
        let gradients = (forward * y).sum().backward();
        let right = product(x.clone().inner(), x.grad(&gradients).unwrap());
        let scale = left.abs().max(1.0);
        prop_assert!((left - right).abs() < 1e-4 * scale, "{left} and {right}");
    }

    /// A symmetric filter that enlarges is, but for a factor, the adjoint of the one that reduces.
    #[test]
    fn enlarging_is_the_adjoint_of_reducing(
        half in proptest::collection::vec(0.1_f64..2.0, 2..4), height in 1_usize..6, width in 1_usize..6,
        seed in 0_u64..1000,
    ) {
        let device = Device::flex();
        let kernel: Vec<f64> = half.iter().chain(half.iter().rev()).copied().collect();
        let x = drawn([1, 1, 2 * height, 2 * width], seed, &device);
        let y = drawn([1, 1, height, width], seed + 1, &device);
        let left = product(fir_downsample(x.clone(), &kernel, 2), y.clone());
        let right = product(x, fir_upsample(y, &kernel, 2)) / 4.0;
        prop_assert!((left - right).abs() < 1e-4 * left.abs().max(1.0), "{left} and {right}");
    }
}

/// Away from its edges a constant picture keeps its value, enlarged or reduced: each pixel meets as much of these filters.
#[test]
fn a_constant_keeps_its_value() {
    for (backend, device) in testing::devices() {
        let x = Tensor::<4>::full([1, 1, 12, 12], 0.75, &device);
        for (factor, kernel) in [(2, BINOMIAL.as_slice()), (3, &[1.0, 2.0, 3.0, 3.0, 2.0, 1.0])] {
            for y in [fir_upsample(x.clone(), kernel, factor), fir_downsample(x.clone(), kernel, factor)] {
                let [_, _, height, width] = y.dims();
                let margin = if height > 12 { 6 } else { 1 };
                let inner = y.narrow(2, margin, height - 2 * margin).narrow(3, margin, width - 2 * margin);
                let error = (inner - 0.75).abs().max().into_scalar::<f32>();
                assert!(error < 1e-6, "{backend}, factor {factor}: {error}");
            }
        }
    }
}

/// A row more, or one less, leaves the others as they are.
#[test]
fn a_size_cuts_or_goes_on() {
    let device = Device::flex();
    let x = drawn([1, 1, 4, 5], 3, &device);
    let whole = fir_upsample(x.clone(), &BINOMIAL, 2);
    let shared = |y: Tensor<4>| y.narrow(2, 0, 7).narrow(3, 0, 10).into_data();
    let other = fir_upsample_to(x, &BINOMIAL, 2, [7, 11]);
    assert_eq!(other.dims(), [1, 1, 7, 11]);
    assert_eq!(shared(other), shared(whole));
}

#[rstest]
#[should_panic(expected = "sum 0")]
#[case::nothing_kept(&[1.0, -1.0], 2)]
#[should_panic(expected = "1 taps for a factor of 2")]
#[case::gaps(&[1.0], 2)]
#[should_panic(expected = "factor of 0")]
#[case::no_factor(&[1.0], 0)]
fn filters_that_make_no_sense_are_refused(#[case] kernel: &[f64], #[case] factor: usize) {
    let _ = fir_upsample(Tensor::zeros([1, 1, 2, 2], &Device::flex()), kernel, factor);
}
