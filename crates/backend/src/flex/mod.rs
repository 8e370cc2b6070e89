//! The CPU kernels: threads by rayon, SIMD by loops that the compiler vectorises for the instruction set that
//! [`pulp::Arch`] finds at run time. They take f32; other types take the composed definition.

mod activation;
mod adamw;
mod attention;
mod conv;
mod conv_transpose;
mod floats;
mod fresh;
mod gemm;
mod group_norm;
mod interleave;
mod linear_attention;
mod math;
mod product;
mod resample;
mod rms_norm;
mod shuffle;
mod unpooling;
#[cfg(test)]
mod widths;
mod winograd;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, TensorData};

use floats::Floats;

use crate::ops::{Activation, AdamWHyper, Causality, FeatureFunction, Taps};
use crate::{AttentionMask, Bias, FusedOps, composed};

type FlexTensor = FloatTensor<Flex>;

impl FusedOps for Flex {
    fn activation(x: FlexTensor, act: Activation) -> FlexTensor {
        match all_f32([&x]) {
            true => activation::forward(x, act),
            false => composed::activation::forward::<Self>(x, act),
        }
    }

    fn activation_backward(x: FlexTensor, grad: FlexTensor, act: Activation) -> FlexTensor {
        match all_f32([&x, &grad]) {
            true => activation::backward(x, grad, act),
            false => composed::activation::backward::<Self>(x, grad, act),
        }
    }

    fn group_norm_act(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        groups: usize,
        eps: f64,
        act: Activation,
    ) -> FlexTensor {
        match all_f32([&x, &weight, &bias]) {
            true => group_norm::forward(x, weight, bias, groups, eps, act),
            false => composed::group_norm::forward::<Self>(x, weight, bias, groups, eps, act),
        }
    }

