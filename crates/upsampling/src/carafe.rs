//! CARAFE (Wang et al. 2019, "CARAFE: Content-Aware ReAssembly of FEatures", arXiv 1905.02188): every output pixel is a
//! weighted mean of the `k x k` pixels around its source, with weights that a small network makes of the picture there.
//!
//! ```text
//! W = softmax over k² of shuffle(conv(conv1x1(x)))         y[factor p + d] = sum_n W[n, factor p + d] x[p + n]
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, ops::PadMode};

use crate::convolution::convolve;

/// Configuration of a [`Carafe`]; the defaults are the paper's.
#[derive(Config, Debug)]
pub struct CarafeConfig {
    /// Channels in and out.
    pub channels: usize,
    /// How many times larger the picture becomes.
    #[config(default = 2)]
    pub factor: usize,
    /// Side of the neighbourhood that is weighed; odd.
    #[config(default = 5)]
    pub kernel: usize,
    /// Side of the convolution that makes the weights; odd.
    #[config(default = 3)]
    pub encoder_kernel: usize,
    /// Channels that the weights are made of.
    #[config(default = 64)]
    pub compressed: usize,
}

/// Content-aware reassembly; see the [module](self). Its parameters are those of the two convolutions; an output costs kernel²
/// products a channel, and the weights. These have the sum 1, so that a constant picture stays one: it shows no checkerboard at
/// its start.
#[derive(Module, Debug)]
pub struct Carafe {
    channel_compressor: Conv2d,
    content_encoder: Conv2d,
    factor: usize,
    kernel: usize,
}

impl CarafeConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If a kernel is even, or the factor or a number of channels is 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> Carafe {
        assert!(self.kernel % 2 == 1 && self.encoder_kernel % 2 == 1 && self.factor > 0, "CARAFE: {self:?}");
        let conv = |from, to, kernel: usize| {
            let edge = kernel / 2;
            Conv2dConfig::new([from, to], [kernel; 2])
                .with_padding(PaddingConfig2d::Explicit(edge, edge, edge, edge))
                .init(device)
        };
        let weights = (self.factor * self.kernel).pow(2);
        Carafe {
            channel_compressor: conv(self.channels, self.compressed, 1),
            content_encoder: conv(self.compressed, weights, self.encoder_kernel),
            factor: self.factor,
            kernel: self.kernel,
        }
    }
}

impl Carafe {
    /// `[batch, channels, height, width]` to `[batch, channels, factor height, factor width]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let (factor, kernel) = (self.factor, self.kernel);
        let weights = convolve(&self.content_encoder, convolve(&self.channel_compressor, x.clone()));
        // Shuffled, the pixels of a block would stand side by side; they stay on an axis of their own until the end.
        let weights = weights.reshape([batch, kernel * kernel, factor * factor, height, width]);
        let weights = softmax(weights, 1);
        let edge = kernel / 2;
        let around = x.pad([(0, 0), (0, 0), (edge, edge), (edge, edge)], PadMode::Constant(0.0));
        let mut sum: Option<Tensor<5>> = None;
        for neighbour in 0..kernel * kernel {
            let weight = weights.clone().narrow(1, neighbour, 1);
            let pixels =
                around.clone().narrow(2, neighbour / kernel, height).narrow(3, neighbour % kernel, width);
            let term = weight * pixels.reshape([batch, channels, 1, height, width]);
            sum = Some(match sum {
                None => term,
                Some(sum) => sum + term,
            });
        }
        let sum =
            sum.expect("a kernel has a pixel").reshape([batch, channels, factor, factor, height, width]);
        sum.permute([0, 1, 4, 2, 5, 3]).reshape([batch, channels, factor * height, factor * width])
    }
}
