//! All layers of an autoencoder at one resolution (diffusers: `DownEncoderBlock2D`, `UpDecoderBlock2D` and their kin with
//! attention). A U-Net's stages keep what each layer gave, for the way up; here it is let go of.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::Activation;
use kiln_blocks::{
    Downsample, DownsampleConfig, ResnetBlock, ResnetBlockConfig, SpatialAttention, SpatialAttentionConfig,
    Upsample, UpsampleConfig,
};

/// Added to the variance in every norm of an autoencoder.
pub(crate) const EPS: f64 = 1e-6;

/// What ends a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resampler {
    None,
    Halving,
    Doubling,
}

/// What a [`Stage`] is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    pub layers: usize,
    pub groups: usize,
    pub activation: Activation,
    pub attention: bool,
    pub resampler: Resampler,
}

#[derive(Module, Debug)]
pub(crate) struct Stage {
    attentions: Vec<SpatialAttention>,
    resnets: Vec<ResnetBlock>,
    downsamplers: Vec<Downsample>,
    upsamplers: Vec<Upsample>,
}

impl StageConfig {
    pub(crate) fn init(&self, device: &Device) -> Stage {
        let Self { in_channels, out_channels, layers, groups, .. } = *self;
        let resnet = |layer| {
            ResnetBlockConfig::new(if layer == 0 { in_channels } else { out_channels }, out_channels)
                .with_groups(groups)
                .with_eps(EPS)
                .with_activation(self.activation)
                .init(device)
        };
        // A single head.
        let attention = || {
            SpatialAttentionConfig::new(out_channels, out_channels)
                .with_groups(Some(groups))
                .with_eps(EPS)
                .init(device)
        };
        // A row below and a column to the right, no more.
        let halving = || DownsampleConfig::new(out_channels).with_padding(0).init(device);
        let doubling = || UpsampleConfig::new(out_channels).init(device);
        Stage {
            attentions: (0..layers).filter(|_| self.attention).map(|_| attention()).collect(),
            resnets: (0..layers).map(resnet).collect(),
            downsamplers: (self.resampler == Resampler::Halving).then(halving).into_iter().collect(),
            upsamplers: (self.resampler == Resampler::Doubling).then(doubling).into_iter().collect(),
        }
    }
}

impl Stage {
    /// `[batch, in_channels, height, width]` to `[batch, out_channels, ...]`, the sides halved, doubled or neither.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, None);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
        }
        let x = self.downsamplers.iter().fold(x, |x, layer| layer.forward(x));
        self.upsamplers.iter().fold(x, |x, layer| {
            let [_, _, height, width] = x.dims();
            layer.forward(x, [2 * height, 2 * width])
        })
    }
}
