//! Transformer blocks of MM-DiT (diffusers: `JointTransformerBlock`, `SD3SingleTransformerBlock`).
//!
//! ```text
//! [y, d] = joint(x~, c~)              x~, c~: each modulated by its own adaLN-Zero
//! x <- x + gate y  (+ gate'' attention(x~''))        the second term in SD 3.5 medium's first blocks
//! x <- x + gate' mlp(x~')             mlp(x) = W_2 gelu(W_1 x)
//! c <- likewise, but in the last block, where the prompt's states end
//! ```
//!
//! Esser et al. 2024, figure 2; the second attention: Stable Diffusion 3.5 medium's MMDiT-X.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_attention::{
    AttentionOptions, ContextOutput, JointAttention, JointAttentionConfig, MultiHeadAttention,
    MultiHeadAttentionConfig, ProjectionBias, QkNorm,
};
use kiln_backend::watch;
use kiln_blocks::{FeedForward, FeedForwardActivation, FeedForwardConfig};
use serde::{Deserialize, Serialize};

use super::modulation::{AdaptiveNorm, AdaptiveZero};

/// What the sample's tokens attend to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SampleAttention {
    /// Sample and context together.
    #[default]
    Joint,
    /// Sample and context together, and beside it the sample alone.
    Dual,
}

/// Configuration of a [`JointBlock`].
#[derive(Config, Debug)]
pub struct JointBlockConfig {
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head; sample and context have `heads * head_dim` channels.
    pub head_dim: usize,
    /// What becomes of the context.
    #[config(default = "ContextOutput::Projected")]
    pub context_output: ContextOutput,
    /// What the sample's tokens attend to.
    #[config(default = "SampleAttention::Joint")]
    pub attention: SampleAttention,
    /// Norm of queries and keys.
    #[config(default = "QkNorm::None")]
    pub qk_norm: QkNorm,
}

#[derive(Module, Debug)]
enum ContextNorm {
    Zero(AdaptiveZero),
    Last(AdaptiveNorm),
}

/// Block over two streams; see the [module](self).
#[derive(Module, Debug)]
pub struct JointBlock {
    norm1: AdaptiveZero,
    norm1_context: ContextNorm,
    attn: JointAttention,
    attn2: Option<MultiHeadAttention>,
    ff: FeedForward,
    ff_context: Option<FeedForward>,
}

fn mlp(channels: usize, device: &Device) -> FeedForward {
    FeedForwardConfig::new(channels).with_activation(FeedForwardActivation::GeluApproximate).init(device)
}

fn self_attention([heads, head_dim]: [usize; 2], qk_norm: QkNorm, device: &Device) -> MultiHeadAttention {
    MultiHeadAttentionConfig::new(heads * head_dim, heads, head_dim)
        .with_bias(ProjectionBias::All)
        .with_qk_norm(qk_norm)
        .init(device)
}

impl JointBlockConfig {
    /// The block with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> JointBlock {
        let channels = self.heads * self.head_dim;
        let (layers, attn2) = match self.attention {
            SampleAttention::Joint => (2, None),
            SampleAttention::Dual => {
                (3, Some(self_attention([self.heads, self.head_dim], self.qk_norm, device)))
            }
        };
        let (norm1_context, ff_context) = match self.context_output {
            ContextOutput::Projected => {
                (ContextNorm::Zero(AdaptiveZero::new(channels, 2, device)), Some(mlp(channels, device)))
            }
            ContextOutput::Discarded => (ContextNorm::Last(AdaptiveNorm::new(channels, device)), None),
        };
        JointBlock {
            norm1: AdaptiveZero::new(channels, layers, device),
            norm1_context,
            attn: JointAttentionConfig::new(channels, channels, self.heads, self.head_dim)
                .with_context_output(self.context_output)
                .with_qk_norm(self.qk_norm)
                .init(device),
            attn2,
            ff: mlp(channels, device),
            ff_context,
        }
    }
}

