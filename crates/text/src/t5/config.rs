//! The `config.json` of a `T5EncoderModel`.

use kiln_attention::Causality;
use kiln_attention::positions::RelativeBuckets;
use kiln_checkpoint::config;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ConfigError, HiddenAct, sizes};

/// Configuration of a [`T5Encoder`](super::T5Encoder), field by field that of transformers' `T5Config`, whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Channels of a token.
    pub d_model: usize,
    /// Channels of a head.
    pub d_kv: usize,
    /// Channels inside the feed-forward layer.
    pub d_ff: usize,
    /// Number of blocks of the encoder.
    pub num_layers: usize,
    /// Number of heads.
    pub num_heads: usize,
    /// Number of buckets of relative positions, past and future together.
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all is in one bucket.
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in norms.
    pub layer_norm_epsilon: f64,
    /// The kind of feed-forward layer: an activation, or `gated-` and an activation.
    pub feed_forward_proj: String,
    /// Its activation, where it is said outright.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense_act_fn: Option<HiddenAct>,
    /// Whether it is gated, where that is said outright.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_gated_act: Option<bool>,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".to_owned(),
            dense_act_fn: None,
            is_gated_act: None,
        }
    }
}

/// A kind of feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// W_o act(W_i x).
    Plain(HiddenAct),
    /// W_o (act(W_0 x) . W_1 x).
    Gated(HiddenAct),
}

/// `architectures` of these configs; of those that have a decoder too, the encoder is read.
pub(super) const CLASSES: &[&str] =
    &["T5EncoderModel", "T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel"];

impl T5Config {
    /// Read a `config.json`. Fields that are absent take transformers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = config::read(text, CLASSES)?;
        config::refuse_others(text, &[("is_decoder", Value::Bool(false))])?;
        config.validate()?;
        Ok(config)
    }

    /// Check that the fields together make an encoder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fields = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_heads", self.num_heads),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets),
            ("relative_attention_max_distance", self.relative_attention_max_distance),
        ];
        sizes::check(("num_layers", self.num_layers), &fields)?;
        sizes::check_epsilon("layer_norm_epsilon", self.layer_norm_epsilon)?;
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if RelativeBuckets::new(buckets, distance, Causality::None).is_none() {
            let reason = format!(
                "is {buckets}: expected 4 at least, and less than four times `relative_attention_max_distance`, {distance}"
            );
            return Err(ConfigError::Inconsistent { field: "relative_attention_num_buckets", reason });
        }
        self.feed_forward()?;
        Ok(())
    }

    /// The kind of feed-forward layer. `gated-gelu` means GELU's tanh form; what is said outright overrules the name.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Field`], if `feed_forward_proj` names none.
    pub fn feed_forward(&self) -> Result<FeedForward, ConfigError> {
        let name = self.feed_forward_proj.as_str();
        let (gated, act) = match name.strip_prefix("gated-") {
            Some("gelu") => (true, "gelu_new"),
            Some(act) => (true, act),
            None => (false, name),
        };
        let act = match self.dense_act_fn {
            Some(act) => act,
            None => {
                serde_json::from_value(Value::String(act.to_owned())).map_err(|error| ConfigError::Field {
                    field: "feed_forward_proj".to_owned(),
                    reason: format!("is \"{name}\": {error}"),
                })?
            }
        };
        Ok(if self.is_gated_act.unwrap_or(gated) { FeedForward::Gated(act) } else { FeedForward::Plain(act) })
    }
}
