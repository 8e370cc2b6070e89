//! The network that an [`AutoencoderKLConfig`] describes.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops::takes_narrow_kernels;
use kiln_blocks::attention::rename_deprecated;
use kiln_blocks::convolve;
use kiln_checkpoint::{ConfigError, Pretrained};

use crate::coder::{Decoder, Encoder};
use crate::config::CLASS;
use crate::tiling::{Scale, in_tiles};
use crate::{AutoencoderKLConfig, DiagonalGaussian, Pieces};

/// Autoencoder of latent diffusion models; see the [crate](crate).
#[derive(Module, Debug)]
pub struct AutoencoderKL {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    #[module(skip)]
    config: AutoencoderKLConfig,
}

impl Pretrained for AutoencoderKL {
    const CLASSES: &'static [&'static str] = &[CLASS];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        AutoencoderKLConfig::from_json(config)?.init(device)
    }

    fn keeps_narrow_kernels(device: &Device) -> bool {
        takes_narrow_kernels(device)
    }

    fn rename(name: &str) -> Option<String> {
        rename_deprecated(name)
    }
}

impl AutoencoderKLConfig {
    /// The network with PyTorch's default initialisation on `device`.
    ///
    /// # Errors
    ///
    /// As [`validate`](AutoencoderKLConfig::validate).
    pub fn init(&self, device: &Device) -> Result<AutoencoderKL, ConfigError> {
        self.validate()?;
        let pointwise = |channels: usize| Conv2dConfig::new([channels, channels], [1, 1]).init(device);
        Ok(AutoencoderKL {
            encoder: self.init_encoder(device),
            decoder: self.init_decoder(device),
            quant_conv: self.use_quant_conv.then(|| pointwise(2 * self.latent_channels)),
            post_quant_conv: self.use_post_quant_conv.then(|| pointwise(self.latent_channels)),
            config: self.clone(),
        })
    }
}

impl AutoencoderKL {
    /// What the network was made from.
    #[must_use]
    pub fn config(&self) -> &AutoencoderKLConfig {
        &self.config
    }

    /// The latents of `image`, `[batch, in_channels, height, width]` in -1..1, as a distribution over
    /// `[batch, latent_channels, height / r, width / r]`, r being the [`reduction`](AutoencoderKLConfig::reduction).
    ///
    /// # Panics
    ///
    /// If a side of the picture is below r, or its channels are others.
    #[must_use]
    pub fn encode(&self, image: Tensor<4>) -> DiagonalGaussian {
        self.encode_in(image, Pieces::Whole)
    }

    /// As [`encode`](Self::encode), cut into pieces.
    ///
    /// # Panics
    ///
    /// As `encode` does.
    #[must_use]
    pub fn encode_in(&self, image: Tensor<4>, pieces: Pieces) -> DiagonalGaussian {
        let scale = Scale { input: self.config.reduction(), output: 1 };
        let moments = through(image, pieces, scale, |image| {
            let moments = self.encoder.forward(image);
            match &self.quant_conv {
                Some(conv) => convolve(conv, moments),
                None => moments,
            }
        });
        DiagonalGaussian::from_moments(moments)
    }

    /// The picture of `latent`, `[batch, latent_channels, height, width]`, as `[batch, out_channels, r height, r width]`,
    /// mostly within -1..1. The latent is taken as it is; one from a denoiser goes through [`unscale`](Self::unscale) first.
    ///
    /// # Panics
    ///
    /// If the latent has other channels.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>) -> Tensor<4> {
        self.decode_in(latent, Pieces::Whole)
    }

    /// As [`decode`](Self::decode), cut into pieces.
    ///
    /// # Panics
    ///
    /// As `decode` does.
    #[must_use]
    pub fn decode_in(&self, latent: Tensor<4>, pieces: Pieces) -> Tensor<4> {
        let scale = Scale { input: 1, output: self.config.reduction() };
        through(latent, pieces, scale, |latent| {
            let latent = match &self.post_quant_conv {
                Some(conv) => convolve(conv, latent),
                None => latent,
            };
            self.decoder.forward(latent)
        })
    }

    /// A latent as a denoiser sees it: `(z - shift_factor) scaling_factor`, or `(z - latents_mean) scaling_factor /
    /// latents_std` where the config has these.
    #[must_use]
    pub fn scale(&self, latent: Tensor<4>) -> Tensor<4> {
        let (mean, deviation) = self.location(&latent);
        (latent - mean) * (deviation.recip() * self.config.scaling_factor)
    }

    /// A denoiser's latent as the decoder takes it: [`scale`](Self::scale) undone.
    #[must_use]
    pub fn unscale(&self, latent: Tensor<4>) -> Tensor<4> {
        let (mean, deviation) = self.location(&latent);
        latent * (deviation / self.config.scaling_factor) + mean
    }

    /// Mean and standard deviation of the channels of a latent, `[1, channels or 1, 1, 1]`.
    fn location(&self, like: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let channels = |values: &[f64]| {
            let data = TensorData::new(values.to_vec(), [1, values.len(), 1, 1]);
            Tensor::<4>::from_data(data, (&like.device(), like.dtype()))
        };
        match (&self.config.latents_mean, &self.config.latents_std) {
            (Some(mean), Some(deviation)) => (channels(mean), channels(deviation)),
            _ => (channels(&[self.config.shift_factor.unwrap_or(0.0)]), channels(&[1.0])),
        }
    }
}

/// A batch through `network`, cut into pieces.
fn through(
    x: Tensor<4>,
    pieces: Pieces,
    scale: Scale,
    network: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    let [batch, _, height, width] = x.dims();
    let one = |i| x.clone().narrow(0, i, 1);
    let each: Vec<Tensor<4>> = match pieces {
        Pieces::Whole => return network(x),
        Pieces::Samples => (0..batch).map(|i| network(one(i))).collect(),
        Pieces::Tiles(tiling) if height.max(width) <= tiling.tile() * scale.input => {
            (0..batch).map(|i| network(one(i))).collect()
        }
        Pieces::Tiles(tiling) => (0..batch).map(|i| in_tiles(&one(i), tiling, scale, &network)).collect(),
    };
    Tensor::cat(each, 0)
}
