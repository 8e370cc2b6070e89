//! The layers of a [`GuidedUNet`](super::GuidedUNet), named as in OpenAI's files: by their place in a list, where
//! activations and dropout take places too.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use kiln_attention::multi_head;
use kiln_backend::ops::{Activation, AttentionOptions, activation};
use kiln_blocks::{Normalization, NormalizationConfig, Resampling, conv3x3, convolve};

use super::config::GROUPS;

/// The place of SiLU in a list of layers.
#[derive(Module, Debug, Default)]
pub(super) struct Silu {}

impl Silu {
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        activation(x, Activation::Silu)
    }
}

/// Two linear layers around SiLU: `0` and `2`.
pub(super) type Mlp = (Linear, Silu, Linear);

pub(super) fn init_mlp(inputs: usize, width: usize, device: &Device) -> Mlp {
    let linear = |inputs| LinearConfig::new(inputs, width).init(device);
    (linear(inputs), Silu::default(), linear(width))
}

pub(super) fn apply_mlp(mlp: &Mlp, x: Tensor<2>) -> Tensor<2> {
    mlp.2.forward(mlp.1.forward(mlp.0.forward(x)))
}

pub(super) fn init_norm(channels: usize, device: &Device) -> Normalization {
    NormalizationConfig::new(channels, GROUPS).init(device)
}

/// What the residual blocks of a network share.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResidualKind {
    pub time_channels: usize,
    pub scale_shift: bool,
    pub dropout: f64,
}

/// ```text
/// h = in_layers.2(resample(silu(norm(x))))
/// h = out_layers.3(silu(norm(h + W silu(t))))                      or    silu(norm(h) (1 + scale) + shift)
/// y = skip_connection(resample(x)) + h
/// ```
#[derive(Module, Debug)]
pub(super) struct Residual {
    in_layers: (Normalization, Silu, Conv2d),
    emb_layers: (Silu, Linear),
    out_layers: (Normalization, Silu, Dropout, Conv2d),
    skip_connection: Option<Conv2d>,
    scale_shift: bool,
    #[module(skip)]
    resampling: Resampling,
}

impl ResidualKind {
    pub(super) fn init(
        self,
        [channels, out]: [usize; 2],
        resampling: Resampling,
        device: &Device,
    ) -> Residual {
        let projected = if self.scale_shift { 2 * out } else { out };
        Residual {
            in_layers: (init_norm(channels, device), Silu::default(), conv3x3([channels, out], device)),
            emb_layers: (Silu::default(), LinearConfig::new(self.time_channels, projected).init(device)),
            out_layers: (
                init_norm(out, device),
                Silu::default(),
                DropoutConfig::new(self.dropout).init(),
                conv3x3([out, out], device),
            ),
            skip_connection: (channels != out)
                .then(|| Conv2dConfig::new([channels, out], [1, 1]).init(device)),
            scale_shift: self.scale_shift,
            resampling,
        }
    }
}

impl Residual {
    /// `x` is `[batch, channels, height, width]`, `time` `[batch, time_channels]`; a block that enlarges gives the sides
    /// `size`.
    fn forward(&self, x: Tensor<4>, time: Tensor<2>, size: [usize; 2]) -> Tensor<4> {
        let h = self.in_layers.0.forward(x.clone(), Activation::Silu);
        let (x, h) = (self.resampling.apply(x, size), self.resampling.apply(h, size));
        let h = convolve(&self.in_layers.2, h);
        let time: Tensor<4> =
            self.emb_layers.1.forward(self.emb_layers.0.forward(time)).unsqueeze_dims(&[2, 3]);
        let norm = &self.out_layers.0;
        let h = if self.scale_shift {
            let channels = h.dims()[1];
            let [scale, shift] = [0, channels].map(|start| time.clone().narrow(1, start, channels));
            self.out_layers.1.forward(norm.forward(h, Activation::Identity) * (scale + 1.0) + shift)
        } else {
            norm.forward(h + time, Activation::Silu)
        };
        let h = convolve(&self.out_layers.3, self.out_layers.2.forward(h));
        let x = match &self.skip_connection {
            Some(conv) => convolve(conv, x),
            None => x,
        };
        x + h
    }
}

