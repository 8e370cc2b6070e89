//! Activations, one pass over memory, threads over chunks.

use burn::backend::TensorMetadata;
use rayon::prelude::*;

use super::{CHUNK, FlexTensor, contiguous, fresh, math, tensor, values, vectorised};
use crate::ops::{Activation, GELU_CUBIC, QUICK_GELU_SLOPE};

const GELU_SLOPE: f32 = 0.797_884_6; // √(2/π)
const GELU_CUBE: f32 = GELU_CUBIC as f32;
const QUICK_SLOPE: f32 = QUICK_GELU_SLOPE as f32;

/// Evaluates `$body` with `$f` the function `$act`, one arm each: a loop in it then has no choice inside.
macro_rules! with_activation {
    ($act:expr, $f:ident => $body:expr) => {{
        use crate::flex::activation as a;
        match $act {
            Activation::Identity => {
                let $f = |x: f32| x;
                $body
            }
            Activation::Silu => {
                let $f = a::silu;
                $body
            }
            Activation::Gelu => {
                let $f = a::gelu;
                $body
            }
            Activation::GeluTanh => {
                let $f = a::gelu_tanh;
                $body
            }
            Activation::QuickGelu => {
                let $f = a::quick_gelu;
                $body
            }
            Activation::Elu => {
                let $f = a::elu;
                $body
            }
        }
    }};
}

/// The same with the derivative of `$act`.
macro_rules! with_derivative {
    ($act:expr, $f:ident => $body:expr) => {{
        use crate::flex::activation as a;
        match $act {
            Activation::Identity => {
                let $f = |_: f32| 1.0_f32;
                $body
            }
            Activation::Silu => {
                let $f = a::silu_derivative;
                $body
            }
            Activation::Gelu => {
                let $f = a::gelu_derivative;
                $body
            }
            Activation::GeluTanh => {
                let $f = a::gelu_tanh_derivative;
                $body
            }
            Activation::QuickGelu => {
                let $f = a::quick_gelu_derivative;
                $body
            }
            Activation::Elu => {
                let $f = a::elu_derivative;
                $body
            }
        }
    }};
}
pub(super) use {with_activation, with_derivative};

#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x * math::logistic(x)
}

#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    x * math::normal_cdf(x)
}

#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + math::tanh(GELU_SLOPE * (x + GELU_CUBE * x * x * x)))
}

#[inline(always)]
pub(super) fn quick_gelu(x: f32) -> f32 {
    x * math::logistic(QUICK_SLOPE * x)
}

#[inline(always)]
pub(super) fn elu(x: f32) -> f32 {
    let below = math::exp_nonpositive(if x < 0.0 { x } else { 0.0 }) - 1.0;
    if x < 0.0 { below } else { x }
}

/// s (1 + x (1 - s)), with s the logistic function of x.
#[inline(always)]
pub(super) fn silu_derivative(x: f32) -> f32 {
    let s = math::logistic(x);
    s * (1.0 + x * (1.0 - s))
}

/// Φ(x) + x φ(x).
#[inline(always)]
pub(super) fn gelu_derivative(x: f32) -> f32 {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    math::normal_cdf(x) + x * DENSITY_AT_ZERO * math::exp_nonpositive(-0.5 * x * x)
}

/// (1 + t + x (1 - t²) u') / 2, with t = tanh u.
#[inline(always)]
pub(super) fn gelu_tanh_derivative(x: f32) -> f32 {
    let t = math::tanh(GELU_SLOPE * (x + GELU_CUBE * x * x * x));
    let slope = GELU_SLOPE * (1.0 + 3.0 * GELU_CUBE * x * x);
    0.5 * (1.0 + t + x * (1.0 - t * t) * slope)
}

/// d/dx of x s(βx) is that of SiLU at βx.
#[inline(always)]
pub(super) fn quick_gelu_derivative(x: f32) -> f32 {
    silu_derivative(QUICK_SLOPE * x)
}

#[inline(always)]
pub(super) fn elu_derivative(x: f32) -> f32 {
    math::exp_nonpositive(if x < 0.0 { x } else { 0.0 })
}

pub(super) fn forward(x: FlexTensor, act: Activation) -> FlexTensor {
    let mut x = contiguous(x);
    if !x.is_unique() {
        let shape = x.shape().to_vec();
        return tensor(with_activation!(act, f => fresh::mapped(values(&x), f)), shape);
    }
    x.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(|chunk| {
        with_activation!(act, f => vectorised(
            #[inline(always)]
            || for v in chunk.iter_mut() {
                *v = f(*v);
            }
        ));
    });
    x
}

pub(super) fn backward(x: FlexTensor, grad: FlexTensor, act: Activation) -> FlexTensor {
    let shape = x.shape().to_vec();
    let (x, grad) = (contiguous(x), contiguous(grad));
    tensor(with_derivative!(act, f => fresh::zipped(values(&x), values(&grad), |x, grad| grad * f(x))), shape)
}
