//! Every fused operation is held to its composed definition on every backend compiled in: its value, and its
//! gradients, which for the definition Burn's own autodiff computes.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData, ops::ConvOptions};
use kiln_backend::noise::{self, NoiseKey};
use kiln_backend::ops::{
    self, Activation, AdamWHyper, AlignCorners, AttentionOptions, Causality, Decay, FeatureFunction,
    Interpolation, InterpolationMode, Objective, Taps,
};
use kiln_backend::{AttentionMask, Bias, composed, testing};
use rstest::rstest;
use rstest_reuse::{apply, template};

/// One case a backend compiled in: a test under this template runs on all of them.
#[template]
#[rstest]
#[cfg_attr(feature = "flex", case::flex("flex"))]
#[cfg_attr(feature = "ndarray", case::ndarray("ndarray"))]
#[cfg_attr(feature = "wgpu", case::wgpu("wgpu"))]
#[cfg_attr(feature = "vulkan", case::vulkan("vulkan"))]
#[cfg_attr(feature = "metal", case::metal("metal"))]
#[cfg_attr(feature = "webgpu", case::webgpu("webgpu"))]
#[cfg_attr(feature = "cuda", case::cuda("cuda"))]
#[cfg_attr(feature = "rocm", case::rocm("rocm"))]
pub fn every_backend(#[case] backend: &str) {}

pub fn normal<const D: usize>(shape: [usize; D], sample: u64, device: &Device) -> Tensor<D> {
    noise::normal(shape, NoiseKey { seed: 11, sample: 1000 * sample, step: 0 }, device)
}

/// The output of `f`, and the gradients of Σ output · probe with respect to each input.
fn differentiate(
    inputs: &[Tensor<4>],
    f: impl Fn(&[Tensor<4>]) -> Tensor<4>,
) -> (TensorData, Vec<TensorData>) {
    let inputs: Vec<_> = inputs.iter().map(|x| x.clone().autodiff().require_grad()).collect();
    let output = f(&inputs);
    let probe = normal(output.dims(), 99, &inputs[0].device());
    let gradients = (output.clone() * probe).sum().backward();
    let gradients =
        inputs.iter().map(|x| x.grad(&gradients).expect("every input has a gradient").into_data());
    (output.without_autodiff().into_data(), gradients.collect())
}

/// Largest difference, relative to the largest value expected.
#[track_caller]
pub fn assert_close(what: &str, found: &TensorData, expected: &TensorData, tolerance: f32) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let (found, expected) = (found.as_slice::<f32>().unwrap(), expected.as_slice::<f32>().unwrap());
    let largest = expected.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{what}: {f} for {e} at {i} (largest {largest})");
    }
}

