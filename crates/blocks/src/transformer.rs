//! Transformers over the pixels of a picture, told of a prompt (diffusers: `Transformer2DModel`; CompVis: `SpatialTransformer`).
//!
//! ```text
//! h  = W_in pixels(norm(x))
//! h <- h + attention(norm1(h), norm1(h))          the pixels among themselves
//! h <- h + attention(norm2(h), context)           the pixels ask the prompt
//! h <- h + W_2 (u gelu(g)),  (u, g) = W_1 norm3(h)                  repeated `depth` times
//! y  = x + W_out h
//! ```
//!
//! Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.3; the gate is GEGLU of
//! Shazeer 2020, "GLU Variants Improve Transformer".

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_attention::{AttentionOptions, MultiHeadAttention, MultiHeadAttentionConfig, ScorePrecision};
use kiln_backend::ops::Activation;
use kiln_backend::watch;
use serde::{Deserialize, Serialize};

use crate::convolve;
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::normalization::{Normalization, NormalizationConfig};

/// What cross-attention attends to beside the picture: the states of a prompt, say.
#[derive(Clone, Debug)]
pub struct Context {
    states: Tensor<3>,
    mask: Option<Tensor<4>>,
}

impl Context {
    /// States, `[batch, tokens, channels]`, all of which may be seen.
    #[must_use]
    pub fn new(states: Tensor<3>) -> Self {
        Self { states, mask: None }
    }

    /// States, `[batch, tokens, channels]`, of which those are seen where `seen`, `[batch, tokens]`, is 1, and not where it
    /// is 0. As in diffusers 10,000 is taken off a hidden token's score, so that a sample that sees none sees all.
    ///
    /// # Panics
    ///
    /// If `seen` does not hold one number a token.
    #[must_use]
    pub fn masked(states: Tensor<3>, seen: Tensor<2>) -> Self {
        let [batch, tokens, _] = states.dims();
        assert_eq!(seen.dims(), [batch, tokens], "a mask holds one number for each of the {tokens} tokens");
        let mask = (seen.cast(states.dtype()) - 1.0) * 10_000.0;
        Self { states, mask: Some(mask.reshape([batch, 1, 1, tokens])) }
    }

    /// The states, `[batch, tokens, channels]`.
    #[must_use]
    pub fn states(&self) -> Tensor<3> {
        self.states.clone()
    }

    /// What is added to the scores, `[batch, 1, 1, tokens]`.
    #[must_use]
    pub fn mask(&self) -> Option<Tensor<4>> {
        self.mask.clone()
    }

    fn options(&self) -> AttentionOptions {
        AttentionOptions { mask: self.mask(), ..AttentionOptions::default() }
    }
}

/// How pixels become a transformer's tokens, and tokens pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PixelProjection {
    /// A convolution over single pixels.
    #[default]
    Conv,
    /// A linear layer: the same numbers, kept as a matrix.
    Linear,
}

/// What the first of a block's two attentions attends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirstAttention {
    /// The pixels themselves.
    #[default]
    Pixels,
    /// The context, as the second does (diffusers: `only_cross_attention`).
    Context,
}

/// Configuration of a [`SpatialTransformer`].
#[derive(Config, Debug)]
pub struct SpatialTransformerConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Number of heads; each has `channels / heads` channels, rounded down.
    pub heads: usize,
    /// Channels of the context.
    pub context_dim: usize,
    /// Number of transformer blocks.
    #[config(default = 1)]
    pub depth: usize,
    /// Groups of the norm over pixels.
    #[config(default = 32)]
    pub groups: usize,
    /// How pixels become tokens.
    #[config(default = "PixelProjection::Conv")]
    pub projection: PixelProjection,
    /// What the first attention of a block attends to.
    #[config(default = "FirstAttention::Pixels")]
    pub first: FirstAttention,
    /// Type that the scores of attention are computed in.
    #[config(default = "ScorePrecision::Same")]
    pub precision: ScorePrecision,
}

#[derive(Module, Debug)]
enum Projection {
    Conv(Conv2d),
    Linear(Linear),
}

