//! The network that a [`SD3Transformer2DConfig`] describes.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_attention::ContextOutput;
use kiln_backend::ops::{Activation, activation};
use kiln_checkpoint::{ConfigError, Pretrained};

use super::block::{JointBlock, JointBlockConfig, SampleAttention};
use super::condition::{TimeTextEmbedding, TimeTextEmbeddingConfig};
use super::config::{CLASS, SD3Transformer2DConfig, positions};
use super::modulation::AdaptiveNorm;
use super::patch::{LatentSizeError, PatchEmbedding, PatchEmbeddingConfig};

/// What a forward pass may be told beside the prompt.
#[derive(Clone, Debug, Default)]
pub struct SD3Extras {
    /// A control network's residuals, each `[batch, tokens, channels]`; spread evenly over the blocks, and added after
    /// each but the last (diffusers: `block_controlnet_hidden_states`).
    pub controls: Vec<Tensor<3>>,
    /// Blocks, counted from 0, that are left out: skip-layer guidance compares with a network so weakened.
    pub skip_layers: Vec<usize>,
}

/// MM-DiT of a `SD3Transformer2DModel`; see the [module](super).
#[derive(Module, Debug)]
pub struct SD3Transformer2D {
    pos_embed: PatchEmbedding,
    time_text_embed: TimeTextEmbedding,
    context_embedder: Linear,
    transformer_blocks: Vec<JointBlock>,
    norm_out: AdaptiveNorm,
    proj_out: Linear,
    patch_size: usize,
}

impl Pretrained for SD3Transformer2D {
    const CLASSES: &'static [&'static str] = &[CLASS];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        SD3Transformer2DConfig::from_json(config)?.init(device)
    }

    fn computes(name: &str) -> bool {
        name == "pos_embed.pos_embed"
    }
}

impl SD3Transformer2DConfig {
    /// The network with PyTorch's default initialisation on `device`; [`seeded`](crate::seeded) makes that reproducible.
    ///
    /// # Errors
    ///
    /// As [`validate`](SD3Transformer2DConfig::validate).
    pub fn init(&self, device: &Device) -> Result<SD3Transformer2D, ConfigError> {
        self.validate()?;
        let channels = self.channels();
        let positions = positions(self.sample_size, self.patch_size, self.pos_embed_max_size, channels)?;
        let block = |i| {
            let last = i + 1 == self.num_layers;
            let dual = self.dual_attention_layers.contains(&i);
            JointBlockConfig::new(self.num_attention_heads, self.attention_head_dim)
                .with_context_output(if last { ContextOutput::Discarded } else { ContextOutput::Projected })
                .with_attention(if dual { SampleAttention::Dual } else { SampleAttention::Joint })
                .with_qk_norm(self.qk_norm.unwrap_or_default())
                .init(device)
        };
        let out = self.patch_size * self.patch_size * self.out_channels.unwrap_or(self.in_channels);
        Ok(SD3Transformer2D {
            pos_embed: PatchEmbeddingConfig::new(self.in_channels, channels, self.patch_size, positions)
                .init(device),
            time_text_embed: TimeTextEmbeddingConfig::new(channels, self.pooled_projection_dim).init(device),
            context_embedder: LinearConfig::new(self.joint_attention_dim, channels).init(device),
            transformer_blocks: (0..self.num_layers).map(block).collect(),
            norm_out: AdaptiveNorm::new(channels, device),
            proj_out: LinearConfig::new(channels, out).init(device),
            patch_size: self.patch_size,
        })
    }
}

impl SD3Transformer2D {
    /// Predict from `hidden_states`, `[batch, in_channels, height, width]`, at `timesteps`, `[batch]` (0 to 1000), for the
    /// prompt's states `encoder_hidden_states`, `[batch, m, joint_attention_dim]`, and its pooled form `pooled_projections`,
    /// `[batch, pooled_projection_dim]`. The result is `[batch, out_channels, height, width]`.
    ///
    /// # Panics
    ///
    /// As [`forward_with`](Self::forward_with) does.
    #[must_use]
    pub fn forward(
        &self,
        hidden_states: Tensor<4>,
        timesteps: Tensor<1>,
        encoder_hidden_states: Tensor<3>,
        pooled_projections: Tensor<2>,
    ) -> Tensor<4> {
        let extras = SD3Extras::default();
        self.forward_with(hidden_states, timesteps, encoder_hidden_states, pooled_projections, &extras)
    }