    fn group_norm_act_backward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        grad: FlexTensor,
        groups: usize,
        eps: f64,
        act: Activation,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        match all_f32([&x, &weight, &bias, &grad]) {
            true => group_norm::backward(x, weight, bias, grad, groups, eps, act),
            false => composed::group_norm::backward::<Self>(x, weight, bias, grad, groups, eps, act),
        }
    }

    fn scaled_dot_product_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        mask: AttentionMask<Self>,
        causality: Causality,
        scale: f64,
    ) -> FlexTensor {
        match all_f32([&query, &key, &value]) && mask_is_f32(&mask) {
            true => attention::forward(query, key, value, mask, causality, scale),
            false => composed::attention::forward::<Self>(query, key, value, mask, causality, scale),
        }
    }

    fn scaled_dot_product_attention_backward(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        mask: AttentionMask<Self>,
        grad: FlexTensor,
        causality: Causality,
        scale: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        match all_f32([&query, &key, &value, &grad]) && mask_is_f32(&mask) {
            true => attention::backward(query, key, value, mask, grad, causality, scale),
            false => composed::attention::backward::<Self>(query, key, value, mask, grad, causality, scale),
        }
    }

    fn linear_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        function: FeatureFunction,
        floor: f64,
    ) -> FlexTensor {
        match all_f32([&query, &key, &value]) {
            true => linear_attention::forward(query, key, value, function, floor),
            false => composed::linear_attention::forward::<Self>(query, key, value, function, floor),
        }
    }

    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        match all_f32([&x, &weight]) {
            true => rms_norm::forward(x, weight, eps),
            false => composed::rms_norm::forward::<Self>(x, weight, eps),
        }
    }

    fn convolve(x: FlexTensor, weight: FlexTensor, bias: Bias<Self>, options: ConvOptions<2>) -> FlexTensor {
        match all_f32([&x]) && Floats::are(weight.dtype()) && bias_is_f32(&bias) && conv::takes(&options) {
            true => conv::forward(x, weight, bias, &options),
            false => composed::conv::forward::<Self>(x, weight, bias, options),
        }
    }

    fn convolve_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        options: ConvOptions<2>,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        match all_f32([&x, &weight, &grad]) && conv::takes(&options) {
            true => conv::backward(x, weight, grad, &options),
            false => composed::conv::backward::<Self>(x, weight, grad, options),
        }
    }

    fn resample(x: FlexTensor, rows: Taps, columns: Taps) -> FlexTensor {
        match all_f32([&x]) {
            true => resample::forward(x, &rows, &columns),
            false => composed::resample::forward::<Self>(x, &rows, &columns),
        }
    }

    fn convolve_transposed(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Bias<Self>,
        options: ConvTransposeOptions<2>,
    ) -> FlexTensor {
        match all_f32([&x, &weight]) && bias_is_f32(&bias) && conv_transpose::takes(&options) {
            true => conv_transpose::forward(x, weight, bias, &options),
            false => composed::conv_transpose::forward::<Self>(x, weight, bias, options),
        }
    }

    fn pixel_shuffle(x: FlexTensor, factor: usize) -> FlexTensor {
        match all_f32([&x]) {
            true => shuffle::forward(x, factor),
            false => composed::shuffle::forward::<Self>(x, factor),
        }
    }

    fn pixel_unshuffle(x: FlexTensor, factor: usize) -> FlexTensor {
        match all_f32([&x]) {
            true => shuffle::backward(x, factor),
            false => composed::shuffle::backward::<Self>(x, factor),
        }
    }

    fn max_unpool(x: FlexTensor, indices: FlexTensor, outputs: usize) -> FlexTensor {
        match all_f32([&x]) && unpooling::takes(&indices) {
            true => unpooling::forward(x, &indices, outputs),
            false => composed::unpooling::forward::<Self>(x, indices, outputs),
        }
    }

    fn max_unpool_backward(grad: FlexTensor, indices: FlexTensor) -> FlexTensor {
        match all_f32([&grad]) && unpooling::takes(&indices) {
            true => unpooling::backward(grad, &indices),
            false => composed::unpooling::backward::<Self>(grad, &indices),
        }
    }

    fn adamw_step(
        param: FlexTensor,
        grad: FlexTensor,
        first_moment: FlexTensor,
        second_moment: FlexTensor,
        hyper: AdamWHyper,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        match all_f32([&param, &grad, &first_moment, &second_moment]) {
            true => adamw::step(param, grad, first_moment, second_moment, hyper),
            false => composed::adamw::step::<Self>(param, grad, first_moment, second_moment, hyper),
        }
    }

    fn amsgrad_step(
        param: FlexTensor,
        grad: FlexTensor,
        first_moment: FlexTensor,
        second_moment: FlexTensor,
        largest: FlexTensor,
        hyper: AdamWHyper,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        match all_f32([&param, &grad, &first_moment, &second_moment, &largest]) {
            true => adamw::amsgrad_step(param, grad, first_moment, second_moment, largest, hyper),
            false => composed::adamw::amsgrad_step::<Self>(
                param,
                grad,
                first_moment,
                second_moment,
                largest,
                hyper,
            ),
        }
    }
}

fn all_f32<const N: usize>(tensors: [&FlexTensor; N]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32)
}

fn bias_is_f32(bias: &Bias<Flex>) -> bool {
    match bias {
        Bias::None => true,
        Bias::PerChannel(bias) => bias.dtype() == DType::F32,
    }
}

fn mask_is_f32(mask: &AttentionMask<Flex>) -> bool {
    match mask {
        AttentionMask::None => true,
        AttentionMask::Additive(mask) => mask.dtype() == DType::F32,
    }
}

/// Runs `work` compiled for the best instruction set that this machine has. `work` is inlined into that, so it has
/// to be a closure around loops, not a call.
#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// A tensor of these values.
fn tensor(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// The values of a contiguous f32 tensor.
fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice::<f32>().expect("kernels make their inputs contiguous and are called for f32 alone")
}

/// `x` in one piece, from the start of its storage to its end.
fn contiguous(x: FlexTensor) -> FlexTensor {
    let whole = x.bytes().len() == x.shape().num_elements() * x.dtype().size();
    // The borrowing `to_contiguous` keeps a second handle alive, after which nothing is in place any more.
    if whole && x.is_contiguous() { x } else { x.to_contiguous() }
}

/// `x` in one piece and held by nobody else: itself where that is so, a copy otherwise. Its values may be written.
fn owned(x: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    if x.is_unique() { x } else { tensor(values(&x).to_vec(), x.shape().to_vec()) }
}

/// How many values a thread takes at a time, in work that goes value by value: a share of the L2 cache.
const CHUNK: usize = 1 << 14;
