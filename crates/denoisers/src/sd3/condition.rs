//! Time and pooled prompt as one vector (diffusers: `CombinedTimestepTextProjEmbeddings`).
//!
//! ```text
//! t = W_2 silu(W_1 sinusoidal(time)) + V_2 silu(V_1 pooled)        Esser et al. 2024, figure 2
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_blocks::{SinusoidalConfig, TimestepEmbedding, TimestepEmbeddingConfig};

/// Channels of the sinusoidal embedding, the same in every published model.
const TIME_CHANNELS: usize = 256;

/// Configuration of a [`TimeTextEmbedding`].
#[derive(Config, Debug)]
pub struct TimeTextEmbeddingConfig {
    /// Channels of the result.
    pub channels: usize,
    /// Channels of the pooled prompt.
    pub pooled_channels: usize,
}

/// Time and pooled prompt as one vector; see the [module](self).
#[derive(Module, Debug)]
pub struct TimeTextEmbedding {
    timestep_embedder: TimestepEmbedding,
    // Two linear layers and a SiLU too, by the same names.
    text_embedder: TimestepEmbedding,
}

impl TimeTextEmbeddingConfig {
    /// The layers with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> TimeTextEmbedding {
        TimeTextEmbedding {
            timestep_embedder: TimestepEmbeddingConfig::new(TIME_CHANNELS, self.channels).init(device),
            text_embedder: TimestepEmbeddingConfig::new(self.pooled_channels, self.channels).init(device),
        }
    }
}

impl TimeTextEmbedding {
    /// Times `[batch]`, 0 to 1000, and pooled prompts `[batch, pooled_channels]` to `[batch, channels]`.
    ///
    /// # Panics
    ///
    /// If there is not one time a pooled prompt.
    #[must_use]
    pub fn forward(&self, timesteps: Tensor<1>, pooled: Tensor<2>) -> Tensor<2> {
        let [batch, _] = pooled.dims();
        assert_eq!(timesteps.dims(), [batch], "one timestep a sample");
        let time = SinusoidalConfig::new(TIME_CHANNELS).init().forward(timesteps).cast(pooled.dtype());
        self.timestep_embedder.forward(time) + self.text_embedder.forward(pooled)
    }
}
