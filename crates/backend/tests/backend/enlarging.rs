//! What enlarges is held to its definition on every backend, as all fused operations are: value and gradients.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor, TensorData, ops::ConvTransposeOptions};
use kiln_backend::ops;
use kiln_backend::{Bias, composed, testing};
use rstest::rstest;
use rstest_reuse::apply;

use crate::conformance::{assert_close, assert_conforms, every_backend, normal};

#[apply(every_backend)]
fn pixel_shuffle(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for (shape, factor) in
        [([2, 12, 3, 5], 2), ([1, 18, 4, 7], 3), ([1, 16, 2, 3], 4), ([1, 25, 2, 9], 5), ([2, 3, 4, 5], 1)]
    {
        let [batch, channels, height, width] = shape;
        assert_conforms(
            &[normal(shape, 1, &device)],
            0.0,
            |x| ops::pixel_shuffle(x[0].clone(), factor),
            |x| {
                Tensor::from_dispatch(composed::shuffle::forward::<Dispatch>(
                    x[0].clone().into_dispatch(),
                    factor,
                ))
            },
        );
        let larger = [batch, channels / (factor * factor), factor * height, factor * width];
        assert_conforms(
            &[normal(larger, 2, &device)],
            0.0,
            |x| ops::pixel_unshuffle(x[0].clone(), factor),
            |x| {
                Tensor::from_dispatch(composed::shuffle::backward::<Dispatch>(
                    x[0].clone().into_dispatch(),
                    factor,
                ))
            },
        );
        let x = normal(shape, 3, &device);
        let back = ops::pixel_unshuffle(ops::pixel_shuffle(x.clone(), factor), factor);
        assert_close("there and back", &back.into_data(), &x.into_data(), 0.0);
    }
}

#[apply(every_backend)]
fn max_unpool(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    // (planes' sizes, step of the indices): with a step of 3.5, some repeat; so do all but one, in a plane of one value.
    for ([batch, channels, inputs], outputs, [by, over]) in
        [([2, 3, 35], 140, [4, 1]), ([1, 5, 40], 50, [7, 2]), ([1, 2, 6], 1, [1, 1]), ([1, 1, 1], 3, [1, 1])]
    {
        let places =
            (0..batch * channels * inputs).map(|i| (i * by / over % outputs) as i64).collect::<Vec<_>>();
        let places = TensorData::new(places, [batch, channels, inputs]);
        let places = Tensor::<3, Int>::from_data(places, &device);
        assert_conforms(
            &[normal([1, batch, channels, inputs], 1, &device)],
            0.0,
            |x| {
                let x = x[0].clone().reshape([batch, channels, inputs]);
                ops::max_unpool(x, places.clone(), outputs).unsqueeze()
            },
            |x| {
                let x = x[0].clone().reshape([batch, channels, inputs]).into_dispatch();
                let places = places.clone().into_dispatch();
                let y = composed::unpooling::forward::<Dispatch>(x, places, outputs);
                Tensor::<3>::from_dispatch(y).unsqueeze()
            },
        );
    }
}

#[apply(every_backend)]
fn conv_transpose2d(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    // ([batch, channels, channels of a group's output, height, width], kernel, options): narrow groups, wide ones, a kernel
    // smaller than the stride, more padding than taps of a phase, several strips of rows.
    for ([b, c, o, h, w], kernel, options) in [
        ([2, 6, 5, 5, 7], [4, 4], ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1)),
        ([1, 4, 8, 6, 5], [3, 3], ConvTransposeOptions::new([2, 2], [1, 1], [1, 1], [1, 1], 1)),
        ([3, 4, 1, 5, 4], [4, 4], ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 4)),
        ([2, 4, 6, 4, 5], [3, 4], ConvTransposeOptions::new([2, 3], [1, 2], [1, 0], [1, 1], 2)),
        ([1, 3, 2, 4, 3], [2, 1], ConvTransposeOptions::new([3, 4], [0, 0], [1, 2], [1, 1], 1)),
        ([1, 2, 7, 6, 6], [4, 5], ConvTransposeOptions::new([2, 2], [3, 4], [0, 0], [1, 1], 1)),
        ([1, 2, 3, 6, 6], [4, 5], ConvTransposeOptions::new([2, 2], [3, 4], [0, 0], [1, 1], 1)),
        ([1, 2, 1, 3, 4], [5, 3], ConvTransposeOptions::new([4, 2], [0, 0], [3, 1], [1, 1], 1)),
        ([1, 2, 5, 9, 4], [9, 6], ConvTransposeOptions::new([4, 1], [8, 2], [3, 0], [1, 1], 1)),
        ([1, 2, 2, 6, 6], [3, 3], ConvTransposeOptions::new([1, 5], [2, 1], [0, 0], [1, 1], 1)),
        ([1, 48, 6, 24, 24], [4, 4], ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1)),
        ([1, 3, 1, 1, 1], [2, 2], ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1)),
        // This one is Burn's own on every backend.
        ([1, 4, 2, 5, 4], [3, 2], ConvTransposeOptions::new([2, 1], [1, 0], [1, 0], [2, 1], 2)),
    ] {
        let out = o * options.groups;
        let weight = [c, o, kernel[0], kernel[1]];
        let inputs = [
            normal([b, c, h, w], 1, &device),
            normal(weight, 2, &device),
            normal([1, 1, 1, out], 3, &device),
        ];
        let definition = |x: &[Tensor<4>]| {
            let bias =
                x.get(2).map_or(Bias::None, |b| Bias::PerChannel(b.clone().reshape([out]).into_dispatch()));
            let [x, weight] = [x[0].clone(), x[1].clone()].map(Tensor::into_dispatch);
            Tensor::from_dispatch(composed::conv_transpose::forward::<Dispatch>(
                x,
                weight,
                bias,
                options.clone(),
            ))
        };
        assert_conforms(
            &inputs[..2],
            1e-4,
            |x| ops::conv_transpose2d(x[0].clone(), x[1].clone(), None, options.clone()),
            definition,
        );
        assert_conforms(
            &inputs,
            1e-4,
            |x| {
                ops::conv_transpose2d(
                    x[0].clone(),
                    x[1].clone(),
                    Some(x[2].clone().reshape([out])),
                    options.clone(),
                )
            },
            definition,
        );
    }
}
