//! The network that a [`UNet2DConditionConfig`] describes.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, takes_narrow_kernels};
use kiln_blocks::stage::Resampler;
use kiln_blocks::{
    DownStage, MidStage, Normalization, NormalizationConfig, Sinusoidal, TimestepEmbedding, UpStage, convolve,
};
use kiln_checkpoint::{ConfigError, Pretrained};

use super::conditions::{Conditions, ControlResiduals};
use super::config::{CLASS, UNet2DConditionConfig};
use super::embedding::{AddEmbedding, ClassEmbedding, ContextProjection};
use super::encoder::{Encoder, Joining};
use super::encoder_config::EncoderConfig;
use super::stages::StageKind;

/// U-Net of a `UNet2DConditionModel`; see the [module](super).
#[derive(Module, Debug)]
pub struct UNet2DCondition {
    conv_in: Conv2d,
    time_proj: Sinusoidal,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<ClassEmbedding>,
    add_time_proj: Option<Sinusoidal>,
    add_embedding: Option<AddEmbedding>,
    encoder_hid_proj: Option<ContextProjection>,
    down_blocks: Vec<DownStage>,
    mid_block: Option<MidStage>,
    up_blocks: Vec<UpStage>,
    conv_norm_out: Normalization,
    conv_out: Conv2d,
    #[module(skip)]
    joining: Joining,
    #[module(skip)]
    activation: Activation,
    center_input_sample: bool,
}

impl Pretrained for UNet2DCondition {
    const CLASSES: &'static [&'static str] = &[CLASS];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        UNet2DConditionConfig::from_json(config)?.init(device)
    }

    fn keeps_narrow_kernels(device: &Device) -> bool {
        takes_narrow_kernels(device)
    }
}

/// A convolution with the padding that keeps the sides, where the window's side is odd.
fn convolution(channels: [usize; 2], kernel: usize, device: &Device) -> Conv2d {
    let padding = (kernel - 1) / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .init(device)
}

impl EncoderConfig {
    /// The first convolution. The config has been [validated](EncoderConfig::validate).
    #[must_use]
    pub fn init_conv_in(&self, device: &Device) -> Conv2d {
        convolution([self.in_channels, self.block_out_channels[0]], self.conv_in_kernel, device)
    }
}

impl UNet2DConditionConfig {
    /// The network with PyTorch's default initialisation on `device`; [`seeded`](crate::seeded) makes that reproducible.
    ///
    /// # Errors
    ///
    /// As [`validate`](UNet2DConditionConfig::validate).
    pub fn init(&self, device: &Device) -> Result<UNet2DCondition, ConfigError> {
        self.validate()?;
        let encoder = &self.encoder;
        let first = encoder.block_out_channels[0];
        Ok(UNet2DCondition {
            conv_in: encoder.init_conv_in(device),
            time_proj: encoder.init_time_proj(),
            time_embedding: encoder.init_time_embedding(device),
            class_embedding: encoder.init_class_embedding(device),
            add_time_proj: encoder.init_add_time_proj(),
            add_embedding: encoder.init_add_embedding(device),
            encoder_hid_proj: encoder.init_context_projection(device),
            down_blocks: encoder.init_down(device),
            mid_block: encoder.init_mid(device),
            up_blocks: self.init_up(device),
            conv_norm_out: NormalizationConfig::new(first, encoder.norm_num_groups)
                .with_eps(encoder.norm_eps)
                .init(device),
            conv_out: convolution([first, self.out_channels], self.conv_out_kernel, device),
            joining: encoder.joining(),
            activation: encoder.act_fn.into(),
            center_input_sample: self.center_input_sample,
        })
    }

    fn init_up(&self, device: &Device) -> Vec<UpStage> {
        let encoder = &self.encoder;
        let last = encoder.stages() - 1;
        let mut skips = encoder.skip_channels();
        let mut channels = encoder.block_out_channels[last];
        let mut stages = Vec::new();
        for (i, &kind) in self.up_block_types.iter().enumerate() {
            let (kind, stage) = (StageKind::from(kind), last - i);
            let (out, layers) = (encoder.block_out_channels[stage], encoder.layers(stage) + 1);
            let taken: Vec<usize> = (0..layers).filter_map(|_| skips.pop()).collect();
            let attention = encoder.attention(
                kind,
                stage,
                self.up_head_dim(i),
                self.up_depths(i, layers),
                encoder.first_attention(stage),
            );
            let mut config = encoder.stage(kind, channels, out).with_attention(attention);
            if i == last {
                config = config.with_resampler(Resampler::None);
            }
            stages.push(config.init_up(&taken, device));
            channels = out;
        }
        stages
    }
}

impl UNet2DCondition {
    /// Predict from `sample`, `[batch, in_channels, height, width]`, at `timesteps`, `[batch]` (whole or not), told what
    /// `conditions` hold. `residuals` come from control networks. The result is `[batch, out_channels, height, width]`.
    ///
    /// Sides that don't halve evenly pass: halving rounds up, and the way up gives each stage the sides of the skip
    /// connection that it meets.
    ///
    /// # Panics
    ///
    /// If `timesteps` does not hold one number a sample; if a condition that the network needs is missing, or is of another
    /// kind or width than it was made for; if `residuals` are not as many as the skip connections, or don't fit them.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        conditions: &Conditions,
        residuals: Option<ControlResiduals>,
    ) -> Tensor<4> {
        let sample = if self.center_input_sample { sample * 2.0 - 1.0 } else { sample };
        let mut encoded = self.encoder().forward(sample, timesteps, conditions, None);
        if let Some(residuals) = residuals {
            let (skips, given) = (encoded.skips.len(), residuals.down.len());
            assert_eq!(given, skips, "{given} residuals for the {skips} skip connections");
            let pairs = encoded.skips.into_iter().zip(residuals.down);
            encoded.skips = pairs.map(|(skip, residual)| skip + residual).collect();
            encoded.x = encoded.x + residuals.mid;
        }
        let mut x = encoded.x;
        for stage in &self.up_blocks {
            x = stage.forward_with(x, Some(&encoded.time), encoded.context.as_ref(), &mut encoded.skips);
        }
        convolve(&self.conv_out, self.conv_norm_out.forward(x, self.activation))
    }

    /// The way down and the middle.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder {
            conv_in: &self.conv_in,
            time_proj: &self.time_proj,
            time_embedding: &self.time_embedding,
            class_embedding: self.class_embedding.as_ref(),
            add_time_proj: self.add_time_proj.as_ref(),
            add_embedding: self.add_embedding.as_ref(),
            encoder_hid_proj: self.encoder_hid_proj.as_ref(),
            down_blocks: &self.down_blocks,
            mid_block: self.mid_block.as_ref(),
            joining: self.joining,
        }
    }
}
