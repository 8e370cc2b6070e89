//! [`FusedOps`]: the operations that Burn lacks or is slow at.
//!
//! An operation enters when Burn has none or a slow one, a recorded profile shows it hot, and its composed
//! default is there as the definition. Every override is held to the default, value and gradient, on every
//! backend compiled in.
// The macro names every backend compiled in, the deprecated ndarray among them.
#![cfg_attr(feature = "ndarray", allow(deprecated))]
// Without a backend the macro writes no call of the defaults.
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray", feature = "remote", cube)),
    allow(unused_variables)
)]

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use crate::composed;
use crate::ops::{Activation, AdamWHyper, Causality, FeatureFunction, Taps};

/// What is added to attention's scores before the softmax.
#[derive(ExtensionType, Debug, Clone)]
pub enum AttentionMask<B: Backend> {
    /// Nothing.
    None,
    /// A tensor that broadcasts to `[batch, heads, queries, keys]`; `-inf` hides a key from a query.
    Additive(FloatTensor<B>),
}

/// What a convolution adds to each output channel.
#[derive(ExtensionType, Debug, Clone)]
pub enum Bias<B: Backend> {
    /// Nothing.
    None,
    /// One value a channel, `[out_channels]`.
    PerChannel(FloatTensor<B>),
}

/// Hot operations over a Burn backend's own tensors. Every default body composes Burn's operations and is the
/// definition that overrides are tested against.
///
/// Callers use [`ops`](crate::ops), whose functions take `Tensor<D>`; there the formulas and shapes are written.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(cube),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(cube),
    Autodiff
)]
pub trait FusedOps: Backend {
    /// See [`ops::activation`](crate::ops::activation).
    #[fusion(default)]
    fn activation(x: FloatTensor<Self>, act: Activation) -> FloatTensor<Self> {
        composed::activation::forward::<Self>(x, act)
    }

    /// `grad * act'(x)`.
    #[fusion(default)]
    fn activation_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self> {
        composed::activation::backward::<Self>(x, grad, act)
    }

    /// See [`ops::group_norm_act`](crate::ops::group_norm_act).
    #[fusion(default)]
    fn group_norm_act(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        eps: f64,
        act: Activation,
    ) -> FloatTensor<Self> {
        composed::group_norm::forward::<Self>(x, weight, bias, groups, eps, act)
    }

