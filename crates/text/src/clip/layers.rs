//! What the encoder is made of, by transformers' names.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_attention::{AttentionOptions, Causality, multi_head};
use kiln_backend::watch;

use super::config::ClipTextConfig;
use crate::HiddenAct;

/// Tokens and their places: x_i = T\[id_i\] + P\[i\].
#[derive(Module, Debug)]
pub struct ClipEmbeddings {
    token_embedding: Embedding,
    position_embedding: Embedding,
}

impl ClipEmbeddings {
    pub(super) fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let table = |rows| EmbeddingConfig::new(rows, config.hidden_size).init(device);
        Self {
            token_embedding: table(config.vocab_size),
            position_embedding: table(config.max_position_embeddings),
        }
    }

    /// `[batch, n]` to `[batch, n, channels]`.
    ///
    /// # Panics
    ///
    /// If there are more tokens than positions.
    #[must_use]
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let n = ids.dims()[1];
        let positions = self.position_embedding.weight.val();
        let most = positions.dims()[0];
        assert!(n <= most, "a prompt of {n} tokens is longer than the {most} that there are positions for");
        self.token_embedding.forward(ids) + positions.narrow(0, 0, n).unsqueeze()
    }
}

/// Attention in which each token sees itself and those before it.
#[derive(Module, Debug)]
pub struct ClipAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl ClipAttention {
    fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let projection = || LinearConfig::new(config.hidden_size, config.hidden_size).init(device);
        Self {
            k_proj: projection(),
            v_proj: projection(),
            q_proj: projection(),
            out_proj: projection(),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4>>) -> Tensor<3> {
        let (q, k) = (self.q_proj.forward(x.clone()), self.k_proj.forward(x.clone()));
        let options = AttentionOptions { mask, causality: Causality::Causal, scale: None };
        self.out_proj.forward(multi_head(q, k, self.v_proj.forward(x), self.heads, options))
    }
}

/// Two linear layers around an activation.
#[derive(Module, Debug)]
pub struct ClipMlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    act: HiddenAct,
}

/// x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Module, Debug)]
pub struct ClipLayer {
    self_attn: ClipAttention,
    layer_norm1: LayerNorm,
    mlp: ClipMlp,
    layer_norm2: LayerNorm,
}

impl ClipLayer {
    pub(super) fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let mlp = ClipMlp {
            fc1: LinearConfig::new(config.hidden_size, config.intermediate_size).init(device),
            fc2: LinearConfig::new(config.intermediate_size, config.hidden_size).init(device),
            act: config.hidden_act,
        };
        Self {
            self_attn: ClipAttention::new(config, device),
            layer_norm1: norm(config, device),
            mlp,
            layer_norm2: norm(config, device),
        }
    }

    /// `[batch, n, channels]` to the same shape; `mask` is added to the scores, over `[batch, heads, n, n]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4>>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x), mask);
        let inner = self.mlp.act.forward(self.mlp.fc1.forward(self.layer_norm2.forward(x.clone())));
        let y = x + self.mlp.fc2.forward(inner);
        watch::block(&self.layer_norm1.gamma, &y);
        y
    }
}

pub(super) fn norm(config: &ClipTextConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps).init(device)
}
