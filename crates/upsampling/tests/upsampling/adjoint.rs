//! Every linear layer, on one to three axes and on every backend: <A x, y> = <x, A' y>, A' being what carries gradients back.

use burn::tensor::{Int, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_upsampling::{
    AlignCorners, Antialias, BINOMIAL, ConvTranspose1dConfig, ConvTranspose2dConfig, ConvTranspose3dConfig,
    MaxUnpool, Mode, PixelShuffleConfig, PixelUnshuffleConfig, Target, Upsample, bed_of_nails,
    fir_downsample, fir_upsample, nearest_unpool,
};
use proptest::prelude::*;

/// Both products on every backend.
fn holds<const D: usize>(
    what: &str,
    shape: [usize; D],
    map: impl Fn(Tensor<D>) -> Tensor<D>,
) -> Result<(), TestCaseError> {
    for (backend, device) in testing::devices() {
        let device = device.autodiff();
        let drawn = |shape: [usize; D], seed| normal(shape, NoiseKey { seed, sample: 0, step: 0 }, &device);
        let x: Tensor<D> = drawn(shape, 1).require_grad();
        let forward = map(x.clone());
        let y = drawn(forward.dims(), 2);
        let values = |x: Tensor<D>| x.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        let product =
            |a: Tensor<D>, b: Tensor<D>| values(a).iter().zip(values(b)).map(|(a, b)| a * b).sum::<f64>();
        let left = product(forward.clone(), y.clone());
        let back = x.grad(&(forward.clone() * y).sum().backward()).unwrap();
        let right = product(x.clone(), Tensor::from_data(back.into_data(), &device));
        let scale = values(forward).iter().map(|v| v * v).sum::<f64>().sqrt().max(1.0);
        prop_assert!((left - right).abs() < 1e-4 * scale, "{what} on {backend}: {left} and {right}");
    }
    Ok(())
}

/// Unpooling with indices of which some repeat.
fn unpooled<const S: usize, const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dims = x.dims();
    let plane: usize = dims[2..].iter().product();
    let places: Vec<i64> = (0..x.shape().num_elements()).map(|i| (i * 7 / 2 % plane) as i64).collect();
    let places = Tensor::<D, Int>::from_data(TensorData::new(places, dims), &x.device());
    MaxUnpool::new([2; S]).forward(x, places, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn on_one_axis(length in 3_usize..9, to in 1_usize..14, factor in 1.1_f64..3.0) {
        let shape = [2, 2, length];
        for mode in [Mode::Nearest, Mode::NearestExact, Mode::Linear] {
            holds("size", shape, |x| Upsample::new(Target::Size([to]), mode).forward(x))?;
            holds("factor", shape, |x| Upsample::new(Target::Factor([factor]), mode).forward(x))?;
        }
        holds("unpooling", shape, unpooled::<1, 3>)?;
        holds("transposed convolution", shape, |x| {
            let config = ConvTranspose1dConfig::new([2, 4], 3).with_stride(2).with_padding_out(1).with_dilation(2);
            config.with_groups(2).with_bias(false).init(&x.device()).forward(x)
        })?;
    }

    #[test]
    fn on_two_axes(height in 4_usize..8, width in 4_usize..8, to in 2_usize..13, factor in 1.1_f64..3.0) {
        let shape = [1, 4, height, width];
        for mode in [Mode::Nearest, Mode::NearestExact, Mode::Bilinear, Mode::Bicubic, Mode::Lanczos] {
            for (corners, antialias) in
                [(AlignCorners::No, Antialias::No), (AlignCorners::Yes, Antialias::No), (AlignCorners::No, Antialias::Yes)]
            {
                let layer = Upsample::new(Target::Size([to, 15 - to]), mode);
                let layer = layer.with_align_corners(corners).with_antialias(antialias);
                holds(&format!("{mode:?}, {corners:?}, {antialias:?}"), shape, |x| layer.forward(x))?;
            }
            holds("factor", shape, |x| Upsample::new(Target::Factor([factor, 2.0]), mode).forward(x))?;
        }
        holds("pixel shuffle", shape, |x| PixelShuffleConfig::new(2).init().forward(x))?;
        let even = [1, 4, 2 * height, 2 * width];
        holds("pixel unshuffle", even, |x| PixelUnshuffleConfig::new(2).init().forward(x))?;
        holds("bed of nails", shape, |x| bed_of_nails(x, [2, 3]))?;
        holds("nearest unpooling", shape, |x| nearest_unpool(x, [3, 2]))?;
        holds("unpooling", shape, unpooled::<2, 4>)?;
        holds("FIR, larger", shape, |x| fir_upsample(x, &BINOMIAL, 2))?;
        holds("FIR, smaller", shape, |x| fir_downsample(x, &BINOMIAL, 2))?;
        holds("transposed convolution", shape, |x| {
            let config = ConvTranspose2dConfig::new([4, 6], [3, 2]).with_stride([2, 3]).with_padding([1, 0]);
            config.with_groups(2).with_bias(false).init(&x.device()).forward(x)
        })?;
    }

    #[test]
    fn on_three_axes(sides in [2_usize..5, 2_usize..5, 2_usize..5], to in 1_usize..7, factor in 1.1_f64..3.0) {
        let shape = [1, 2, sides[0], sides[1], sides[2]];
        for mode in [Mode::Nearest, Mode::NearestExact, Mode::Trilinear] {
            holds("size", shape, |x| Upsample::new(Target::Size([to, 7 - to, to]), mode).forward(x))?;
            holds("factor", shape, |x| Upsample::new(Target::Factor([2.0, factor, 2.0]), mode).forward(x))?;
        }
        holds("unpooling", shape, unpooled::<3, 5>)?;
        holds("transposed convolution", shape, |x| {
            let config = ConvTranspose3dConfig::new([2, 3], [2, 3, 2]).with_stride([1, 2, 2]).with_padding([0, 1, 0]);
            config.with_bias(false).init(&x.device()).forward(x)
        })?;
    }
}
