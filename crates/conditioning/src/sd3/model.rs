//! The network that a [`SD3ControlNetConfig`] describes.

use burn::module::Module;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::{Activation, activation};
use kiln_checkpoint::{ConfigError, Pretrained};
use kiln_denoisers::sd3::{
    JointBlock, JointBlockConfig, LatentSizeError, PatchEmbedding, PatchEmbeddingConfig, PatchPositions,
    SampleAttention, SingleBlock, SingleBlockConfig, TimeTextEmbedding, TimeTextEmbeddingConfig,
};

use super::config::{CLASS, SD3ControlNetConfig};

/// The noisy sample, as a control network takes it.
#[derive(Clone, Debug)]
pub enum ControlledSample {
    /// A latent, `[batch, in_channels, height, width]`, for a network that makes tokens of it itself.
    Latent(Tensor<4>),
    /// The tokens of the network that it controls, `[batch, tokens, channels]`
    /// ([`SD3Transformer2D::embed`](kiln_denoisers::SD3Transformer2D::embed)), for a network with `use_pos_embed` false.
    Tokens(Tensor<3>),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network's blocks are all of one kind")]
enum Block {
    Joint(JointBlock),
    Single(SingleBlock),
}

/// Control network of a `SD3ControlNetModel`; see the [module](super).
#[derive(Module, Debug)]
pub struct SD3ControlNet {
    pos_embed: Option<PatchEmbedding>,
    time_text_embed: TimeTextEmbedding,
    context_embedder: Option<Linear>,
    transformer_blocks: Vec<Block>,
    controlnet_blocks: Vec<Linear>,
    pos_embed_input: PatchEmbedding,
}

impl Pretrained for SD3ControlNet {
    const CLASSES: &'static [&'static str] = &[CLASS];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        SD3ControlNetConfig::from_json(config)?.init(device)
    }

    fn computes(name: &str) -> bool {
        name == "pos_embed.pos_embed"
    }
}

impl SD3ControlNetConfig {
    /// The network on `device`, with PyTorch's default initialisation, but for the layers that read the condition and
    /// those that give the residuals, which start at zero.
    ///
    /// # Errors
    ///
    /// As [`validate`](SD3ControlNetConfig::validate).
    pub fn init(&self, device: &Device) -> Result<SD3ControlNet, ConfigError> {
        self.validate()?;
        let channels = self.channels();
        let positions = self.positions()?;
        let patches = |from, positions| PatchEmbeddingConfig::new(from, channels, self.patch_size, positions);
        let zeros =
            || LinearConfig::new(channels, channels).with_initializer(Initializer::Zeros).init(device);
        let condition_channels = self.in_channels + self.extra_conditioning_channels;
        Ok(SD3ControlNet {
            pos_embed: self.use_pos_embed.then(|| patches(self.in_channels, positions).init(device)),
            time_text_embed: TimeTextEmbeddingConfig::new(channels, self.pooled_projection_dim).init(device),
            context_embedder: self
                .joint_attention_dim
                .map(|dim| LinearConfig::new(dim, channels).init(device)),
            transformer_blocks: (0..self.num_layers).map(|i| self.init_block(i, device)).collect(),
            controlnet_blocks: (0..self.num_layers).map(|_| zeros()).collect(),
            pos_embed_input: patches(condition_channels, PatchPositions::None)
                .with_initializer(Some(Initializer::Zeros))
                .init(device),
        })
    }

    fn init_block(&self, i: usize, device: &Device) -> Block {
        let (heads, head_dim) = (self.num_attention_heads, self.attention_head_dim);
        if self.joint_attention_dim.is_none() {
            return Block::Single(SingleBlockConfig::new(heads, head_dim).init(device));
        }
        let dual = self.dual_attention_layers.contains(&i);
        let config = JointBlockConfig::new(heads, head_dim)
            .with_attention(if dual { SampleAttention::Dual } else { SampleAttention::Joint })
            .with_qk_norm(self.qk_norm.unwrap_or_default());
        Block::Joint(config.init(device))
    }
}