/// Transformer over pixels, with a shortcut; see the [module](self).
#[derive(Module, Debug)]
pub struct SpatialTransformer {
    norm: Normalization,
    proj_in: Projection,
    transformer_blocks: Vec<TransformerBlock>,
    proj_out: Projection,
}

impl SpatialTransformerConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    ///
    /// # Panics
    ///
    /// If there are no heads, or more than channels, or `groups` does not divide `channels`.
    #[must_use]
    pub fn init(&self, device: &Device) -> SpatialTransformer {
        assert!(
            (1..=self.channels).contains(&self.heads),
            "{} channels can't be shared by {} heads",
            self.channels,
            self.heads
        );
        let inner = self.heads * (self.channels / self.heads);
        let projection = |from, to| match self.projection {
            PixelProjection::Conv => Projection::Conv(Conv2dConfig::new([from, to], [1, 1]).init(device)),
            PixelProjection::Linear => Projection::Linear(LinearConfig::new(from, to).init(device)),
        };
        SpatialTransformer {
            // The network's own `norm_eps` does not reach this norm.
            norm: NormalizationConfig::new(self.channels, self.groups).with_eps(1e-6).init(device),
            proj_in: projection(self.channels, inner),
            transformer_blocks: (0..self.depth).map(|_| self.init_block(inner, device)).collect(),
            proj_out: projection(inner, self.channels),
        }
    }

    fn init_block(&self, width: usize, device: &Device) -> TransformerBlock {
        let norm = || LayerNormConfig::new(width).init(device);
        let attention = |context_dim| {
            MultiHeadAttentionConfig::new(width, self.heads, width / self.heads)
                .with_context_dim(context_dim)
                .with_precision(self.precision)
                .init(device)
        };
        TransformerBlock {
            norm1: norm(),
            attn1: attention(match self.first {
                FirstAttention::Pixels => None,
                FirstAttention::Context => Some(self.context_dim),
            }),
            norm2: norm(),
            attn2: attention(Some(self.context_dim)),
            norm3: norm(),
            ff: FeedForwardConfig::new(width).init(device),
            first: self.first,
        }
    }
}

impl SpatialTransformer {
    /// `x` is `[batch, channels, height, width]`, `context` `[batch, tokens, context_dim]`; the result has `x`'s shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, context: &Context) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let h = self.norm.forward(x.clone(), Activation::Identity);
        let h = match &self.proj_in {
            Projection::Conv(conv) => tokens(convolve(conv, h)),
            Projection::Linear(linear) => linear.forward(tokens(h)),
        };
        let h = self.transformer_blocks.iter().fold(h, |h, block| block.forward(h, context));
        let h = match &self.proj_out {
            Projection::Conv(conv) => convolve(conv, pixels(h, [height, width])),
            Projection::Linear(linear) => pixels(linear.forward(h), [height, width]),
        };
        x + h
    }
}

/// `[batch, channels, height, width]` to `[batch, height * width, channels]`.
pub(crate) fn tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).swap_dims(1, 2)
}

/// `[batch, height * width, channels]` to `[batch, channels, height, width]`.
pub(crate) fn pixels(x: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
    x.swap_dims(1, 2).reshape([batch, channels, height, width])
}

#[derive(Module, Debug)]
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: MultiHeadAttention,
    norm2: LayerNorm,
    attn2: MultiHeadAttention,
    norm3: LayerNorm,
    ff: FeedForward,
    #[module(skip)]
    first: FirstAttention,
}

impl TransformerBlock {
    fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let attended = match self.first {
            FirstAttention::Pixels => {
                self.attn1.forward(self.norm1.forward(x.clone()), None, AttentionOptions::default())
            }
            // The mask is the second attention's alone, as in diffusers.
            FirstAttention::Context => self.attn1.forward(
                self.norm1.forward(x.clone()),
                Some(context.states()),
                AttentionOptions::default(),
            ),
        };
        let x = x + attended;
        let asked =
            self.attn2.forward(self.norm2.forward(x.clone()), Some(context.states()), context.options());
        let x = x + asked;
        let y = x.clone() + self.ff.forward(self.norm3.forward(x));
        watch::block(&self.norm3.gamma, &y);
        y
    }
}
