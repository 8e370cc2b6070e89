//! A control network for [`UNet2D`], a U-Net that is told a class and no prompt: the digits' own, say.
//!
//! ```text
//! skips, x  = way down(conv_in(sample) + embed(picture), t, class)
//! residuals = scale * zero_convolution(skips), scale * zero_convolution(x)
//! y         = U-Net(sample, t, class, skips + residuals)
//! ```
//!
//! Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", whose network this is, for pixels in place of
//! latents: the picture is as large as the sample, so that no convolution that it passes halves it. diffusers has no class for it.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_conditioning::{Control, UNet2DControlNet};
//! use kiln_denoisers::UNet2DConfig;
//! use kiln_denoisers::unet2d::ClassCondition;
//!
//! let config = UNet2DConfig::from_json(
//!     r#"{
//!         "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
//!         "num_class_embeds": 11, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
//!         "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]
//!     }"#,
//! )?;
//! let device = Device::flex();
//! let unet = config.init(&device)?;
//! let network = UNet2DControlNet::from_unet(&unet, &config, &device)?;
//! let noisy = Tensor::zeros([1, 1, 8, 8], &device);
//! let times = Tensor::from_data([999.0], &device);
//! let three = Some(ClassCondition::Labels(Tensor::from_data([3], &device)));
//! let edges = Control::new(Tensor::ones([1, 1, 8, 8], &device));
//! let residuals = network.forward(noisy.clone(), times.clone(), three.clone(), edges);
//! assert_eq!(unet.forward_controlled(noisy, times, three, Some(residuals)).dims(), [1, 1, 8, 8]);
//! # Ok::<(), kiln_conditioning::ConfigError>(())
//! ```

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use kiln_blocks::convolve;
use kiln_checkpoint::ConfigError;
use kiln_denoisers::unet2d::{ClassCondition, UNet2DEncoder};
use kiln_denoisers::unet2d_condition::ControlResiduals;
use kiln_denoisers::{UNet2D, UNet2DConfig};
use serde::{Deserialize, Serialize};

use crate::controlnet::{Control, strengths};
use crate::hint::{ConditioningEmbedding, zero_convolution};

/// Configuration of a [`UNet2DControlNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNet2DControlNetConfig {
    /// The U-Net that is controlled.
    pub unet2d: UNet2DConfig,
    /// Channels of the picture that controls.
    pub conditioning_channels: usize,
    /// Channels of the convolutions that the picture passes, each but the first of which halves its sides.
    pub conditioning_embedding_out_channels: Vec<usize>,
}

/// More channels or convolutions than any network has: a broken file.
const MOST_CHANNELS: usize = 1 << 20;
const MOST_CONVOLUTIONS: usize = 32;

impl UNet2DControlNetConfig {
    /// The config of a network that controls the U-Net of `base` by grey pictures as large as its own.
    #[must_use]
    pub fn beside(base: &UNet2DConfig) -> Self {
        Self { unet2d: base.clone(), conditioning_channels: 1, conditioning_embedding_out_channels: vec![16] }
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.unet2d.validate()?;
        let fail = |field, reason: String| Err(ConfigError::Inconsistent { field, reason });
        let channels = &self.conditioning_embedding_out_channels;
        if channels.is_empty() || channels.len() > MOST_CONVOLUTIONS {
            let reason = format!("has {} entries; expected 1 to {MOST_CONVOLUTIONS}", channels.len());
            return fail("conditioning_embedding_out_channels", reason);
        }
        let given = channels.iter().map(|&count| ("conditioning_embedding_out_channels", count));
        for (field, count) in given.chain([("conditioning_channels", self.conditioning_channels)]) {
            if !(1..=MOST_CHANNELS).contains(&count) {
                return fail(field, format!("is {count}; expected 1 to {MOST_CHANNELS}"));
            }
        }
        Ok(())
    }

    /// The network on `device`, with PyTorch's default initialisation and zeros in the convolutions that its residuals pass.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<UNet2DControlNet, ConfigError> {
        self.validate()?;
        self.around(self.unet2d.init(device)?.encoder(), device)
    }

    fn around(&self, encoder: UNet2DEncoder, device: &Device) -> Result<UNet2DControlNet, ConfigError> {
        self.validate()?;
        let channels = &self.unet2d.block_out_channels;
        let zero = |channels| zero_convolution([channels, channels], 1, device);
        Ok(UNet2DControlNet {
            encoder,
            controlnet_cond_embedding: ConditioningEmbedding::new(
                self.conditioning_channels,
                &self.conditioning_embedding_out_channels,
                channels[0],
                device,
            ),
            controlnet_down_blocks: self.unet2d.skip_channels().into_iter().map(zero).collect(),
            controlnet_mid_block: zero(channels[channels.len() - 1]),
        })
    }
}

/// A copy of a [`UNet2D`]'s way down that looks at a picture; see the [module](self).
#[derive(Module, Debug)]
pub struct UNet2DControlNet {
    encoder: UNet2DEncoder,
    controlnet_cond_embedding: ConditioningEmbedding,
    controlnet_down_blocks: Vec<Conv2d>,
    controlnet_mid_block: Conv2d,
}

impl UNet2DControlNet {
    /// A network that starts as a copy of the way down of `base`, whose config is `config`; its residuals are zeros until it is
    /// trained (Zhang et al. 2023, section 3.1).
    ///
    /// # Errors
    ///
    /// As [`UNet2DControlNetConfig::validate`].
    pub fn from_unet(base: &UNet2D, config: &UNet2DConfig, device: &Device) -> Result<Self, ConfigError> {
        UNet2DControlNetConfig::beside(config).around(base.encoder(), device)
    }

    /// The residuals for a U-Net that predicts from `sample`, `[batch, in_channels, height, width]`, at `timesteps`, `[batch]`, told
    /// a class as `condition`. The control's picture is as large as the sample where no convolution halves it.
    ///
    /// # Panics
    ///
    /// As [`UNet2D::forward_with`], and if the picture's sides don't become the sample's.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        condition: Option<ClassCondition>,
        control: Control,
    ) -> ControlResiduals {
        let shown = control.picture.dims();
        let hint = self.controlnet_cond_embedding.forward(control.picture.cast(sample.dtype()));
        assert_eq!(
            hint.dims()[2..],
            sample.dims()[2..],
            "a picture {shown:?} does not become the sides of the sample {:?}",
            sample.dims()
        );
        let (skips, x) = self.encoder.forward(sample, timesteps, condition, hint);
        let strengths = strengths(skips.len(), control.scale, control.mode);
        let zero_convolutions = self.controlnet_down_blocks.iter().chain([&self.controlnet_mid_block]);
        let mut residuals: Vec<_> = skips
            .into_iter()
            .chain([x])
            .zip(zero_convolutions)
            .zip(strengths)
            .map(|((x, conv), strength)| convolve(conv, x) * strength)
            .collect();
        let mid = residuals.pop().expect("the middle's own");
        ControlResiduals { down: residuals, mid }
    }
}
