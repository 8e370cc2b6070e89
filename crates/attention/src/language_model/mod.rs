//! A small language model over any of the attentions, for comparing them: whatever the kind, the same number of parameters.
//!
//! ```text
//! h = E[tokens] + c sincos(place)
//! softmax, linear       h <- h + attention(norm(h)),   h <- h + glu(norm(h))         a layer
//! GAU, FLASH-Quad, FLASH       h <- gau(gau(h))                                      two units a layer
//! logits = norm(h) E^T
//! ```
//!
//! A gated unit has 3 e d + s d parameters, a transformer's layer 4 d^2 + 3 h d: the hidden width h of its GLU is chosen so
//! that a layer has as many as two units (Hua et al. 2022 compare them so, with h = 4 d and e = 2 d).

mod decode;

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_backend::ops::{AttentionOptions, Causality};
use serde::{Deserialize, Serialize};

use crate::flash::{Flash, FlashConfig};
use crate::gau::{GatedAttention, GatedAttentionConfig, ScoreFunction};
use crate::glu::{Glu, GluConfig};
use crate::linear::{FeatureMap, LinearAttention, LinearAttentionConfig, LinearKernel};
use crate::positions::{RotaryConfig, sincos};
use crate::softmax::{MultiHeadAttention, MultiHeadAttentionConfig};

pub use decode::{Choice, LanguageModelRecord, LanguageModelState};

/// Which attention a [`LanguageModel`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// Softmax attention with rotary positions, then a GLU.
    Softmax,
    /// Linear attention, elu + 1, then a GLU.
    Linear,
    /// Gated units with softmax.
    Gau,
    /// Gated units with squared ReLU.
    FlashQuad,
    /// Gated units by mixed chunks.
    Flash,
}

impl AttentionKind {
    /// All kinds, with the names that they go by.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Softmax, "softmax"),
        (Self::Linear, "linear"),
        (Self::Gau, "gau"),
        (Self::FlashQuad, "flash-quad"),
        (Self::Flash, "flash"),
    ];
}

/// Configuration of a [`LanguageModel`].
#[derive(Config, Debug)]
pub struct LanguageModelConfig {
    /// Number of tokens there are.
    pub vocabulary: usize,
    /// Which attention.
    pub kind: AttentionKind,
    /// d: channels of a token.
    #[config(default = 128)]
    pub width: usize,
    /// Number of layers; a layer of gated units has two.
    #[config(default = 2)]
    pub layers: usize,
    /// Number of heads of softmax and linear attention.
    #[config(default = 4)]
    pub heads: usize,
    /// e / d of gated units.
    #[config(default = 2)]
    pub expansion: usize,
    /// s of gated units.
    #[config(default = 64)]
    pub shared_dim: usize,
    /// Tokens of a chunk, of FLASH and of linear attention.
    #[config(default = 64)]
    pub chunk: usize,
}

/// A causal language model; see the [module](self).
#[derive(Module, Debug)]
pub struct LanguageModel {
    embedding: Embedding,
    position_scale: Param<Tensor<1>>,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
enum Layer {
    Softmax(TransformerLayer<MultiHeadAttention>),
    Linear(TransformerLayer<LinearAttention>),
    Gated(Vec<GatedAttention>),
    Flash(Vec<Flash>),
}

#[derive(Module, Debug)]
struct TransformerLayer<A: Module> {
    norm_attention: LayerNorm,
    attention: A,
    norm_glu: LayerNorm,
    glu: Glu,
}

impl LanguageModelConfig {
    /// The model on `device`: embeddings of standard deviation 0.02, all else as the layers start.
    ///
    /// # Panics
    ///
    /// If the width does not come in as many heads of an even width, or a layer would be smaller than its attention.
    #[must_use]
    pub fn init(&self, device: &Device) -> LanguageModel {
        assert!(
            self.heads > 0 && self.width.is_multiple_of(2 * self.heads),
            "a width of {} does not come in {} heads of an even width",
            self.width,
            self.heads
        );
        let embedding = EmbeddingConfig::new(self.vocabulary, self.width)
            .with_initializer(Initializer::Normal { mean: 0.0, std: 0.02 });
        LanguageModel {
            embedding: embedding.init(device),
            position_scale: Initializer::Constant { value: 1.0 / (self.width as f64).sqrt() }
                .init([1], device),
            layers: (0..self.layers).map(|_| self.layer(device)).collect(),
            norm: LayerNormConfig::new(self.width).init(device),
        }
    }

