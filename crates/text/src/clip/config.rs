//! The `config.json` of a `CLIPTextModel`.

use kiln_checkpoint::config;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ConfigError, HiddenAct, sizes};

/// What is done with the pooled state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextHead {
    /// Nothing: `CLIPTextModel`.
    #[default]
    None,
    /// It is projected to where pictures are too: `CLIPTextModelWithProjection`, and the text half of a `CLIPModel`.
    Projection,
}

/// Configuration of a [`ClipText`](super::ClipText), field by field that of transformers' `CLIPTextConfig`, whose defaults it
/// has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Channels inside the mlp.
    pub intermediate_size: usize,
    /// Channels of the projection.
    pub projection_dim: Option<usize>,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Most tokens of a prompt.
    pub max_position_embeddings: usize,
    /// Activation inside the mlp.
    pub hidden_act: HiddenAct,
    /// Added to the variance in norms.
    pub layer_norm_eps: f64,
    /// The token whose state stands for the prompt, the first of it; 2 is what older configs say, and means the token of the
    /// highest number.
    pub eos_token_id: i64,
    /// Whether the pooled state is projected; the class says so, not a field.
    #[serde(skip)]
    pub head: TextHead,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: Some(512),
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: HiddenAct::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
            head: TextHead::None,
        }
    }
}

/// `architectures` of these configs.
pub(super) const CLASSES: &[&str] = &["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"];
const WITHOUT_PROJECTION: &str = "CLIPTextModel";

impl ClipTextConfig {
    /// Read a `config.json`, of a text encoder or of a whole CLIP model that has one (`text_config`). Fields that are absent
    /// take transformers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let class = config::class_of(text)?;
        let whole = class.as_deref() == Some("CLIPModel");
        config::read::<Whole>(text, CLASSES)?;
        let mut config: Self = match Nested::of(text)? {
            None => config::read(text, CLASSES)?,
            Some(nested) => {
                let mut config: Self = config::read(&nested.text, &[])?;
                // Of a whole model it is the outer one that counts.
                if whole {
                    config.projection_dim = nested.projection_dim.or(Self::default().projection_dim);
                }
                config
            }
        };
        config.head = match class.as_deref() {
            None | Some(WITHOUT_PROJECTION) => TextHead::None,
            Some(_) => TextHead::Projection,
        };
        config.validate()?;
        Ok(config)
    }

    /// Check that the fields together make an encoder.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fields = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        sizes::check(("num_hidden_layers", self.num_hidden_layers), &fields)?;
        sizes::check_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let reason =
                format!("is {}, which {} heads do not divide", self.hidden_size, self.num_attention_heads);
            return Err(ConfigError::Inconsistent { field: "hidden_size", reason });
        }
        self.projection()?;
        Ok(())
    }

    /// Channels of the projection, if there is one.
    pub(super) fn projection(&self) -> Result<Option<usize>, ConfigError> {
        if self.head == TextHead::None {
            return Ok(None);
        }
        let Some(channels) = self.projection_dim else {
            let reason = "is null, but the class asks for a projection".to_owned();
            return Err(ConfigError::Inconsistent { field: "projection_dim", reason });
        };
        sizes::check(("num_hidden_layers", self.num_hidden_layers), &[("projection_dim", channels)])?;
        Ok(Some(channels))
    }
}

/// What is read of a whole CLIP model's config by itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Whole {
    #[allow(dead_code, reason = "read to see that it can be")]
    projection_dim: Option<usize>,
    #[allow(dead_code, reason = "read to see that it can be")]
    text_config: Option<Map<String, Value>>,
    #[allow(dead_code, reason = "read to see that it can be")]
    text_config_dict: Option<Map<String, Value>>,
}

/// The text encoder's part of a whole CLIP model's config.
struct Nested {
    text: String,
    projection_dim: Option<usize>,
}

impl Nested {
    fn of(text: &str) -> Result<Option<Self>, ConfigError> {
        let not_json = |error: serde_json::Error| ConfigError::NotJson { reason: error.to_string() };
        let object: Map<String, Value> = serde_json::from_str(text).map_err(not_json)?;
        // Where there are both, the older field counts, and what it leaves out is the default.
        let inner =
            ["text_config_dict", "text_config"].iter().find_map(|&field| object.get(field)?.as_object());
        let Some(mut inner) = inner.cloned() else { return Ok(None) };
        inner.retain(|field, _| field != "architectures" && field != "_class_name");
        let projection_dim = object.get("projection_dim").and_then(Value::as_u64);
        Ok(Some(Self {
            text: Value::Object(inner).to_string(),
            projection_dim: projection_dim.and_then(|channels| usize::try_from(channels).ok()),
        }))
    }
}
