//! The networks that a picture model may have, behind one way of asking them.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_denoisers::{
    ConfigError, Ncsn, NcsnConfig, SD3Transformer2D, SD3Transformer2DConfig, UNet2D, UNet2DConfig,
};
use serde::{Deserialize, Serialize};

/// Which network a picture model has, and of what size.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one in a model")]
pub enum NetworkConfig {
    /// A U-Net.
    UNet2D(UNet2DConfig),
    /// MM-DiT, the transformer of Stable Diffusion 3, with a table of classes in place of a prompt.
    MmDit(MmDitConfig),
    /// A score network of SMLD, for pictures in -1 to 1 (`rescaled`), without classes.
    Ncsn(NcsnConfig),
}

/// MM-DiT with a table of classes: a class is the prompt's one token, and its pooled form too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmDitConfig {
    /// The transformer; its `joint_attention_dim` and `pooled_projection_dim` are the width of a row of the table.
    pub transformer: SD3Transformer2DConfig,
    /// Rows of the table: the classes, and one for "no class".
    pub classes: usize,
}

/// A transformer over patches that is told a class; see [`MmDitConfig`].
#[derive(Module, Debug)]
pub struct MmDit {
    transformer: SD3Transformer2D,
    class_embedding: Embedding,
}

/// The network of a picture model.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a model")]
pub enum PictureNetwork {
    /// A U-Net.
    UNet2D(UNet2D),
    /// MM-DiT.
    MmDit(MmDit),
    /// A score network of SMLD.
    Ncsn(Ncsn),
}

/// What training asks of a network.
pub trait Drawing: Module {
    /// The network's output at `x`, `[batch, channels, height, width]`, for `times` and `labels`, `[batch]`; the same shape as `x`.
    fn predict(&self, x: Tensor<4>, times: Tensor<1>, labels: Option<Tensor<1, Int>>) -> Tensor<4>;

    /// The largest attention logit of each block, `[blocks]`, where the network tells it.
    fn largest_logits(
        &self,
        x: Tensor<4>,
        times: Tensor<1>,
        labels: Option<Tensor<1, Int>>,
    ) -> Option<Tensor<1>> {
        let _ = (x, times, labels);
        None
    }

    /// As the network of a picture model.
    fn into_network(self) -> PictureNetwork;
}

impl NetworkConfig {
    /// The network with PyTorch's default initialisation on `device`.
    ///
    /// # Errors
    /// [`ConfigError`] with the field that makes no network.
    pub fn init(&self, device: &Device) -> Result<PictureNetwork, ConfigError> {
        Ok(match self {
            Self::UNet2D(config) => PictureNetwork::UNet2D(config.init(device)?),
            Self::MmDit(config) => PictureNetwork::MmDit(config.init(device)?),
            Self::Ncsn(config) => PictureNetwork::Ncsn(config.init(device)?),
        })
    }

    /// Channels of a picture.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::UNet2D(config) => config.in_channels,
            Self::MmDit(config) => config.transformer.in_channels,
            Self::Ncsn(config) => config.channels,
        }
    }

    /// The class that its authors or diffusers wrote it as.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::UNet2D(_) => "UNet2DModel",
            Self::MmDit(_) => "SD3Transformer2DModel",
            Self::Ncsn(config) => config.architecture.class(),
        }
    }

    /// The levels of noise that the network knows, where it knows no others: even steps of the time from 0 to 1.
    pub(crate) fn levels(&self) -> Option<usize> {
        match self {
            Self::UNet2D(_) | Self::MmDit(_) => None,
            Self::Ncsn(config) => Some(config.num_classes),
        }
    }
}

impl MmDitConfig {
    /// The network with PyTorch's default initialisation on `device`.
    ///
    /// # Errors
    /// [`ConfigError`] with the field that makes no network.
    pub fn init(&self, device: &Device) -> Result<MmDit, ConfigError> {
        let SD3Transformer2DConfig { joint_attention_dim, pooled_projection_dim, .. } = self.transformer;
        if joint_attention_dim != pooled_projection_dim {
            return Err(ConfigError::Inconsistent {
                field: "pooled_projection_dim",
                reason: format!(
                    "is {pooled_projection_dim}, and a class has {joint_attention_dim} channels, as joint_attention_dim says"
                ),
            });
        }
        Ok(MmDit {
            transformer: self.transformer.init(device)?,
            class_embedding: EmbeddingConfig::new(self.classes, joint_attention_dim).init(device),
        })
    }
}

impl MmDit {
    /// A class as a prompt of one token, `[batch, 1, channels]`, and as its pooled form, `[batch, channels]`.
    ///
    /// # Panics
    /// If there are no labels: "no class" is a class of its own.
    fn prompt(&self, labels: Option<Tensor<1, Int>>) -> (Tensor<3>, Tensor<2>) {
        let labels = labels.expect("a label for every picture");
        let token = self.class_embedding.forward(labels.unsqueeze_dim(1));
        (token.clone(), token.squeeze_dim(1))
    }
}

impl Drawing for UNet2D {
    fn predict(&self, x: Tensor<4>, times: Tensor<1>, labels: Option<Tensor<1, Int>>) -> Tensor<4> {
        self.forward(x, times, labels)
    }

    fn into_network(self) -> PictureNetwork {
        PictureNetwork::UNet2D(self)
    }
}

impl Drawing for MmDit {
    fn predict(&self, x: Tensor<4>, times: Tensor<1>, labels: Option<Tensor<1, Int>>) -> Tensor<4> {
        let (token, pooled) = self.prompt(labels);
        self.transformer.forward(x, times, token, pooled)
    }

    fn largest_logits(
        &self,
        x: Tensor<4>,
        times: Tensor<1>,
        labels: Option<Tensor<1, Int>>,
    ) -> Option<Tensor<1>> {
        let (token, pooled) = self.prompt(labels);
        Some(self.transformer.largest_logits(x, times, token, pooled))
    }

    fn into_network(self) -> PictureNetwork {
        PictureNetwork::MmDit(self)
    }
}

/// A time of variance exploding is a level: `999 t` stands for level `(1 - t) (L - 1)`, level 0 being the most noise.
impl Drawing for Ncsn {
    fn predict(&self, x: Tensor<4>, times: Tensor<1>, _labels: Option<Tensor<1, Int>>) -> Tensor<4> {
        let last = (self.sigmas().len() - 1) as f64;
        let levels = (times * (-last / 999.0) + last).round().clamp(0.0, last).int();
        self.forward(x, levels)
    }

    fn into_network(self) -> PictureNetwork {
        PictureNetwork::Ncsn(self)
    }
}

impl PictureNetwork {
    /// The network's output at `x`, as [`Drawing::predict`].
    #[must_use]
    pub fn predict(&self, x: Tensor<4>, times: Tensor<1>, labels: Option<Tensor<1, Int>>) -> Tensor<4> {
        match self {
            Self::UNet2D(network) => network.predict(x, times, labels),
            Self::MmDit(network) => network.predict(x, times, labels),
            Self::Ncsn(network) => network.predict(x, times, labels),
        }
    }
}
