//! Activations and their derivatives.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};

use crate::ops::{Activation, GELU_CUBIC, QUICK_GELU_SLOPE};

pub fn forward<B: Backend>(x: FloatTensor<B>, act: Activation) -> FloatTensor<B> {
    match act {
        Activation::Identity => x,
        Activation::Silu => B::float_mul(x.clone(), B::sigmoid(x)),
        Activation::Gelu => B::float_mul(x.clone(), normal_cdf::<B>(x)),
        Activation::GeluTanh => {
            let half = B::float_add_scalar(gelu_tanh::<B>(x.clone()), 1.0.into());
            B::float_mul(B::float_mul_scalar(x, 0.5.into()), half)
        }
        Activation::QuickGelu => {
            B::float_mul(x.clone(), B::sigmoid(B::float_mul_scalar(x, QUICK_GELU_SLOPE.into())))
        }
        Activation::Elu => {
            let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
            let negative = B::float_lower_elem(x.clone(), 0.0.into(), bools);
            // Nothing above 0 is mapped: the exponential of a large one is infinite, and its gradient NaN.
            let below = B::float_exp(B::float_clamp_max(x.clone(), 0.0.into()));
            B::float_mask_where(x, negative, B::float_add_scalar(below, (-1.0).into()))
        }
    }
}

pub fn backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>, act: Activation) -> FloatTensor<B> {
    match act {
        Activation::Identity => grad,
        _ => B::float_mul(grad, derivative::<B>(x, act)),
    }
}

fn derivative<B: Backend>(x: FloatTensor<B>, act: Activation) -> FloatTensor<B> {
    match act {
        Activation::Identity => B::float_add_scalar(B::float_mul_scalar(x, 0.0.into()), 1.0.into()),
        Activation::Silu => swish_derivative::<B>(x, 1.0),
        Activation::QuickGelu => swish_derivative::<B>(x, QUICK_GELU_SLOPE),
        // At 0 both sides have 1.
        Activation::Elu => B::float_exp(B::float_clamp_max(x, 0.0.into())),
        Activation::Gelu => {
            // Φ(x) + x φ(x)
            let square = B::float_mul(x.clone(), x.clone());
            let density = B::float_exp(B::float_mul_scalar(square, (-0.5).into()));
            let density = B::float_mul_scalar(density, (1.0 / (2.0 * PI).sqrt()).into());
            B::float_add(normal_cdf::<B>(x.clone()), B::float_mul(x, density))
        }
        Activation::GeluTanh => {
            // (1 + t) / 2 + x (1 - t²) u' / 2, with t = tanh(u)
            let t = gelu_tanh::<B>(x.clone());
            let square = B::float_mul(x.clone(), x.clone());
            let slope =
                B::float_add_scalar(B::float_mul_scalar(square, (3.0 * GELU_CUBIC).into()), 1.0.into());
            let slope = B::float_mul_scalar(slope, (2.0 / PI).sqrt().into());
            let sech2 = B::float_add_scalar(B::float_neg(B::float_mul(t.clone(), t.clone())), 1.0.into());
            let sum =
                B::float_add_scalar(B::float_add(t, B::float_mul(x, B::float_mul(sech2, slope))), 1.0.into());
            B::float_mul_scalar(sum, 0.5.into())
        }
    }
}

/// Φ(x) = (1 + erf(x / √2)) / 2.
fn normal_cdf<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let erf = B::float_erf(B::float_mul_scalar(x, FRAC_1_SQRT_2.into()));
    B::float_mul_scalar(B::float_add_scalar(erf, 1.0.into()), 0.5.into())
}

/// tanh(√(2/π) (x + 0.044715 x³)).
fn gelu_tanh<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let square = B::float_mul(x.clone(), x.clone());
    let cubic = B::float_add_scalar(B::float_mul_scalar(square, GELU_CUBIC.into()), 1.0.into());
    B::float_tanh(B::float_mul_scalar(B::float_mul(x, cubic), (2.0 / PI).sqrt().into()))
}

/// d/dx of x s(βx), with s the logistic function: s (1 + βx (1 - s)).
fn swish_derivative<B: Backend>(x: FloatTensor<B>, beta: f64) -> FloatTensor<B> {
    let scaled = B::float_mul_scalar(x, beta.into());
    let s = B::sigmoid(scaled.clone());
    let rest = B::float_add_scalar(B::float_neg(s.clone()), 1.0.into());
    B::float_mul(s, B::float_add_scalar(B::float_mul(scaled, rest), 1.0.into()))
}
