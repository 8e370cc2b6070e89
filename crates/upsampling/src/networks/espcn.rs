//! ESPCN (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
//! Neural Network", arXiv 1609.05158): three convolutions on the small picture, then pixel shuffle.
//!
//! ```text
//! y = shuffle(conv3(tanh(conv3(tanh(conv5(x))))))
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::sequential::{self, Layer};
use crate::{PixelShuffle, PixelShuffleConfig};

/// Configuration of an [`Espcn`]; the defaults are the paper's: brightness alone, 64 and 32 features.
#[derive(Config, Debug)]
pub struct EspcnConfig {
    /// How many times larger the picture becomes.
    pub scale: usize,
    /// Channels in and out.
    #[config(default = 1)]
    pub channels: usize,
    /// Features after the first and the second convolution.
    #[config(default = "[64, 32]")]
    pub features: [usize; 2],
}

/// The sub-pixel convolutional network; see the [module](self).
#[derive(Module, Debug)]
pub struct Espcn {
    body: Vec<Layer>,
    upsampler: PixelShuffle,
}

impl EspcnConfig {
    /// The network with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If the scale, or a number of channels, is 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> Espcn {
        assert!(self.scale > 0 && self.channels > 0, "Espcn: {self:?}");
        let [first, second] = self.features;
        let tanh = || Layer::Tanh(burn::nn::Tanh::new());
        let body = vec![
            Layer::conv([self.channels, first], 5, device),
            tanh(),
            Layer::conv([first, second], 3, device),
            tanh(),
            Layer::conv([second, self.channels * self.scale * self.scale], 3, device),
        ];
        Espcn { body, upsampler: PixelShuffleConfig::new(self.scale).init() }
    }
}

impl Espcn {
    /// The larger picture.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels, height, width]`
    /// - output: `[batch, channels, scale height, scale width]`
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.upsampler.forward(sequential::forward(&self.body, x))
    }
}