impl SD3ControlNet {
    /// One residual a block, each `[batch, tokens, channels]`, times `scale`: for the noisy `sample`, the `condition`
    /// (encoded as a latent), `[batch, in_channels + extra_conditioning_channels, height, width]`, `timesteps`, `[batch]`
    /// (0 to 1000), the prompt's states, `[batch, m, joint_attention_dim]`, and its pooled form,
    /// `[batch, pooled_projection_dim]`.
    ///
    /// # Panics
    ///
    /// If the sample comes in another form than the network takes; if the prompt's states are absent from a network that is
    /// told the prompt, or given to another; if the latent's sides are none that [`check_size`](Self::check_size) takes.
    #[must_use]
    pub fn forward(
        &self,
        sample: ControlledSample,
        condition: Tensor<4>,
        timesteps: Tensor<1>,
        encoder_hidden_states: Option<Tensor<3>>,
        pooled_projections: Tensor<2>,
        scale: f64,
    ) -> Vec<Tensor<3>> {
        let x = match (&self.pos_embed, sample) {
            (Some(patches), ControlledSample::Latent(latent)) => patches.forward(latent),
            (None, ControlledSample::Tokens(tokens)) => tokens,
            (Some(_), ControlledSample::Tokens(_)) => {
                panic!("this network takes a latent, and makes tokens itself")
            }
            (None, ControlledSample::Latent(_)) => {
                panic!("this network takes the tokens of the network that it controls")
            }
        };
        let mut context = match (&self.context_embedder, encoder_hidden_states) {
            (Some(layer), Some(states)) => Some(layer.forward(states)),
            (None, None) => None,
            (Some(_), None) => panic!("this network needs the prompt's states"),
            (None, Some(_)) => panic!("this network is not told the prompt's states"),
        };
        let time = self.time_text_embed.forward(timesteps, pooled_projections.cast(x.dtype()));
        let time = activation(time, Activation::Silu);
        let mut x = x + self.pos_embed_input.forward(condition);
        let mut residuals = Vec::with_capacity(self.transformer_blocks.len());
        for (block, zeros) in self.transformer_blocks.iter().zip(&self.controlnet_blocks) {
            x = match (block, context.take()) {
                (Block::Joint(block), Some(states)) => {
                    let (x, states) = block.forward(x, states, time.clone());
                    context = states;
                    x
                }
                (Block::Single(block), _) => block.forward(x, time.clone()),
                (Block::Joint(_), None) => {
                    unreachable!("blocks are joint where there is a prompt, which none ends")
                }
            };
            residuals.push(zeros.forward(x.clone()) * scale);
        }
        residuals
    }

    /// Whether the network takes the tokens of the network that it controls, and not a latent.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.pos_embed.is_none()
    }

    /// Whether the network is told the prompt's states.
    #[must_use]
    pub fn takes_prompt(&self) -> bool {
        self.context_embedder.is_some()
    }

    /// Whether a latent of `[height, width]` can be taken.
    ///
    /// # Errors
    ///
    /// [`LatentSizeError`] if it is not made of whole patches, or larger than the table of positions.
    pub fn check_size(&self, sides: [usize; 2]) -> Result<(), LatentSizeError> {
        self.pos_embed.as_ref().unwrap_or(&self.pos_embed_input).grid(sides).map(|_| ())
    }
}

/// What several control networks say together: the sums of their residuals, block by block, of as many blocks as the
/// shortest has (diffusers: `SD3MultiControlNetModel`).
///
/// # Panics
///
/// If two residuals for one block differ in shape.
#[must_use]
pub fn sum_residuals(networks: impl IntoIterator<Item = Vec<Tensor<3>>>) -> Vec<Tensor<3>> {
    let sum = |total: Vec<Tensor<3>>, next: Vec<Tensor<3>>| {
        total.into_iter().zip(next).map(|(a, b)| a + b).collect()
    };
    networks.into_iter().reduce(sum).unwrap_or_default()
}