    /// As [`forward`](Self::forward), with a control network's residuals, or with blocks left out.
    ///
    /// # Panics
    ///
    /// If the latent's sides are none that [`check_size`](Self::check_size) takes, or the shapes do not fit together.
    #[must_use]
    pub fn forward_with(
        &self,
        hidden_states: Tensor<4>,
        timesteps: Tensor<1>,
        encoder_hidden_states: Tensor<3>,
        pooled_projections: Tensor<2>,
        extras: &SD3Extras,
    ) -> Tensor<4> {
        let [_, _, height, width] = hidden_states.dims();
        let mut x = self.embed(hidden_states);
        let time = self.time_text_embed.forward(timesteps, pooled_projections.cast(x.dtype()));
        let condition = activation(time, Activation::Silu);
        let mut context = self.context_embedder.forward(encoder_hidden_states);

        for (i, block) in self.transformer_blocks.iter().enumerate() {
            if !extras.skip_layers.contains(&i) {
                let (next, next_context) = block.forward(x, context.clone(), condition.clone());
                x = next;
                context = next_context.unwrap_or(context);
            }
            if let Some(control) = self.control(i, &extras.controls)
                && !block.ends_context()
            {
                x = x + control;
            }
        }

        let x = self.proj_out.forward(self.norm_out.forward(&x, condition));
        self.join_patches(x, [height / self.patch_size, width / self.patch_size])
    }

    /// The largest absolute attention logit of each block, `[blocks]`, for the inputs of [`forward`](Self::forward): without a
    /// norm of queries and keys they grow in training until 16 bits overflow (Esser et al. 2024, section 5.3.2).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    #[must_use]
    pub fn largest_logits(
        &self,
        hidden_states: Tensor<4>,
        timesteps: Tensor<1>,
        encoder_hidden_states: Tensor<3>,
        pooled_projections: Tensor<2>,
    ) -> Tensor<1> {
        let mut x = self.embed(hidden_states);
        let time = self.time_text_embed.forward(timesteps, pooled_projections.cast(x.dtype()));
        let condition = activation(time, Activation::Silu);
        let mut context = self.context_embedder.forward(encoder_hidden_states);
        let mut logits = Vec::with_capacity(self.transformer_blocks.len());
        for block in &self.transformer_blocks {
            logits.push(block.largest_logit(&x, &context, &condition));
            let (next, next_context) = block.forward(x, context.clone(), condition.clone());
            x = next;
            context = next_context.unwrap_or(context);
        }
        Tensor::cat(logits, 0)
    }

    /// The latent as this network's blocks see it, `[batch, tokens, channels]`: what a control network without positions of
    /// its own is given.
    ///
    /// # Panics
    ///
    /// If the latent's sides are none that [`check_size`](Self::check_size) takes.
    #[must_use]
    pub fn embed(&self, hidden_states: Tensor<4>) -> Tensor<3> {
        self.pos_embed.forward(hidden_states)
    }

    /// Whether a latent of `[height, width]` can be taken.
    ///
    /// # Errors
    ///
    /// [`LatentSizeError`] if it is not made of whole patches, or larger than the table of positions.
    pub fn check_size(&self, sides: [usize; 2]) -> Result<(), LatentSizeError> {
        self.pos_embed.grid(sides).map(|_| ())
    }

    /// The residual for block `i`: with fewer of them than blocks, each serves several blocks in a row.
    fn control(&self, i: usize, controls: &[Tensor<3>]) -> Option<Tensor<3>> {
        let interval = self.transformer_blocks.len() as f64 / controls.len() as f64;
        controls.get((i as f64 / interval) as usize).cloned()
    }

    /// `[batch, rows * columns, patch * patch * out_channels]` to a latent.
    fn join_patches(&self, x: Tensor<3>, [rows, columns]: [usize; 2]) -> Tensor<4> {
        let [batch, _, width] = x.dims();
        let p = self.patch_size;
        let channels = width / (p * p);
        x.reshape([batch, rows, columns, p, p, channels]).permute([0, 5, 1, 3, 2, 4]).reshape([
            batch,
            channels,
            rows * p,
            columns * p,
        ])
    }
}