pub fn assert_conforms(
    inputs: &[Tensor<4>],
    tolerance: f32,
    fused: impl Fn(&[Tensor<4>]) -> Tensor<4>,
    definition: impl Fn(&[Tensor<4>]) -> Tensor<4>,
) {
    // Without autodiff a kernel may work in place, so it is another path.
    let plain = fused(inputs).into_data();
    let (value, gradients) = differentiate(inputs, fused);
    let (expected, expected_gradients) = differentiate(inputs, definition);
    assert_close("value in place", &plain, &expected, tolerance);
    assert_close("value", &value, &expected, tolerance);
    for (i, (gradient, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert_close(&format!("gradient {i}"), gradient, expected, tolerance);
    }
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Elu,
];

#[apply(every_backend)]
fn activation(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    // More values than a thread's chunk, no multiple of any vector, and the far tails.
    let inner = normal([1, 3, 73, 101], 1, &device) * 3.0;
    let tails = Tensor::<1>::from_floats([-120.0, -90.0, -20.0, -5.0, 0.0, 5.0, 20.0, 90.0, 120.0], &device);
    for act in ACTIVATIONS {
        for x in [inner.clone(), tails.clone().reshape([1, 1, 1, 9])] {
            assert_conforms(
                &[x],
                2e-6,
                |x| ops::activation(x[0].clone(), act),
                |x| {
                    Tensor::from_dispatch(composed::activation::forward::<Dispatch>(
                        x[0].clone().into_dispatch(),
                        act,
                    ))
                },
            );
        }
    }
}

#[apply(every_backend)]
fn group_norm_act(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for (shape, groups) in [([2, 12, 7, 5], 3), ([1, 32, 16, 17], 32), ([3, 8, 1, 1], 2), ([2, 6, 33, 3], 1)]
    {
        for act in [Activation::Identity, Activation::Silu, Activation::Gelu] {
            let channels = [1, 1, 1, shape[1]];
            // A mean far from 0: a variance by the difference of squares would fail here.
            let inputs = [
                normal(shape, 1, &device) * 2.0 + 30.0,
                normal(channels, 20, &device) + 1.0,
                normal(channels, 30, &device),
            ];
            assert_conforms(
                &inputs,
                2e-4,
                |x| {
                    let [w, b] = [1, 2].map(|i| x[i].clone().reshape([shape[1]]));
                    ops::group_norm_act(x[0].clone(), w, b, groups, 1e-5, act)
                },
                |x| {
                    let [w, b] = [1, 2].map(|i| x[i].clone().reshape([shape[1]]).into_dispatch());
                    let x = x[0].clone().into_dispatch();
                    Tensor::from_dispatch(composed::group_norm::forward::<Dispatch>(
                        x, w, b, groups, 1e-5, act,
                    ))
                },
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum MaskShape {
    None,
    Full,
    PerKey,
    PerHead,
}

#[apply(every_backend)]
fn attention(
    backend: &str,
    #[values(MaskShape::None, MaskShape::Full, MaskShape::PerKey, MaskShape::PerHead)] mask: MaskShape,
    #[values(Causality::None, Causality::Causal)] causality: Causality,
) {
    let Some(device) = testing::device(backend) else { return };
    // (batch, heads, queries, keys, head and value dimension); the last one takes several blocks of queries.
    for [b, h, n, m, d, e] in [
        [2, 3, 5, 7, 4, 6],
        [1, 2, 17, 17, 8, 8],
        [1, 1, 3, 1, 5, 5],
        [1, 2, 300, 270, 8, 8],
        [2, 1, 33, 20, 40, 12],
    ] {
        let inputs = [
            normal([b, h, n, d], 1, &device),
            normal([b, h, m, d], 2, &device),
            normal([b, h, m, e], 3, &device),
        ];
        let mask = match mask {
            MaskShape::None => None,
            MaskShape::Full => Some(normal([b, h, n, m], 4, &device)),
            MaskShape::PerKey => Some(normal([b, 1, 1, m], 4, &device)),
            MaskShape::PerHead => Some(normal([1, h, n, m], 4, &device)),
        };
        let scale = 0.3;
        let definition_mask = mask.clone();
        assert_conforms(
            &inputs,
            2e-5,
            |x| {
                let options = AttentionOptions { mask: mask.clone(), causality, scale: Some(scale) };
                ops::scaled_dot_product_attention(x[0].clone(), x[1].clone(), x[2].clone(), options)
            },
            |x| {
                let [q, k, v] = [0, 1, 2].map(|i| x[i].clone().into_dispatch());
                let mask = match &definition_mask {
                    None => AttentionMask::None,
                    Some(mask) => AttentionMask::Additive(mask.clone().autodiff().into_dispatch()),
                };
                Tensor::from_dispatch(composed::attention::forward::<Dispatch>(
                    q, k, v, mask, causality, scale,
                ))
            },
        );
    }
}

#[apply(every_backend)]
fn rms_norm(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for [b, n, c] in [[2, 3, 5], [1, 1, 1], [2, 700, 64], [1, 7, 20_000]] {
        let inputs = [normal([1, b, n, c], 1, &device), normal([1, 1, 1, c], 2, &device)];
        assert_conforms(
            &inputs,
            1e-5,
            |x| ops::rms_norm(x[0].clone(), x[1].clone().reshape([c]), 1e-3),
            |x| {
                let weight = x[1].clone().reshape([c]).into_dispatch();
                let x = x[0].clone().into_dispatch();
                Tensor::from_dispatch(composed::rms_norm::forward::<Dispatch>(x, weight, 1e-3))
            },
        );
    }
}

#[apply(every_backend)]
fn linear_attention(
    backend: &str,
    #[values(
        FeatureFunction::Identity,
        FeatureFunction::EluPlusOne,
        FeatureFunction::Relu,
        FeatureFunction::SquaredRelu
    )]
    function: FeatureFunction,
) {
    let Some(device) = testing::device(backend) else { return };
    // The last one takes several tasks of several blocks each.
    for [b, h, n, m, d, e] in
        [[2, 3, 5, 7, 4, 6], [1, 1, 1, 1, 3, 5], [1, 2, 300, 270, 18, 8], [1, 1, 2, 4200, 5, 4]]
    {
        // Features are not negative, and away from the kink of max(x, 0) gradients are the same.
        let inputs = [
            normal([b, h, n, d], 1, &device).abs() + 0.1,
            normal([b, h, m, d], 2, &device).abs() + 0.1,
            normal([b, h, m, e], 3, &device),
        ];
        assert_conforms(
            &inputs,
            2e-5,
            |x| ops::linear_attention(x[0].clone(), x[1].clone(), x[2].clone(), function, 1e-12),
            |x| {
                let [q, k, v] = [0, 1, 2].map(|i| x[i].clone().into_dispatch());
                Tensor::from_dispatch(composed::linear_attention::forward::<Dispatch>(
                    q, k, v, function, 1e-12,
                ))
            },
        );
    }
}

/// Below 0 too, without gradients.
#[apply(every_backend)]
fn features_of_any_sign(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let [q, k, v] = [1, 2, 3].map(|i| normal([1, 2, 40, 8], i, &device) * 3.0);
    for function in [FeatureFunction::EluPlusOne, FeatureFunction::Relu, FeatureFunction::SquaredRelu] {
        let found = ops::linear_attention(q.clone(), k.clone(), v.clone(), function, 1e-12);
        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().into_dispatch());
        let expected: Tensor<4> =
            Tensor::from_dispatch(composed::linear_attention::forward::<Dispatch>(q, k, v, function, 1e-12));
        assert_close("features", &found.into_data(), &expected.into_data(), 2e-5);
    }
}

#[apply(every_backend)]
fn a_query_that_nothing_is_similar_to_gets_zeros(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let [k, v] = [2, 3].map(|i| normal([1, 1, 4, 6], i, &device));
    let q = normal([1, 1, 3, 6], 1, &device).abs().neg();
    let out = ops::linear_attention(q.clone(), k, v, FeatureFunction::Relu, 1e-12);
    assert_close("rows", &out.into_data(), &q.zeros_like().into_data(), 0.0);
}

#[apply(every_backend)]
fn a_query_without_keys_gets_zeros(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let [q, k, v] = [1, 2, 3].map(|i| normal([1, 1, 2, 4], i, &device));
    let hidden = Tensor::<2>::from_floats([[f32::NEG_INFINITY; 2], [0.0, f32::NEG_INFINITY]], &device);
    let options = AttentionOptions { mask: Some(hidden.reshape([1, 1, 2, 2])), ..Default::default() };
    let out = ops::scaled_dot_product_attention(q, k, v.clone(), options);
    let expected = Tensor::cat(vec![v.zeros_like().narrow(2, 0, 1), v.narrow(2, 0, 1)], 2);
    assert_close("rows", &out.into_data(), &expected.into_data(), 1e-6);
}

/// The composed form takes few queries at a time where all scores would be too many to keep.
#[apply(every_backend)]
fn attention_in_blocks_is_attention(
    backend: &str,
    #[values(MaskShape::None, MaskShape::Full, MaskShape::PerKey)] mask: MaskShape,
    #[values(Causality::None, Causality::Causal)] causality: Causality,
) {
    let Some(device) = testing::device(backend) else { return };
    let [b, h, n, m, d, e] = [2, 3, 10, 7, 4, 6];
    let mask = || match mask {
        MaskShape::Full => AttentionMask::Additive(normal([b, h, n, m], 4, &device).into_dispatch()),
        MaskShape::PerKey => AttentionMask::Additive(normal([b, 1, 1, m], 4, &device).into_dispatch()),
        _ => AttentionMask::None,
    };
    let [q, k, v, grad] = [[b, h, n, d], [b, h, m, d], [b, h, m, e], [b, h, n, e]]
        .map(|shape| normal(shape, shape[2] as u64 + shape[3] as u64, &device).into_dispatch());
    let whole = {
        let [q, k, v, grad] = [&q, &k, &v, &grad].map(Clone::clone);
        let y =
            composed::attention::forward::<Dispatch>(q.clone(), k.clone(), v.clone(), mask(), causality, 0.3);
        let (dq, dk, dv) = composed::attention::backward::<Dispatch>(q, k, v, mask(), grad, causality, 0.3);
        [y, dq, dk, dv]
    };
    for rows in [1, 4, 5, 10, 11] {
        let [q, k, v, grad] = [&q, &k, &v, &grad].map(Clone::clone);
        let y = composed::attention::forward_in_blocks::<Dispatch>(
            q.clone(),
            k.clone(),
            v.clone(),
            mask(),
            causality,
            0.3,
            rows,
        );
        let (dq, dk, dv) = composed::attention::backward_in_blocks::<Dispatch>(
            [q, k, v, grad],
            &mask(),
            causality,
            0.3,
            rows,
        );
        for ((name, found), expected) in ["y", "dq", "dk", "dv"].into_iter().zip([y, dq, dk, dv]).zip(&whole)
        {
            let [found, expected] =
                [found, expected.clone()].map(|t| Tensor::<4>::from_dispatch(t).into_data());
            assert_close(&format!("{name}, {rows} rows"), &found, &expected, 1e-5);
        }
    }
}

/// More keys than a tile of them: rows that see none of the first tiles, and one that sees none at all.
#[apply(every_backend)]
fn attention_to_many_keys(
    backend: &str,
    #[values(MaskShape::None, MaskShape::Full)] mask: MaskShape,
    #[values(Causality::None, Causality::Causal)] causality: Causality,
) {
    let Some(device) = testing::device(backend) else { return };
    let (n, m) = (1100, 4200);
    let [q, k, v] = [([1, 2, n, 4], 1), ([1, 2, m, 4], 2), ([1, 2, m, 3], 3)]
        .map(|(shape, seed)| normal::<4>(shape, seed, &device) * 2.0);
    let mask = match mask {
        MaskShape::None => None,
        _ => {
            let row = |hidden: usize| {
                let shown = Tensor::<4>::zeros([1, 1, 1, m - hidden + 1], &device);
                let hides = Tensor::full([1, 1, 1, hidden], f32::NEG_INFINITY, &device);
                Tensor::cat(vec![hides, shown], 3).narrow(3, 0, m)
            };
            let rows = vec![row(m), row(3000).repeat_dim(2, 9), row(1).repeat_dim(2, n - 10)];
            Some(normal([1, 1, n, m], 4, &device) + Tensor::cat(rows, 2))
        }
    };
    let definition = match &mask {
        None => AttentionMask::None,
        Some(mask) => AttentionMask::Additive(mask.clone().into_dispatch()),
    };
    let options = AttentionOptions { mask, causality, scale: Some(0.7) };
    let found = ops::scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), options);
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    let expected: Tensor<4> =
        Tensor::from_dispatch(composed::attention::forward::<Dispatch>(q, k, v, definition, causality, 0.7));
    assert_close("many keys", &found.into_data(), &expected.into_data(), 2e-5);
}

