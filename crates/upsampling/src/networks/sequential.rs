//! Layers one after another, numbered as PyTorch's `Sequential` numbers them: those without parameters count too.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::nn::{PaddingConfig2d, pool::AdaptiveAvgPool2d, pool::AdaptiveAvgPool2dConfig};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::Activation;
use kiln_backend::ops::activation;

use crate::convolution::convolve;

/// max(0, x) + a min(0, x), with an a to learn for each channel (He et al. 2015; PyTorch: `PReLU`).
#[derive(Module, Debug)]
pub(crate) struct PRelu {
    weight: Param<Tensor<1>>,
}

impl PRelu {
    /// PyTorch's start, a = 1/4.
    pub(crate) fn new(channels: usize, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::full([channels], 0.25, device)) }
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [channels] = self.weight.dims();
        let slope = self.weight.val().reshape([1, channels, 1, 1]);
        relu(x.clone()) - relu(-x) * slope
    }
}

/// A layer of one argument on `[batch, channels, height, width]`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful in a network")]
pub(crate) enum Layer {
    Convolution(Conv2d),
    Norm(BatchNorm),
    PRelu(PRelu),
    Gelu(burn::nn::Gelu),
    Relu(burn::nn::Relu),
    LeakyRelu(burn::nn::LeakyRelu),
    Tanh(burn::nn::Tanh),
    /// The mean over all pixels.
    Mean(AdaptiveAvgPool2d),
}

impl Layer {
    pub(crate) fn conv(channels: [usize; 2], kernel: usize, device: &Device) -> Self {
        Self::Convolution(convolution(channels, kernel, 1, device))
    }

    /// One filter a channel.
    pub(crate) fn depthwise(channels: usize, kernel: usize, device: &Device) -> Self {
        Self::Convolution(convolution([channels; 2], kernel, channels, device))
    }

    pub(crate) fn norm(channels: usize, device: &Device) -> Self {
        Self::Norm(BatchNormConfig::new(channels).init(device))
    }

    pub(crate) fn gelu() -> Self {
        Self::Gelu(burn::nn::Gelu::new())
    }

    pub(crate) fn leaky(slope: f64) -> Self {
        Self::LeakyRelu(burn::nn::LeakyReluConfig::new().with_negative_slope(slope).init())
    }

    pub(crate) fn mean() -> Self {
        Self::Mean(AdaptiveAvgPool2dConfig::new([1, 1]).init())
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Convolution(conv) => convolve(conv, x),
            Self::Norm(norm) => norm.forward(x),
            Self::PRelu(prelu) => prelu.forward(x),
            Self::Gelu(_) => activation(x, Activation::Gelu),
            Self::Relu(_) => relu(x),
            Self::LeakyRelu(leaky) => leaky_relu(x, leaky.negative_slope),
            Self::Tanh(_) => x.tanh(),
            Self::Mean(_) => x.mean_dim(3).mean_dim(2),
        }
    }
}

pub(crate) fn forward(layers: &[Layer], x: Tensor<4>) -> Tensor<4> {
    layers.iter().fold(x, |x, layer| layer.forward(x))
}

/// A convolution with an odd kernel that keeps height and width.
pub(crate) fn convolution(channels: [usize; 2], kernel: usize, groups: usize, device: &Device) -> Conv2d {
    let edge = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(edge, edge, edge, edge))
        .with_groups(groups)
        .init(device)
}

/// A layer of one argument on `[rows, channels]`.
#[derive(Module, Debug)]
pub(crate) enum RowLayer {
    Norm(LayerNorm),
    Relu(burn::nn::Relu),
    Linear(Linear),
}

impl RowLayer {
    /// Normalised, cut off below 0, and mapped to `to` channels.
    pub(crate) fn normalised(from: usize, to: usize, device: &Device) -> Vec<Self> {
        vec![
            Self::Norm(LayerNormConfig::new(from).init(device)),
            Self::Relu(burn::nn::Relu::new()),
            Self::Linear(LinearConfig::new(from, to).init(device)),
        ]
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Norm(norm) => norm.forward(x),
            Self::Relu(_) => relu(x),
            Self::Linear(linear) => linear.forward(x),
        }
    }
}

pub(crate) fn forward_rows(layers: &[RowLayer], x: Tensor<2>) -> Tensor<2> {
    layers.iter().fold(x, |x, layer| layer.forward(x))
}