    /// The gradients of [`group_norm_act`](Self::group_norm_act) with respect to `x`, `weight` and `bias`.
    #[fusion(default)]
    fn group_norm_act_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        groups: usize,
        eps: f64,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::group_norm::backward::<Self>(x, weight, bias, grad, groups, eps, act)
    }

    /// See [`ops::rms_norm`](crate::ops::rms_norm).
    #[fusion(default)]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        composed::rms_norm::forward::<Self>(x, weight, eps)
    }

    /// See [`ops::scaled_dot_product_attention`](crate::ops::scaled_dot_product_attention).
    #[fusion(default)]
    fn scaled_dot_product_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] mask: AttentionMask<Self>,
        causality: Causality,
        scale: f64,
    ) -> FloatTensor<Self> {
        composed::attention::forward::<Self>(query, key, value, mask, causality, scale)
    }

    /// The gradients of [`scaled_dot_product_attention`](Self::scaled_dot_product_attention) with respect to
    /// `query`, `key` and `value`.
    #[fusion(default)]
    fn scaled_dot_product_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] mask: AttentionMask<Self>,
        grad: FloatTensor<Self>,
        causality: Causality,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::attention::backward::<Self>(query, key, value, mask, grad, causality, scale)
    }

    /// See [`ops::linear_attention`](crate::ops::linear_attention).
    #[fusion(default)]
    fn linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        function: FeatureFunction,
        floor: f64,
    ) -> FloatTensor<Self> {
        composed::linear_attention::forward::<Self>(query, key, value, function, floor)
    }

    /// See [`ops::conv2d`](crate::ops::conv2d).
    #[fusion(default)]
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Bias<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        composed::conv::forward::<Self>(x, weight, bias, options)
    }

    /// The gradients of [`convolve`](Self::convolve) with respect to `x`, `weight` and the bias.
    #[fusion(default)]
    fn convolve_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::conv::backward::<Self>(x, weight, grad, options)
    }

    /// `y = R x Cᵗ` on the last two axes of `x`, with `R` = `rows` and `C` = `columns`: every interpolation is one.
    /// Its adjoint is the same operation with both transposed.
    #[fusion(default)]
    fn resample(x: FloatTensor<Self>, rows: Taps, columns: Taps) -> FloatTensor<Self> {
        composed::resample::forward::<Self>(x, &rows, &columns)
    }

    /// See [`ops::conv_transpose2d`](crate::ops::conv_transpose2d).
    #[fusion(default)]
    fn convolve_transposed(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Bias<Self>,
        options: ConvTransposeOptions<2>,
    ) -> FloatTensor<Self> {
        composed::conv_transpose::forward::<Self>(x, weight, bias, options)
    }

    /// The gradients of [`convolve_transposed`](Self::convolve_transposed) with respect to `x`, `weight` and the bias.
    #[fusion(default)]
    fn convolve_transposed_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvTransposeOptions<2>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::conv_transpose::backward::<Self>(x, weight, grad, options)
    }

    /// See [`ops::pixel_shuffle`](crate::ops::pixel_shuffle). Its adjoint is [`pixel_unshuffle`](Self::pixel_unshuffle).
    #[fusion(default)]
    fn pixel_shuffle(x: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        composed::shuffle::forward::<Self>(x, factor)
    }

    /// See [`ops::pixel_unshuffle`](crate::ops::pixel_unshuffle). Its adjoint is [`pixel_shuffle`](Self::pixel_shuffle).
    #[fusion(default)]
    fn pixel_unshuffle(x: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        composed::shuffle::backward::<Self>(x, factor)
    }

    /// See [`ops::max_unpool`](crate::ops::max_unpool).
    #[fusion(default)]
    fn max_unpool(x: FloatTensor<Self>, indices: IntTensor<Self>, outputs: usize) -> FloatTensor<Self> {
        composed::unpooling::forward::<Self>(x, indices, outputs)
    }

    /// The gradient of [`max_unpool`](Self::max_unpool) with respect to `x`.
    #[fusion(default)]
    fn max_unpool_backward(grad: FloatTensor<Self>, indices: IntTensor<Self>) -> FloatTensor<Self> {
        composed::unpooling::backward::<Self>(grad, &indices)
    }

    /// See [`ops::adamw_step`](crate::ops::adamw_step).
    #[fusion(default)]
    fn adamw_step(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first_moment: FloatTensor<Self>,
        second_moment: FloatTensor<Self>,
        hyper: AdamWHyper,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::adamw::step::<Self>(param, grad, first_moment, second_moment, hyper)
    }

    /// See [`ops::amsgrad_step`](crate::ops::amsgrad_step).
    #[fusion(default)]
    fn amsgrad_step(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first_moment: FloatTensor<Self>,
        second_moment: FloatTensor<Self>,
        largest: FloatTensor<Self>,
        hyper: AdamWHyper,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::adamw::amsgrad_step::<Self>(param, grad, first_moment, second_moment, largest, hyper)
    }
}

#[cfg(feature = "ndarray")]
impl FusedOps for burn::backend::NdArray {}

#[cfg(cube)]
impl FusedOps for crate::tensor_backend::CubeBackend {}

// Its operations are sent one by one: what is composed here is computed there. (With a GPU backend beside it Burn wraps this type in its
// fusion layer.)
#[cfg(feature = "remote")]
impl FusedOps for burn_router::BackendRouter<burn_remote::RemoteChannel> {}
