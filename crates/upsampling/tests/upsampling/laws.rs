//! What holds of every filter and every size.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_upsampling::{
    Antialias, BINOMIAL, Edges, MaxUnpool2d, Mode, PixelShuffleConfig, Rates, ResizeConvolution, Target,
    Upsample, bed_of_nails, bilinear_transposed, fir_downsample, fir_upsample, fir_upsample_to,
    icnr_convolution, nearest, upfirdn,
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
        6 => PixelShuffleConfig::new(factor).init().forward(x.repeat_dim(1, factor * factor)),
        7 => bed_of_nails(x, [factor, 2]),
        8 => bilinear_transposed(2, factor, &x.device()).forward(x),
        9 => Upsample::new(Target::Size([height.div_ceil(2), width + factor]), Mode::Lanczos)
            .with_antialias(Antialias::Yes)
            .forward(x),
        10 => unpooled(x),
        3 => Upsample::new(Target::Factor([factor as f64, 2.0]), Mode::Bilinear).forward(x),
        4 => Upsample::new(Target::Size([height + 3, width * factor]), Mode::Bicubic).forward(x),
        _ => upfirdn(x, kernel, Rates { up: factor, down: 2 }, Edges { before: 3, after: 2 }),
    }
}

/// Unpooling with indices that repeat, as windows that overlap give them.
fn unpooled(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let plane = (height * width) as i64;
    let places: Vec<i64> = (0..(batch * channels) as i64 * plane).map(|i| (i * 7 / 2) % plane).collect();
    let places = TensorData::new(places, [batch, channels, height, width]);
    let places = Tensor::<4, Int>::from_data(places, &x.device());
    MaxUnpool2d::new([2, 2]).with_stride([2, 2]).forward(x, places, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// <A x, y> = <x, A' y>, A' being what carries gradients back.
    #[test]
    fn gradients_are_the_adjoint(
        kind in 0_u8..11, factor in 1_usize..4, height in 4_usize..9, width in 4_usize..9, seed in 0_u64..1000,
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

/// A transposed convolution that starts as bilinear interpolation is that, away from the edges.
#[test]
fn a_bilinear_start_interpolates() {
    for (backend, device) in testing::devices() {
        let x = drawn([1, 3, 6, 7], 5, &device);
        for factor in [2_usize, 3, 4] {
            let transposed = bilinear_transposed(3, factor, &device).forward(x.clone());
            let interpolated =
                Upsample::new(Target::Factor([factor as f64; 2]), Mode::Bilinear).forward(x.clone());
            assert_eq!(transposed.dims(), interpolated.dims());
            let inner = |x: Tensor<4>| x.narrow(2, factor, 4 * factor).narrow(3, factor, 5 * factor);
            let error = (inner(transposed) - inner(interpolated)).abs().max().into_scalar::<f32>();
            assert!(error < 1e-5, "{backend}, {factor} times: {error}");
        }
    }
}

/// Pixel shuffle of a convolution that starts by ICNR has blocks of one value: no checkerboard.
#[test]
fn icnr_begins_without_a_checkerboard() {
    let device = Device::flex();
    let x = drawn([1, 4, 5, 6], 9, &device);
    let conv = icnr_convolution([4, 2], 3, 3, &device);
    let y = PixelShuffleConfig::new(3).init().forward(conv.forward(x.clone()));
    let coarse = y.clone().slice([0..1, 0..2]).reshape([1, 2, 5, 3, 6, 3]).narrow(3, 1, 1).narrow(5, 1, 1);
    let blocks = nearest(coarse.reshape([1, 2, 5, 6]), [15, 18]);
    assert!((y.clone() - blocks).abs().max().into_scalar::<f32>() < 1e-6);
    assert!(y.var(1).abs().max().into_scalar::<f32>() > 1e-3, "it is no constant");
    let resized = ResizeConvolution::new([4, 2], 3, 2, Mode::Nearest, &device).forward(x);
    assert_eq!(resized.dims(), [1, 2, 10, 12]);
}
