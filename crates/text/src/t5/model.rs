//! The encoder that a [`T5Config`] describes.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, RmsNorm};
use burn::tensor::{DType, Device, Int, Tensor};
use kiln_attention::Mask;
use kiln_checkpoint::Pretrained;

use super::config::{CLASSES, T5Config};
use super::layers::{Positions, T5Block, norm, normed};
use crate::ConfigError;

/// T5's encoder; see the [module](super).
#[derive(Module, Debug)]
pub struct T5Encoder {
    shared: Embedding,
    encoder: T5Stack,
}

#[derive(Module, Debug)]
struct T5Stack {
    block: Vec<T5Block>,
    final_layer_norm: RmsNorm,
}

impl T5Config {
    /// The encoder, with random weights, on `device`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if the fields make none.
    pub fn init(&self, device: &Device) -> Result<T5Encoder, ConfigError> {
        self.validate()?;
        let block = |index| {
            let positions = if index == 0 { Positions::Own } else { Positions::Shared };
            T5Block::new(self, positions, device)
        };
        Ok(T5Encoder {
            shared: EmbeddingConfig::new(self.vocab_size, self.d_model).init(device),
            encoder: T5Stack {
                block: (0..self.num_layers).map(block).collect::<Result<_, _>>()?,
                final_layer_norm: norm(self, device),
            },
        })
    }
}

impl T5Encoder {
    /// Encode prompts, `[batch, n]` tokens, to states `[batch, n, d_model]` in the type of the weights. `mask` may hide the
    /// tokens that a prompt was padded with ([`Mask::visible_keys`]); Stable Diffusion 3 shows them.
    ///
    /// # Panics
    ///
    /// If a token is not in the vocabulary (see [`Tokens::check`](crate::Tokens::check)), or the mask does not broadcast to
    /// `[batch, heads, n, n]`.
    #[must_use]
    pub fn forward(&self, ids: Tensor<2, Int>, mask: Option<Mask>) -> Tensor<3> {
        let [batch, n] = ids.dims();
        // The first block tells positions to all.
        let bias = self.encoder.block.first().and_then(|block| block.bias(batch, n, mask));
        let x = self.shared.forward(ids).cast(DType::F32);
        let x = match bias {
            Some(bias) => self.encoder.block.iter().fold(x, |x, block| block.forward(x, bias.clone())),
            None => x,
        };
        normed(&self.encoder.final_layer_norm, x)
    }
}

impl Pretrained for T5Encoder {
    const CLASSES: &'static [&'static str] = CLASSES;

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        T5Config::from_json(config)?.init(device)
    }

    /// The table of tokens is one of two that are the same.
    fn rename(name: &str) -> Option<String> {
        (name == "encoder.embed_tokens.weight").then(|| "shared.weight".to_owned())
    }

    /// The decoder's half of the whole network. transformers' own files hold the table of tokens up to three times; which of
    /// them is read does not matter.
    fn ignores(name: &str) -> bool {
        ["decoder.", "lm_head."].iter().any(|stem| name.starts_with(stem))
            || name == "encoder.embed_tokens.weight"
    }
}