/// How the channels of `qkv` are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QkvOrder {
    /// Into query, key and value, each into heads.
    ThreeThenHeads,
    /// Into heads, each into query, key and value.
    HeadsThenThree,
}

/// `y = x + W_o softmax(q k^T / sqrt(d)) v` over pixels, with `[q, k, v] = W norm(x)`.
#[derive(Module, Debug)]
pub(super) struct PixelAttention {
    norm: Normalization,
    qkv: Conv1d,
    proj_out: Conv1d,
    heads: usize,
    #[module(skip)]
    order: QkvOrder,
}

impl PixelAttention {
    pub(super) fn init(channels: usize, heads: usize, order: QkvOrder, device: &Device) -> Self {
        Self {
            norm: init_norm(channels, device),
            qkv: Conv1dConfig::new(channels, 3 * channels, 1).init(device),
            proj_out: Conv1dConfig::new(channels, channels, 1).init(device),
            heads,
            order,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let h = self.norm.forward(x.clone().reshape([batch, channels, pixels]), Activation::Identity);
        let qkv = pointwise(&self.qkv, h.swap_dims(1, 2));
        let [q, k, v] = match self.order {
            QkvOrder::ThreeThenHeads => [0, 1, 2].map(|i| qkv.clone().narrow(2, i * channels, channels)),
            QkvOrder::HeadsThenThree => {
                let qkv = qkv.reshape([batch, pixels, self.heads, 3, channels / self.heads]);
                [0, 1, 2].map(|i| qkv.clone().narrow(3, i, 1).reshape([batch, pixels, channels]))
            }
        };
        let h = pointwise(&self.proj_out, multi_head(q, k, v, self.heads, AttentionOptions::default()));
        x + h.swap_dims(1, 2).reshape([batch, channels, height, width])
    }
}

/// A convolution over single pixels as the matrix product that it is, `[batch, pixels, in]` to `[batch, pixels, out]`.
fn pointwise(conv: &Conv1d, x: Tensor<3>) -> Tensor<3> {
    let weight: Tensor<2> = conv.weight.val().squeeze_dim(2);
    let y = x.matmul(weight.transpose().unsqueeze());
    match &conv.bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}

/// A change of resolution with a convolution, called `op` on the way down and `conv` on the way up, or with none.
#[derive(Module, Debug)]
pub(super) struct Resample {
    op: Option<Conv2d>,
    conv: Option<Conv2d>,
    #[module(skip)]
    resampling: Resampling,
}

impl Resample {
    pub(super) fn init(resampling: Resampling, convolves: bool, channels: usize, device: &Device) -> Self {
        let op = || {
            Conv2dConfig::new([channels, channels], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Self {
            op: (convolves && resampling == Resampling::Down).then(op),
            conv: (convolves && resampling == Resampling::Up).then(|| conv3x3([channels, channels], device)),
            resampling,
        }
    }

    fn forward(&self, x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        match (&self.op, &self.conv) {
            (Some(halving), _) => convolve(halving, x),
            (None, Some(smoothing)) => convolve(smoothing, self.resampling.apply(x, size)),
            (None, None) => self.resampling.apply(x, size),
        }
    }
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen in a network")]
pub(super) enum Layer {
    Convolution(Conv2d),
    Residual(Residual),
    Attention(PixelAttention),
    Resample(Resample),
}

impl Layer {
    pub(super) fn forward(&self, x: Tensor<4>, time: &Tensor<2>, size: [usize; 2]) -> Tensor<4> {
        match self {
            Self::Convolution(conv) => convolve(conv, x),
            Self::Residual(block) => block.forward(x, time.clone(), size),
            Self::Attention(attention) => attention.forward(x),
            Self::Resample(layer) => layer.forward(x, size),
        }
    }
}
