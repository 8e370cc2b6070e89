//! A block: attention, in windows or over channels, then a gated network; each with a norm before and a shortcut past it.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::Activation;
use kiln_backend::ops::activation;

use super::super::sequential::convolution;
use super::channel::ChannelAttention;
use super::spatial::SpatialAttention;
use super::window::Shift;
use super::{to_planes, to_rows};

pub(super) struct BlockConfig {
    pub features: usize,
    pub heads: usize,
    pub window: [usize; 2],
    /// Hidden features of the gated network.
    pub hidden: usize,
    /// The group's index, and the block's in it.
    pub place: [usize; 2],
}

#[derive(Module, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    ffn: Gated,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen in a network")]
enum Attention {
    Spatial(SpatialAttention),
    Channel(ChannelAttention),
}

impl BlockConfig {
    pub(super) fn init(&self, device: &Device) -> Block {
        let Self { features, heads, window, hidden, place: [group, block] } = *self;
        // Every second block attends in windows, and every second of these in shifted ones, beginning with the second
        // of an even group and the first of an odd one.
        let shift = if block % 4 == 2 * usize::from(group % 2 == 0) { Shift::Half } else { Shift::None };
        let attn = if block % 2 == 0 {
            Attention::Spatial(SpatialAttention::new(features, heads, window, shift, device))
        } else {
            Attention::Channel(ChannelAttention::new(features, heads, device))
        };
        let norm = || LayerNormConfig::new(features).init(device);
        Block { norm1: norm(), attn, norm2: norm(), ffn: Gated::new(features, hidden, device) }
    }
}

impl Block {
    /// `[batch, height width, features]` to the same.
    pub(super) fn forward(&self, x: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
        let normed = self.norm1.forward(x.clone());
        let x = x + match &self.attn {
            Attention::Spatial(attention) => attention.forward(normed, size),
            Attention::Channel(attention) => attention.forward(normed, size),
        };
        x.clone() + self.ffn.forward(self.norm2.forward(x), size)
    }
}

/// fc2(a · conv(norm(b))), with [a, b] = gelu(fc1(x)): one half gates the other, which looks at its neighbours (the
/// paper's spatial-gate feed-forward network).
#[derive(Module, Debug)]
struct Gated {
    fc1: Linear,
    sg: Gate,
    fc2: Linear,
}

#[derive(Module, Debug)]
struct Gate {
    norm: LayerNorm,
    conv: Conv2d,
}

impl Gated {
    fn new(features: usize, hidden: usize, device: &Device) -> Self {
        let half = hidden / 2;
        Self {
            fc1: LinearConfig::new(features, hidden).init(device),
            sg: Gate {
                norm: LayerNormConfig::new(half).init(device),
                conv: convolution([half; 2], 3, half, device),
            },
            fc2: LinearConfig::new(half, features).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
        let hidden = activation(self.fc1.forward(x), Activation::Gelu);
        let [_, _, width] = hidden.dims();
        let gated = hidden.clone().narrow(2, 0, width / 2);
        let gate = self.sg.norm.forward(hidden.narrow(2, width / 2, width / 2));
        let gate = to_rows(crate::convolution::convolve(&self.sg.conv, to_planes(gate, size)));
        self.fc2.forward(gated * gate)
    }
}
