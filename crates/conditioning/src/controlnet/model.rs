//! The network that a [`ControlNetConfig`] describes.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::Conv2d;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use kiln_backend::ops::takes_narrow_kernels;
use kiln_blocks::{DownStage, MidStage, Sinusoidal, TimestepEmbedding, convolve};
use kiln_checkpoint::{ConfigError, Pretrained};
use kiln_denoisers::unet2d_condition::{
    AddEmbedding, ClassEmbedding, Conditions, ControlResiduals, Encoder, Joining,
};
use kiln_denoisers::{UNet2DCondition, UNet2DConditionConfig};

use super::config::{CLASS, ChannelOrder, ControlNetConfig};
use crate::hint::{ConditioningEmbedding, zero_convolution};

/// How strongly each residual counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlMode {
    /// All alike: the prompt says what there is, the picture where.
    #[default]
    Prompted,
    /// From 0.1 for the outermost skip connection to 1 for the middle, evenly in their logarithms: for no prompt, so that
    /// the picture says it all (diffusers: `guess_mode`). A network that pools its residuals takes it as
    /// [`Prompted`](Self::Prompted).
    Guess,
}

/// What each residual is multiplied with, the middle's last.
pub(crate) fn strengths(skips: usize, scale: f64, mode: ControlMode) -> Vec<f64> {
    let exponent = |i: usize| match mode {
        ControlMode::Prompted => 0.0,
        ControlMode::Guess => i as f64 / skips as f64 - 1.0,
    };
    (0..=skips).map(|i| scale * 10f64.powf(exponent(i))).collect()
}

/// What a control network is shown, and how strongly its residuals count.
#[derive(Clone, Debug)]
pub struct Control {
    /// The picture in 0..1, `[batch, conditioning_channels, height, width]`, with sides that the network's convolutions
    /// bring to those of the sample: eight times them, for Stable Diffusion.
    pub picture: Tensor<4>,
    /// Multiplies every residual (diffusers: `conditioning_scale`).
    pub scale: f64,
    /// How strongly each counts.
    pub mode: ControlMode,
}

impl Control {
    /// A picture with scale 1.
    #[must_use]
    pub fn new(picture: Tensor<4>) -> Self {
        Self { picture, scale: 1.0, mode: ControlMode::Prompted }
    }
}

/// Network of a `ControlNetModel`; see the [module](super).
#[derive(Module, Debug)]
pub struct ControlNet {
    conv_in: Conv2d,
    time_proj: Sinusoidal,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<ClassEmbedding>,
    add_time_proj: Option<Sinusoidal>,
    add_embedding: Option<AddEmbedding>,
    controlnet_cond_embedding: ConditioningEmbedding,
    down_blocks: Vec<DownStage>,
    mid_block: MidStage,
    controlnet_down_blocks: Vec<Conv2d>,
    controlnet_mid_block: Conv2d,
    #[module(skip)]
    joining: Joining,
    #[module(skip)]
    channel_order: ChannelOrder,
    global_pool_conditions: bool,
}

impl Pretrained for ControlNet {
    const CLASSES: &'static [&'static str] = &[CLASS];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        ControlNetConfig::from_json(config)?.init(device)
    }

    fn keeps_narrow_kernels(device: &Device) -> bool {
        takes_narrow_kernels(device)
    }
}

impl ControlNetConfig {
    /// The network on `device`, with PyTorch's default initialisation and zeros in the convolutions that its residuals pass.
    ///
    /// # Errors
    ///
    /// As [`validate`](ControlNetConfig::validate).
    pub fn init(&self, device: &Device) -> Result<ControlNet, ConfigError> {
        self.validate()?;
        let encoder = &self.encoder;
        let Some(mid_block) = encoder.init_mid(device) else {
            let reason = "is null; a control network needs a middle".to_owned();
            return Err(ConfigError::Inconsistent { field: "mid_block_type", reason });
        };
        let zero = |channels| zero_convolution([channels, channels], 1, device);
        let innermost = encoder.block_out_channels[encoder.stages() - 1];
        Ok(ControlNet {
            conv_in: encoder.init_conv_in(device),
            time_proj: encoder.init_time_proj(),
            time_embedding: encoder.init_time_embedding(device),
            class_embedding: encoder.init_class_embedding(device),
            add_time_proj: encoder.init_add_time_proj(),
            add_embedding: encoder.init_add_embedding(device),
            controlnet_cond_embedding: ConditioningEmbedding::new(
                self.conditioning_channels,
                &self.conditioning_embedding_out_channels,
                encoder.block_out_channels[0],
                device,
            ),
            down_blocks: encoder.init_down(device),
            mid_block,
            controlnet_down_blocks: encoder.skip_channels().into_iter().map(zero).collect(),
            controlnet_mid_block: zero(innermost),
            joining: encoder.joining(),
            channel_order: self.controlnet_conditioning_channel_order,
            global_pool_conditions: self.global_pool_conditions,
        })
    }
}

