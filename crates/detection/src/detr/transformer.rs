//! The transformer of DETR (Carion et al. 2020, appendix A.3): places attend to places, queries to queries and places, and
//! every layer is told anew where a place and which a query is.
//!
//! ```text
//! encoder layer   x = norm(x + attention(x + p, x + p, x)),   x = norm(x + W2 act(W1 x))
//! decoder layer   y = norm(y + attention(y + o, y + o, y)),   y = norm(y + attention(y + o, x + p, x)),   y = norm(y + W2 act(W1 y))
//! ```
//!
//! p tells places, o queries. Dropout, which is zero outside training, is left out.

use burn::module::Module;
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use kiln_attention::softmax::split;
use kiln_attention::{AttentionOptions, multi_head};

use super::activation::ActivationFunction;
use super::config::DetrConfig;

/// A linear layer with the published initialisation.
pub(super) fn linear(from: usize, to: usize, device: &Device) -> Linear {
    LinearConfig::new(from, to).with_initializer(Initializer::XavierUniform { gain: 1.0 }).init(device)
}

/// Softmax attention with projections under transformers' names.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(width: usize, heads: usize, device: &Device) -> Self {
        let layer = || linear(width, width, device);
        Self { q_proj: layer(), k_proj: layer(), v_proj: layer(), out_proj: layer(), heads }
    }

    fn forward(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        self.look(query, key, value, mask).0
    }

    /// As [`forward`](Self::forward), and where each query looks.
    fn look(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Look) {
        let look =
            Look { query: self.q_proj.forward(query), key: self.k_proj.forward(key), heads: self.heads };
        (self.out_proj.forward(look.at(self.v_proj.forward(value), mask)), look)
    }
}

/// Projected queries and keys, in heads: who looks where.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// `[batch, queries, heads * head_dim]`.
    pub query: Tensor<3>,
    /// `[batch, places, heads * head_dim]`.
    pub key: Tensor<3>,
    pub heads: usize,
}

impl Look {
    /// What is seen: values, `[batch, places, heads * value_dim]`, by their weights.
    pub(super) fn at(&self, values: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let options = AttentionOptions { mask: mask.cloned(), ..AttentionOptions::default() };
        multi_head(self.query.clone(), self.key.clone(), values, self.heads, options)
    }

    /// The weights themselves, which nothing else needs: softmax(Q Kᵗ / √d + mask), `[batch, heads, queries, places]`.
    pub(super) fn weights(self, mask: Option<&Tensor<4>>) -> Tensor<4> {
        let (query, key) = (split(self.query, self.heads), split(self.key, self.heads));
        let [.., head_dim] = query.dims();
        let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f64).sqrt();
        activation::softmax(if let Some(mask) = mask { scores + mask.clone() } else { scores }, 3)
    }
}

#[derive(Module, Debug)]
struct EncoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    #[module(skip)]
    activation: ActivationFunction,
}

impl EncoderLayer {
    fn forward(&self, x: Tensor<3>, positions: &Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let placed = x.clone() + positions.clone();
        let y = self.self_attn.forward(placed.clone(), placed, x.clone(), mask);
        let x = self.self_attn_layer_norm.forward(x + y);
        let y = self.fc2.forward(self.activation.forward(self.fc1.forward(x.clone())));
        self.final_layer_norm.forward(x + y)
    }
}

/// The encoder.
#[derive(Module, Debug)]
pub struct Encoder {
    layers: Vec<EncoderLayer>,
}

impl Encoder {
    pub(super) fn new(config: &DetrConfig, device: &Device) -> Self {
        let width = config.d_model;
        let norm = || LayerNormConfig::new(width).init(device);
        let layer = |_| EncoderLayer {
            self_attn: Attention::new(width, config.encoder_attention_heads, device),
            self_attn_layer_norm: norm(),
            fc1: linear(width, config.encoder_ffn_dim, device),
            fc2: linear(config.encoder_ffn_dim, width, device),
            final_layer_norm: norm(),
            activation: config.activation_function,
        };
        Self { layers: (0..config.encoder_layers).map(layer).collect() }
    }

    pub(super) fn forward(&self, x: Tensor<3>, positions: &Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x, positions, mask))
    }
}

#[derive(Module, Debug)]
struct DecoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: Attention,
    encoder_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    #[module(skip)]
    activation: ActivationFunction,
}

/// What the encoder found, for the decoder to look at.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// `[batch, places, width]`.
    pub states: Tensor<3>,
    /// Where they are, `[batch, places, width]`, or 1 for the batch.
    pub positions: Tensor<3>,
    /// The same with positions.
    pub placed: Tensor<3>,
    /// Hides padding; `[batch, 1, 1, places]`, added to scores.
    pub mask: Option<Tensor<4>>,
}

impl DecoderLayer {
    fn forward(&self, y: Tensor<3>, queries: &Tensor<3>, memory: &Memory) -> (Tensor<3>, Look) {
        let asked = y.clone() + queries.clone();
        let z = self.self_attn.forward(asked.clone(), asked, y.clone(), None);
        let y = self.self_attn_layer_norm.forward(y + z);
        let (z, look) = self.encoder_attn.look(
            y.clone() + queries.clone(),
            memory.placed.clone(),
            memory.states.clone(),
            memory.mask.as_ref(),
        );
        let y = self.encoder_attn_layer_norm.forward(y + z);
        let z = self.fc2.forward(self.activation.forward(self.fc1.forward(y.clone())));
        (self.final_layer_norm.forward(y + z), look)
    }
}

/// The decoder.
#[derive(Module, Debug)]
pub struct Decoder {
    layers: Vec<DecoderLayer>,
    layernorm: LayerNorm,
    auxiliary: bool,
}

impl Decoder {
    pub(super) fn new(config: &DetrConfig, device: &Device) -> Self {
        let width = config.d_model;
        let norm = || LayerNormConfig::new(width).init(device);
        let attention = || Attention::new(width, config.decoder_attention_heads, device);
        let layer = |_| DecoderLayer {
            self_attn: attention(),
            self_attn_layer_norm: norm(),
            encoder_attn: attention(),
            encoder_attn_layer_norm: norm(),
            fc1: linear(width, config.decoder_ffn_dim, device),
            fc2: linear(config.decoder_ffn_dim, width, device),
            final_layer_norm: norm(),
            activation: config.activation_function,
        };
        Self {
            layers: (0..config.decoder_layers).map(layer).collect(),
            layernorm: norm(),
            auxiliary: config.auxiliary_loss,
        }
    }

    /// The last states, `[batch, queries, width]`, those of each layer before the last where they predict too, and where the last
    /// layer looks.
    pub(super) fn forward(
        &self,
        queries: &Tensor<3>,
        memory: &Memory,
    ) -> (Tensor<3>, Vec<Tensor<3>>, Option<Look>) {
        let mut y = queries.zeros_like();
        let mut between = Vec::new();
        let mut look = None;
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let (next, at) = layer.forward(y, queries, memory);
            (y, look) = (next, Some(at));
            if self.auxiliary {
                // transformers hands the normalised states on to the next layer.
                y = self.layernorm.forward(y);
                if index < last {
                    between.push(y.clone());
                }
            }
        }
        (self.layernorm.forward(y), between, look)
    }
}