#[apply(every_backend)]
fn a_mask_that_learns_gets_its_gradient(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let inputs = [[1, 2, 4, 3], [1, 2, 4, 3], [1, 2, 4, 3], [1, 2, 4, 4]];
    let inputs: Vec<_> = (1..).zip(inputs).map(|(i, shape)| normal(shape, i, &device)).collect();
    assert_conforms(
        &inputs,
        2e-5,
        |x| {
            let options = AttentionOptions { mask: Some(x[3].clone()), ..Default::default() };
            ops::scaled_dot_product_attention(x[0].clone(), x[1].clone(), x[2].clone(), options)
        },
        |x| {
            let [q, k, v, mask] = [0, 1, 2, 3].map(|i| x[i].clone().into_dispatch());
            let (mask, scale) = (AttentionMask::Additive(mask), 1.0 / 3f64.sqrt());
            Tensor::from_dispatch(composed::attention::forward::<Dispatch>(
                q,
                k,
                v,
                mask,
                Causality::None,
                scale,
            ))
        },
    );
}

#[apply(every_backend)]
fn conv2d(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    // (batch, channels, out channels, height, width, kernel, stride, padding, dilation, groups)
    for ([b, c, o, h, w], kernel, options) in [
        ([2, 3, 4, 9, 7], [3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
        ([3, 5, 2, 8, 9], [3, 3], ConvOptions::new([2, 2], [1, 1], [1, 1], 1)),
        ([1, 4, 7, 6, 5], [1, 1], ConvOptions::new([1, 1], [0, 0], [1, 1], 1)),
        ([2, 2, 3, 7, 11], [5, 2], ConvOptions::new([3, 1], [2, 1], [1, 1], 1)),
        ([1, 2, 3, 5, 6], [3, 3], ConvOptions::new_with_padding([2, 2], [(0, 1), (0, 1)], [1, 1], 1)),
        ([2, 3, 2, 2, 2], [1, 3], ConvOptions::new([1, 1], [0, 3], [1, 1], 1)),
        // Several strips of rows, and more samples than sums of the weight's gradient.
        ([11, 40, 6, 24, 24], [3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
        // Enough channels and tiles for minimal filtering, whose tiles overlap the edges here.
        ([1, 33, 36, 13, 18], [3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
        ([2, 36, 33, 9, 22], [3, 3], ConvOptions::new_with_padding([1, 1], [(0, 2), (2, 1)], [1, 1], 1)),
        // These two are Burn's own on every backend.
        ([2, 4, 6, 6, 6], [3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 2)),
        ([2, 2, 3, 9, 9], [3, 3], ConvOptions::new([1, 1], [2, 2], [2, 2], 1)),
    ] {
        let weight = [o, c / options.groups, kernel[0], kernel[1]];
        let inputs =
            [normal([b, c, h, w], 1, &device), normal(weight, 2, &device), normal([1, 1, 1, o], 3, &device)];
        let definition = |x: &[Tensor<4>]| {
            let bias =
                x.get(2).map_or(Bias::None, |b| Bias::PerChannel(b.clone().reshape([o]).into_dispatch()));
            let [x, weight] = [x[0].clone(), x[1].clone()].map(Tensor::into_dispatch);
            Tensor::from_dispatch(composed::conv::forward::<Dispatch>(x, weight, bias, options.clone()))
        };
        assert_conforms(
            &inputs[..2],
            1e-4,
            |x| ops::conv2d(x[0].clone(), x[1].clone(), None, options.clone()),
            definition,
        );
        assert_conforms(
            &inputs,
            1e-4,
            |x| ops::conv2d(x[0].clone(), x[1].clone(), Some(x[2].clone().reshape([o])), options.clone()),
            definition,
        );
    }
}

/// Kernels in 16 bits make what the same numbers in 32 bits make, to the bit, and their gradient comes through.
#[apply(every_backend)]
fn conv2d_with_narrow_kernels(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let narrow =
        [FloatDType::F16, FloatDType::BF16].into_iter().filter(|&dtype| device.supports_dtype(dtype));
    // (batch, channels, out channels, height, width, kernel, stride, groups): one for each of the CPU's ways, and Burn's own.
    let cases = [
        ([1, 100, 36, 13, 18], [3, 3], 1, 1),
        ([2, 130, 70, 4, 3], [3, 3], 1, 1),
        ([2, 5, 7, 6, 5], [1, 1], 1, 1),
        ([1, 6, 9, 9, 8], [3, 3], 2, 1),
        ([1, 4, 6, 7, 7], [3, 3], 1, 2),
    ];
    for dtype in narrow {
        for ([b, c, o, h, w], kernel, stride, groups) in cases {
            let options = ConvOptions::new([stride; 2], [kernel[0] / 2; 2], [1, 1], groups);
            let x = normal([b, c, h, w], 1, &device);
            let weight = normal([o, c / groups, kernel[0], kernel[1]], 2, &device).cast(dtype);
            let convolve = |x, weight| ops::conv2d(x, weight, None, options.clone());
            let expected = convolve(x.clone(), weight.clone().cast(FloatDType::F32)).into_data();
            let found = convolve(x.clone(), weight.clone());
            assert_eq!(found.dtype(), DType::F32);
            assert_close("narrow kernels", &found.into_data(), &expected, 0.0);
            let [x, weight] = [x, weight].map(|input| input.autodiff().require_grad());
            let wide = weight.clone().cast(FloatDType::F32);
            let gradient = |weight| {
                let gradients = convolve(x.clone(), weight).sum().backward();
                x.grad(&gradients).expect("it is tracked").into_data()
            };
            assert_close("gradient", &gradient(weight), &gradient(wide), 0.0);
        }
    }
}

/// One channel of output is laid out in its own way on GPUs, and what is computed with it further has to be right too.
#[apply(every_backend)]
fn what_follows_a_convolution_to_one_channel(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let (x, weight) = (normal([3, 4, 12, 12], 1, &device), normal([1, 4, 3, 3], 2, &device));
    let padded = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let out = ops::conv2d(x.clone(), weight, None, padded);
    let separate = Tensor::<4>::from_data(out.clone().into_data(), &device);
    let y = x.narrow(1, 0, 1).mul_scalar(1.0);
    let follow = |out: Tensor<4>| ((y.clone() - out * 0.5).clamp(-1.0, 1.0) * 2.0).into_data();
    assert_close("what follows", &follow(out), &follow(separate), 1e-6);
}

#[apply(every_backend)]
fn interpolation(
    backend: &str,
    #[values(InterpolationMode::Nearest, InterpolationMode::Bilinear, InterpolationMode::Bicubic)]
    mode: InterpolationMode,
    #[values(AlignCorners::No, AlignCorners::Yes)] align_corners: AlignCorners,
) {
    let Some(device) = testing::device(backend) else { return };
    let options = Interpolation { mode, align_corners };
    for (from, to) in
        [([5, 7], [10, 14]), ([9, 4], [3, 11]), ([1, 1], [4, 3]), ([6, 6], [1, 1]), ([3, 5], [3, 5])]
    {
        let x = normal([2, 3, from[0], from[1]], 1, &device);
        let rows = Taps::interpolation(from[0], to[0], options);
        let columns = Taps::interpolation(from[1], to[1], options);
        assert_conforms(
            std::slice::from_ref(&x),
            2e-6,
            |x| ops::interpolate(x[0].clone(), to, options),
            |x| {
                let x = x[0].clone().into_dispatch();
                Tensor::from_dispatch(composed::resample::forward::<Dispatch>(x, &rows, &columns))
            },
        );
        // <Ax, y> = <x, A'y>: the transposed matrices are the adjoint.
        let y = normal([2, 3, to[0], to[1]], 2, &device);
        let forward = (ops::interpolate(x.clone(), to, options) * y.clone()).sum().into_scalar::<f32>();
        let back = (ops::resample(y, rows.transpose(), columns.transpose()) * x).sum().into_scalar::<f32>();
        assert!((forward - back).abs() < 1e-3, "{forward} {back}");
    }
}

#[apply(every_backend)]
fn adamw_step(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    // Long enough for several threads, each with several pieces and the last one short.
    let shape = [3, 5, 83, 89];
    let [param, grad, m] = [1, 2, 3].map(|i| normal(shape, i, &device));
    let [v, w] = [4, 5].map(|i| normal(shape, i, &device).square());
    let decays = [Decay::Decoupled, Decay::Cautious, Decay::Coupled];
    let objectives = [Objective::Minimise, Objective::Maximise];
    for (decay, objective) in decays.into_iter().flat_map(|d| objectives.map(|o| (d, o))) {
        let numbers = AdamWHyper { lr: 0.1, beta2: 0.99, weight_decay: 0.05, ..AdamWHyper::default() };
        let hyper = AdamWHyper { decay, objective, step: 3, ..numbers };
        let [p, g, m1, v1, w1] = [&param, &grad, &m, &v, &w].map(|t| t.clone().into_dispatch());
        let (p2, g2, m2, v2) = (p.clone(), g.clone(), m1.clone(), v1.clone());
        let expected = composed::adamw::step::<Dispatch>(p, g, m1, v1, hyper);
        let expected =
            [expected.0, expected.1, expected.2].map(|t| Tensor::<4>::from_dispatch(t).into_data());
        // Shared with the test, so in copies; then handed over, so in place.
        let shared = ops::adamw_step(param.clone(), grad.clone(), m.clone(), v.clone(), hyper);
        let [p, m1, v1] = [&param, &m, &v].map(|t| t.clone() + 0.0);
        let moved = ops::adamw_step(p, grad.clone(), m1, v1, hyper);
        for (p, m, v) in [shared, moved] {
            for (found, expected) in [p, m, v].into_iter().zip(&expected) {
                assert_close(&format!("{decay:?} {objective:?}"), &found.into_data(), expected, 1e-6);
            }
        }
        let expected = composed::adamw::amsgrad_step::<Dispatch>(p2, g2, m2, v2, w1, hyper);
        let expected = [expected.0, expected.1, expected.2, expected.3];
        let expected = expected.map(|t| Tensor::<4>::from_dispatch(t).into_data());
        let found = ops::amsgrad_step(param.clone(), grad.clone(), m.clone(), v.clone(), w.clone(), hyper);
        for (found, expected) in [found.0, found.1, found.2, found.3].into_iter().zip(&expected) {
            assert_close(&format!("AMSGrad {decay:?} {objective:?}"), &found.into_data(), expected, 1e-6);
        }
    }
}

#[apply(every_backend)]
fn other_float_types_take_the_definition(backend: &str) {
    use burn::tensor::FloatDType;
    let Some(device) = testing::device(backend) else { return };
    let Some(entry) = kiln_backend::BACKENDS.iter().find(|entry| entry.name == backend) else { return };
    if !(entry.supports)(&device, FloatDType::F16) || backend == "ndarray" {
        return;
    }
    let x = normal([2, 8, 5, 5], 1, &device);
    let (w, b) = (Tensor::ones([8], &device), Tensor::zeros([8], &device));
    let full = ops::group_norm_act(x.clone(), w.clone(), b.clone(), 4, 1e-5, Activation::Silu);
    let half = ops::group_norm_act(
        x.cast(FloatDType::F16),
        w.cast(FloatDType::F16),
        b.cast(FloatDType::F16),
        4,
        1e-5,
        Activation::Silu,
    );
    assert_close("half", &half.cast(FloatDType::F32).into_data(), &full.into_data(), 4e-3);
}
