//! The encoder that a [`ClipTextConfig`] describes.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_attention::Mask;
use kiln_checkpoint::Pretrained;

use super::config::{CLASSES, ClipTextConfig};
use super::layers::{ClipEmbeddings, ClipLayer, norm};
use crate::ConfigError;

/// What CLIP makes of prompts.
#[derive(Clone, Debug)]
pub struct ClipTextOutput {
    /// The states between layers, `[batch, n, channels]` each: the embeddings, then what each layer leaves. None has been
    /// through the final norm.
    pub hidden_states: Vec<Tensor<3>>,
    /// The last states after the final norm, `[batch, n, channels]`.
    pub last_hidden_state: Tensor<3>,
    /// The last state of the token that ends the text, `[batch, channels]`.
    pub pooler_output: Tensor<2>,
    /// That one projected, `[batch, projection]`, if the encoder has a projection.
    pub text_embeds: Option<Tensor<2>>,
}

impl ClipTextOutput {
    /// The states ahead of the last layer, before the final norm: Python's `hidden_states[-2]`.
    ///
    /// # Panics
    ///
    /// Never: an encoder has a layer at least.
    #[must_use]
    pub fn penultimate_hidden_state(&self) -> Tensor<3> {
        self.hidden_state(1).expect("an encoder has at least one layer")
    }

    /// The states `skipped` layers ahead of the end, before the final norm: 0 for the last ones, 1 for the penultimate;
    /// `None` if there are not so many layers.
    #[must_use]
    pub fn hidden_state(&self, skipped: usize) -> Option<Tensor<3>> {
        self.hidden_states.iter().rev().nth(skipped).cloned()
    }
}

/// CLIP's text encoder; see the [module](super).
#[derive(Module, Debug)]
pub struct ClipText {
    text_model: ClipTransformer,
    text_projection: Option<Linear>,
    heads: usize,
    #[module(skip)]
    end: EndOfText,
}

#[derive(Module, Debug)]
struct ClipTransformer {
    embeddings: ClipEmbeddings,
    encoder: ClipEncoder,
    final_layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct ClipEncoder {
    layers: Vec<ClipLayer>,
}

/// Which token's state stands for the prompt.
#[derive(Clone, Copy, Debug)]
enum EndOfText {
    /// The first of the highest number: what configs mean that say 2, wrongly, as all did once.
    Highest,
    /// The first of this number; the first token of all, if there is none.
    Is(i64),
}

impl EndOfText {
    /// The place of it in each row, `[batch, 1]`.
    fn find(self, ids: Tensor<2, Int>) -> Tensor<2, Int> {
        let ([batch, n], device) = (ids.dims(), ids.device());
        let is_end = match self {
            Self::Highest => {
                let highest = ids.clone().max_dim(1).expand([batch, n]);
                ids.equal(highest)
            }
            Self::Is(id) => ids.equal_elem(id),
        };
        // Backends differ in which of several largest they find: so there is one, the end with the most places after it.
        let places_left = Tensor::arange(0..n as i64, &device).neg().add_scalar(n as i64);
        let bonus = is_end.int().mul_scalar(n as i64);
        (bonus + places_left.unsqueeze()).argmax(1)
    }
}

impl ClipTextConfig {
    /// The encoder, with random weights, on `device`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if the fields make none.
    pub fn init(&self, device: &Device) -> Result<ClipText, ConfigError> {
        self.validate()?;
        let layers = (0..self.num_hidden_layers).map(|_| ClipLayer::new(self, device)).collect();
        let projection = self
            .projection()?
            .map(|channels| LinearConfig::new(self.hidden_size, channels).with_bias(false).init(device));
        Ok(ClipText {
            text_model: ClipTransformer {
                embeddings: ClipEmbeddings::new(self, device),
                encoder: ClipEncoder { layers },
                final_layer_norm: norm(self, device),
            },
            text_projection: projection,
            heads: self.num_attention_heads,
            end: if self.eos_token_id == 2 { EndOfText::Highest } else { EndOfText::Is(self.eos_token_id) },
        })
    }
}

impl ClipText {
    /// Encode prompts, `[batch, n]` tokens.
    ///
    /// # Panics
    ///
    /// If there are more tokens than positions, or a token is not in the vocabulary
    /// (see [`Tokens::check`](crate::Tokens::check)).
    #[must_use]
    pub fn forward(&self, ids: Tensor<2, Int>) -> ClipTextOutput {
        self.forward_masked(ids, None)
    }

    /// States between layers, `[batch, n, channels]`, through the norm that follows the last layer: an encoder that leaves out its last layers
    /// (`clip_skip`) ends so.
    #[must_use]
    pub fn normalise(&self, states: Tensor<3>) -> Tensor<3> {
        self.text_model.final_layer_norm.forward(states)
    }

    /// As [`forward`](Self::forward), but only what `mask` shows is seen beside: over `[batch, heads, n, n]`.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), and if the mask does not broadcast.
    #[must_use]
    pub fn forward_masked(&self, ids: Tensor<2, Int>, mask: Option<Mask>) -> ClipTextOutput {
        let [batch, n] = ids.dims();
        let model = &self.text_model;
        let mut x = model.embeddings.forward(ids.clone());
        let mask = mask.map(|mask| mask.additive([batch, self.heads, n, n], x.dtype()));
        let mut hidden_states = vec![x.clone()];
        for layer in &model.encoder.layers {
            x = layer.forward(x, mask.clone());
            hidden_states.push(x.clone());
        }
        let last_hidden_state = self.final_layer_norm(x);
        let channels = last_hidden_state.dims()[2];
        let end = self.end.find(ids).unsqueeze_dim::<3>(2).expand([batch, 1, channels]);
        let pooler_output = last_hidden_state.clone().gather(1, end).squeeze_dim(1);
        let text_embeds = self.text_projection.as_ref().map(|layer| layer.forward(pooler_output.clone()));
        ClipTextOutput { hidden_states, last_hidden_state, pooler_output, text_embeds }
    }

    /// The norm after the last layer, `[batch, n, channels]` to the same shape. Stable Diffusion 1 and 2 put an earlier
    /// [state](ClipTextOutput::hidden_state) through it when layers are skipped; XL and 3 do not.
    #[must_use]
    pub fn final_layer_norm(&self, x: Tensor<3>) -> Tensor<3> {
        self.text_model.final_layer_norm.forward(x)
    }
}

impl Pretrained for ClipText {
    const CLASSES: &'static [&'static str] = CLASSES;

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        ClipTextConfig::from_json(config)?.init(device)
    }

    /// transformers 5 writes a `CLIPTextModel` without the prefix that all before it wrote.
    fn rename(name: &str) -> Option<String> {
        let bare = ["embeddings.", "encoder.", "final_layer_norm."].iter().any(|stem| name.starts_with(stem));
        bare.then(|| format!("text_model.{name}"))
    }

    /// The half of a whole CLIP model that sees.
    fn ignores(name: &str) -> bool {
        ["vision_model.", "visual_projection."].iter().any(|stem| name.starts_with(stem))
            || name == "logit_scale"
    }
}