    /// The hidden width of a transformer's GLU, so that the layer has as many parameters as two gated units.
    #[must_use]
    pub fn glu_width(&self) -> usize {
        let d = self.width;
        let e = self.expansion * d;
        // Weights, biases and norms of a unit; of attention and two norms.
        let unit =
            3 * d * e + d * self.shared_dim + 2 * e + self.shared_dim + d + 2 * d + 4 * self.shared_dim;
        let attention = 4 * d * d + d + 4 * d;
        (2 * unit).saturating_sub(attention).div_ceil(3 * d)
    }

    fn layer(&self, device: &Device) -> Layer {
        let head_dim = self.width / self.heads;
        let rotary = Some(RotaryConfig::new());
        let gated = |scores| {
            let config = GatedAttentionConfig::new(self.width)
                .with_expansion(self.expansion)
                .with_shared_dim(self.shared_dim)
                .with_causality(Causality::Causal)
                .with_scores(scores)
                .with_rotary(rotary.clone());
            Layer::Gated(vec![config.init(device), config.init(device)])
        };
        match self.kind {
            AttentionKind::Softmax => {
                let config =
                    MultiHeadAttentionConfig::new(self.width, self.heads, head_dim).with_rotary(rotary);
                Layer::Softmax(self.transformer(config.init(device), device))
            }
            AttentionKind::Linear => {
                let config = LinearAttentionConfig::new(self.width, self.heads, head_dim)
                    .with_kernel(LinearKernel::Map(FeatureMap::EluPlusOne))
                    .with_causality(Causality::Causal)
                    .with_form(crate::linear::CausalForm::Chunked(self.chunk));
                Layer::Linear(self.transformer(config.init(device), device))
            }
            AttentionKind::Gau => gated(ScoreFunction::Softmax),
            AttentionKind::FlashQuad => gated(ScoreFunction::SquaredRelu),
            AttentionKind::Flash => {
                let config = FlashConfig::new(self.width)
                    .with_expansion(self.expansion)
                    .with_shared_dim(self.shared_dim)
                    .with_chunk(self.chunk)
                    .with_causality(Causality::Causal)
                    .with_rotary(rotary);
                Layer::Flash(vec![config.init(device), config.init(device)])
            }
        }
    }

    fn transformer<A: Module>(&self, attention: A, device: &Device) -> TransformerLayer<A> {
        TransformerLayer {
            norm_attention: LayerNormConfig::new(self.width).init(device),
            attention,
            norm_glu: LayerNormConfig::new(self.width).init(device),
            glu: GluConfig::new(self.width, self.glu_width()).init(device),
        }
    }
}

impl LanguageModel {
    /// The logits of the token after each, `[batch, n, vocabulary]`, for `tokens`, `[batch, n]`.
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let h = self.embed(tokens, 0);
        self.logits(self.layers.iter().fold(h, |h, layer| layer.forward(h)))
    }

    /// `[batch, n, width]`; the first token stands at place `first`.
    fn embed(&self, tokens: Tensor<2, Int>, first: usize) -> Tensor<3> {
        let n = tokens.dims()[1];
        let weight = self.embedding.weight.val();
        let width = weight.dims()[1];
        let places: Vec<f32> = (first..first + n).map(|place| place as f32).collect();
        let places = Tensor::<2>::from_data(sincos(width, &places), (&weight.device(), weight.dtype()));
        let scale = self.position_scale.val().reshape([1, 1, 1]);
        self.embedding.forward(tokens) + places.unsqueeze_dim::<3>(0) * scale
    }

    fn logits(&self, h: Tensor<3>) -> Tensor<3> {
        let weight = self.embedding.weight.val();
        self.norm.forward(h).matmul(weight.transpose().unsqueeze_dim::<3>(0))
    }
}

impl Layer {
    fn forward(&self, h: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Softmax(layer) => {
                let options = || AttentionOptions { causality: Causality::Causal, ..Default::default() };
                layer.forward(h, |attention, x| attention.forward(x, None, options()))
            }
            Self::Linear(layer) => layer.forward(h, |attention, x| attention.forward(x, None, None)),
            Self::Gated(units) => units.iter().fold(h, |h, unit| unit.forward(h, None)),
            Self::Flash(units) => units.iter().fold(h, |h, unit| unit.forward(h, None)),
        }
    }
}

impl<A: Module> TransformerLayer<A> {
    fn forward(&self, h: Tensor<3>, attend: impl FnOnce(&A, Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let h = h.clone() + attend(&self.attention, self.norm_attention.forward(h));
        h.clone() + self.glu.forward(self.norm_glu.forward(h))
    }
}