/// What is to learn does so in the device's type, not in the 16 bits that kernels may have come in.
struct Widened(FloatDType);

impl ModuleMapper for Widened {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if DType::from(self.0) == param.dtype() { param } else { param.map(|value| value.cast(self.0)) }
    }
}

impl ControlNet {
    /// A network that starts as a copy of the way down of `base`, whose config is `config`; its residuals are zeros until it
    /// is trained (Zhang et al. 2023, section 3.1).
    ///
    /// # Errors
    ///
    /// As [`ControlNetConfig::validate`], for a U-Net that a control network can't copy.
    pub fn from_unet(
        base: &UNet2DCondition,
        config: &UNet2DConditionConfig,
        device: &Device,
    ) -> Result<Self, ConfigError> {
        let new = ControlNetConfig::beside(config).init(device)?;
        let encoder = base.encoder();
        let copy = Self {
            conv_in: encoder.conv_in.clone(),
            time_embedding: encoder.time_embedding.clone(),
            class_embedding: encoder.class_embedding.cloned(),
            add_embedding: encoder.add_embedding.cloned(),
            down_blocks: encoder.down_blocks.to_vec(),
            mid_block: encoder.mid_block.cloned().unwrap_or_else(|| new.mid_block.clone()),
            ..new
        };
        Ok(copy.map(&mut Widened(device.settings().float_dtype)))
    }

    /// The residuals for a U-Net that predicts from `sample`, `[batch, in_channels, height, width]`, at `timesteps`,
    /// `[batch]`, told what `conditions` hold.
    ///
    /// # Panics
    ///
    /// As [`UNet2DCondition::forward`], and if the picture's sides don't become the sample's.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        conditions: &Conditions,
        control: Control,
    ) -> ControlResiduals {
        let picture = match self.channel_order {
            ChannelOrder::Rgb => control.picture,
            ChannelOrder::Bgr => control.picture.flip([1]),
        };
        let shown = picture.dims();
        let hint = self.controlnet_cond_embedding.forward(picture.cast(sample.dtype()));
        assert_eq!(
            hint.dims()[2..],
            sample.dims()[2..],
            "a picture {shown:?} does not become the sides of the sample {:?}",
            sample.dims()
        );
        let encoded = self.encoder().forward(sample, timesteps, conditions, Some(hint));

        let mode = if self.global_pool_conditions { ControlMode::Prompted } else { control.mode };
        let strengths = strengths(encoded.skips.len(), control.scale, mode);
        let zero_convolutions = self.controlnet_down_blocks.iter().chain([&self.controlnet_mid_block]);
        let mut residuals: Vec<_> = encoded
            .skips
            .into_iter()
            .chain([encoded.x])
            .zip(zero_convolutions)
            .zip(strengths)
            .map(|((x, conv), strength)| self.pool(convolve(conv, x) * strength))
            .collect();
        let mid = residuals.pop().expect("the middle's own");
        ControlResiduals { down: residuals, mid }
    }

    fn pool(&self, residual: Tensor<4>) -> Tensor<4> {
        if self.global_pool_conditions { residual.mean_dim(2).mean_dim(3) } else { residual }
    }

    fn encoder(&self) -> Encoder<'_> {
        Encoder {
            conv_in: &self.conv_in,
            time_proj: &self.time_proj,
            time_embedding: &self.time_embedding,
            class_embedding: self.class_embedding.as_ref(),
            add_time_proj: self.add_time_proj.as_ref(),
            add_embedding: self.add_embedding.as_ref(),
            encoder_hid_proj: None,
            down_blocks: &self.down_blocks,
            mid_block: Some(&self.mid_block),
            joining: self.joining,
        }
    }
}

/// The residuals of several networks, each shown a picture of its own, added up (diffusers: `MultiControlNetModel`); `None`
/// where there are no networks.
///
/// # Panics
///
/// As [`ControlNet::forward`], and if the networks don't control the same U-Net.
#[must_use]
pub fn multi_control<'a>(
    networks: impl IntoIterator<Item = (&'a ControlNet, Control)>,
    sample: &Tensor<4>,
    timesteps: &Tensor<1>,
    conditions: &Conditions,
) -> Option<ControlResiduals> {
    networks
        .into_iter()
        .map(|(network, control)| network.forward(sample.clone(), timesteps.clone(), conditions, control))
        .reduce(ControlResiduals::plus)
}