impl JointBlock {
    /// Sample `[batch, n, channels]` and context `[batch, m, channels]`, by the condition `silu(t)`, `[batch, channels]`;
    /// the context that comes back is `None` from a block that ends it.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: Tensor<3>,
        condition: Tensor<2>,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let ([attention, ff], second) = match &self.attn2 {
            None => (self.norm1.forward(condition.clone()), None),
            Some(layer) => {
                let [attention, ff, second] = self.norm1.forward(condition.clone());
                ([attention, ff], Some((layer, second)))
            }
        };
        let (context_input, context_layers) = match &self.norm1_context {
            ContextNorm::Last(norm) => (norm.forward(&context, condition), None),
            ContextNorm::Zero(norm) => {
                let [attention, ff] = norm.forward(condition);
                (attention.input(&context), Some((attention, ff)))
            }
        };

        let plain = AttentionOptions::default;
        let (y, context_y) = self.attn.forward(attention.input(&x), context_input, plain());
        // Both attentions see the block's own input.
        let alone = second.map(|(layer, second)| {
            let y = layer.forward(second.input(&x), None, plain());
            (second, y)
        });
        let x = attention.add(x, y);
        let x = match alone {
            Some((second, y)) => second.add(x, y),
            None => x,
        };
        let y = self.ff.forward(ff.input(&x));
        let x = ff.add(x, y);

        let context = match (context_layers, context_y, &self.ff_context) {
            (Some((attention, ff)), Some(y), Some(layer)) => {
                let context = attention.add(context, y);
                let y = layer.forward(ff.input(&context));
                Some(ff.add(context, y))
            }
            _ => None,
        };
        watch::part(self.norm1.weight(), 3, &x);
        if let Some(context) = &context {
            watch::part(self.norm1.weight(), 3, context);
        }
        (x, context)
    }

    /// The largest absolute logit of the joint attention at these inputs, `[1]`: as
    /// [`JointAttention::largest_logit`].
    #[must_use]
    pub fn largest_logit(&self, x: &Tensor<3>, context: &Tensor<3>, condition: &Tensor<2>) -> Tensor<1> {
        let attention = match &self.attn2 {
            None => self.norm1.forward::<2>(condition.clone())[0].input(x),
            Some(_) => self.norm1.forward::<3>(condition.clone())[0].input(x),
        };
        let context = match &self.norm1_context {
            ContextNorm::Last(norm) => norm.forward(context, condition.clone()),
            ContextNorm::Zero(norm) => norm.forward::<2>(condition.clone())[0].input(context),
        };
        self.attn.largest_logit(&attention, &context)
    }

    /// Whether the context ends here.
    #[must_use]
    pub fn ends_context(&self) -> bool {
        self.ff_context.is_none()
    }
}

/// Configuration of a [`SingleBlock`].
#[derive(Config, Debug)]
pub struct SingleBlockConfig {
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head; the sample has `heads * head_dim` channels.
    pub head_dim: usize,
}

/// Block over the sample alone: that of DiT, without a prompt.
#[derive(Module, Debug)]
pub struct SingleBlock {
    norm1: AdaptiveZero,
    attn: MultiHeadAttention,
    ff: FeedForward,
}

impl SingleBlockConfig {
    /// The block with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> SingleBlock {
        let channels = self.heads * self.head_dim;
        SingleBlock {
            norm1: AdaptiveZero::new(channels, 2, device),
            attn: self_attention([self.heads, self.head_dim], QkNorm::None, device),
            ff: mlp(channels, device),
        }
    }
}

impl SingleBlock {
    /// `[batch, n, channels]` to the same shape, by the condition `silu(t)`, `[batch, channels]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, condition: Tensor<2>) -> Tensor<3> {
        let [attention, ff] = self.norm1.forward(condition);
        let y = self.attn.forward(attention.input(&x), None, AttentionOptions::default());
        let x = attention.add(x, y);
        let y = self.ff.forward(ff.input(&x));
        let y = ff.add(x, y);
        watch::part(self.norm1.weight(), 3, &y);
        y
    }
}
