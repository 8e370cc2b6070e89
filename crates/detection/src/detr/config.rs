//! The `config.json` of a DETR, as transformers writes it, of every age: with a backbone of its own (`backbone_config`), or
//! one of timm's by name (`backbone`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::activation::ActivationFunction;
use super::model::Probabilities;
use super::resnet::ResNetConfig;
use crate::ConfigError;

/// How the places of a feature map are told to the transformer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEmbeddingType {
    /// Sines and cosines of row and column, as shares of the picture.
    #[default]
    Sine,
    /// A table with a row for each of 50 rows and columns.
    Learned,
}

/// Which of the family a network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    /// Carion et al. 2020.
    #[default]
    Detr,
    /// Meng et al. 2021, "Conditional DETR for Fast Training Convergence": queries look around a point of their own, and classes
    /// are told one by one (sigmoid and focal loss).
    ConditionalDetr,
}

/// Configuration of a [`Detr`](super::Detr), field by field that of transformers' `DetrConfig`, whose defaults it has;
/// or, by `model_type`, of its `ConditionalDetrConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetrConfig {
    /// Which of the family it is.
    pub model_type: ModelType,
    /// Channels of a picture.
    pub num_channels: usize,
    /// How many objects can be found in a picture.
    pub num_queries: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Width of the encoder's feed-forward layers.
    pub encoder_ffn_dim: usize,
    /// Heads of the encoder's attention, and of the mask head's.
    pub encoder_attention_heads: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Width of the decoder's feed-forward layers.
    pub decoder_ffn_dim: usize,
    /// Heads of the decoder's attention.
    pub decoder_attention_heads: usize,
    /// Activation of the feed-forward layers and of the mask head.
    pub activation_function: ActivationFunction,
    /// Width of the transformer.
    pub d_model: usize,
    /// Whether every layer of the decoder predicts, so that each has a loss. transformers then normalises between the
    /// decoder's layers too, and so does this network.
    pub auxiliary_loss: bool,
    /// How places are told.
    pub position_embedding_type: PositionEmbeddingType,
    /// Whether timm's backbone keeps the resolution in its last stage and dilates instead (DC5).
    pub dilation: bool,
    /// Weight of the class in the matching.
    pub class_cost: f64,
    /// Weight of the boxes' L1 distance in the matching.
    pub bbox_cost: f64,
    /// Weight of the boxes' generalised overlap in the matching.
    pub giou_cost: f64,
    /// Weight of the masks' focal loss.
    pub mask_loss_coefficient: f64,
    /// Weight of the masks' dice loss.
    pub dice_loss_coefficient: f64,
    /// Weight of the boxes' L1 loss.
    pub bbox_loss_coefficient: f64,
    /// Weight of the boxes' generalised-overlap loss.
    pub giou_loss_coefficient: f64,
    /// Weight of the class "no object" in the cross entropy.
    pub eos_coefficient: f64,
    /// Weight of what is, against what is not, in the focal loss of a conditional DETR's classes.
    pub focal_alpha: f64,
    /// Names of the classes by number.
    pub id2label: Option<BTreeMap<String, String>>,
    /// How many classes there are, where they have no names.
    pub num_labels: Option<usize>,
    /// The name of timm's backbone; `resnet50` if neither this nor a config is given.
    pub backbone: Option<String>,
    /// Whether the backbone is timm's.
    pub use_timm_backbone: Option<bool>,
    /// The backbone's own config.
    pub backbone_config: Option<Map<String, Value>>,
    /// Options of timm's backbone.
    pub backbone_kwargs: Option<Map<String, Value>>,
}

impl Default for DetrConfig {
    fn default() -> Self {
        Self {
            model_type: ModelType::Detr,
            num_channels: 3,
            num_queries: 100,
            encoder_layers: 6,
            encoder_ffn_dim: 2048,
            encoder_attention_heads: 8,
            decoder_layers: 6,
            decoder_ffn_dim: 2048,
            decoder_attention_heads: 8,
            activation_function: ActivationFunction::Relu,
            d_model: 256,
            auxiliary_loss: false,
            position_embedding_type: PositionEmbeddingType::Sine,
            dilation: false,
            class_cost: 1.0,
            bbox_cost: 5.0,
            giou_cost: 2.0,
            mask_loss_coefficient: 1.0,
            dice_loss_coefficient: 1.0,
            bbox_loss_coefficient: 5.0,
            giou_loss_coefficient: 2.0,
            eos_coefficient: 0.1,
            focal_alpha: 0.25,
            id2label: None,
            num_labels: None,
            backbone: None,
            use_timm_backbone: None,
            backbone_config: None,
            backbone_kwargs: None,
        }
    }
}

/// Classes of a `config.json` that describe these networks.
pub(super) const CLASSES: &[&str] = &[
    "DetrForObjectDetection",
    "DetrForSegmentation",
    "DetrModel",
    "ConditionalDetrForObjectDetection",
    "ConditionalDetrForSegmentation",
    "ConditionalDetrModel",
];

impl DetrConfig {
    /// Read a `config.json`. Fields that are absent take transformers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        kiln_checkpoint::config::refuse_others(
            text,
            &[
                ("encoder_layerdrop", 0.0.into()),
                ("decoder_layerdrop", 0.0.into()),
                ("scale_embedding", false.into()),
            ],
        )?;
        let mut config: Self = kiln_checkpoint::config::read(text, CLASSES)?;
        let class = kiln_checkpoint::config::class_of(text)?;
        if class.is_some_and(|class| class.starts_with("Conditional")) {
            config.model_type = ModelType::ConditionalDetr;
        }
        if config.model_type == ModelType::ConditionalDetr {
            // Where its defaults are others.
            let given: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let absent = |field: &str| given.get(field).is_none_or(Value::is_null);
            if absent("num_queries") {
                config.num_queries = 300;
            }
            if absent("class_cost") {
                config.class_cost = 2.0;
            }
        }
        config.validate()?;
        Ok(config)
    }

    /// How a class's probability follows from its score.
    #[must_use]
    pub fn probabilities(&self) -> Probabilities {
        match self.model_type {
            ModelType::Detr => Probabilities::Softmax,
            ModelType::ConditionalDetr => Probabilities::Sigmoid,
        }
    }

    /// How many classes there are, "no object" not counted.
    #[must_use]
    pub fn classes(&self) -> usize {
        // PreTrainedConfig has two labels where none are named.
        self.id2label.as_ref().map(BTreeMap::len).or(self.num_labels).unwrap_or(2)
    }

    /// The name of a class, if it has one.
    #[must_use]
    pub fn label(&self, class: usize) -> Option<&str> {
        self.id2label.as_ref()?.get(&class.to_string()).map(String::as_str)
    }

    /// The backbone that the fields describe together.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if it is none that is computed here.
    pub fn backbone(&self) -> Result<ResNetConfig, ConfigError> {
        if let Some(object) = &self.backbone_config {
            return match object.get("model_type").and_then(Value::as_str) {
                Some("timm_backbone") => {
                    let name = object.get("backbone").and_then(Value::as_str).unwrap_or("resnet50");
                    ResNetConfig::timm("backbone_config", name, object, self.num_channels)
                }
                Some("resnet") | None => {
                    if self.dilation {
                        tracing::warn!(
                            "config field `dilation` has no effect on a backbone that is not timm's"
                        );
                    }
                    ResNetConfig::read(object)
                }
                Some(other) => Err(ConfigError::Inconsistent {
                    field: "backbone_config",
                    reason: format!("is of a `{other}`; known are `resnet` and `timm_backbone`"),
                }),
            };
        }
        if self.use_timm_backbone == Some(false) {
            if let Some(name) = &self.backbone {
                return Err(ConfigError::Inconsistent {
                    field: "backbone",
                    reason: format!("is {name}, which is described elsewhere; expected a `backbone_config`"),
                });
            }
            return Ok(ResNetConfig::default());
        }
        let mut options = self.backbone_kwargs.clone().unwrap_or_default();
        if self.dilation {
            options.entry("output_stride").or_insert(16.into());
        }
        let name = self.backbone.as_deref().unwrap_or("resnet50");
        ResNetConfig::timm("backbone", name, &options, self.num_channels)
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |field, reason| Err(ConfigError::Inconsistent { field, reason });
        for (field, value) in [
            ("num_channels", self.num_channels),
            ("num_queries", self.num_queries),
            ("encoder_ffn_dim", self.encoder_ffn_dim),
            ("encoder_attention_heads", self.encoder_attention_heads),
            ("decoder_layers", self.decoder_layers),
            ("decoder_ffn_dim", self.decoder_ffn_dim),
            ("decoder_attention_heads", self.decoder_attention_heads),
            ("d_model", self.d_model),
            ("id2label", self.classes()),
        ] {
            if value == 0 {
                return fail(field, "is 0".to_owned());
            }
        }
        for (field, heads) in [
            ("encoder_attention_heads", self.encoder_attention_heads),
            ("decoder_attention_heads", self.decoder_attention_heads),
        ] {
            if !self.d_model.is_multiple_of(heads) {
                return fail(field, format!("{heads} heads do not divide the width of {}", self.d_model));
            }
        }
        let unit = match self.position_embedding_type {
            PositionEmbeddingType::Sine => 4,
            PositionEmbeddingType::Learned => 2,
        };
        if !self.d_model.is_multiple_of(unit) {
            return fail(
                "d_model",
                format!("is {}; these positions need a multiple of {unit}", self.d_model),
            );
        }
        for (field, weight) in [
            ("class_cost", self.class_cost),
            ("bbox_cost", self.bbox_cost),
            ("giou_cost", self.giou_cost),
            ("mask_loss_coefficient", self.mask_loss_coefficient),
            ("dice_loss_coefficient", self.dice_loss_coefficient),
            ("bbox_loss_coefficient", self.bbox_loss_coefficient),
            ("giou_loss_coefficient", self.giou_loss_coefficient),
            ("eos_coefficient", self.eos_coefficient),
            ("focal_alpha", self.focal_alpha),
        ] {
            if !weight.is_finite() || weight < 0.0 {
                return fail(field, format!("is {weight}; expected a number from 0"));
            }
        }
        let backbone = self.backbone()?;
        if backbone.num_channels != self.num_channels {
            let reason =
                format!("is {}, and the backbone takes {}", self.num_channels, backbone.num_channels);
            return fail("num_channels", reason);
        }
        Ok(())
    }

    /// Check that the mask head can be made too.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate_masks(&self) -> Result<(), ConfigError> {
        let fail = |field, reason| Err(ConfigError::Inconsistent { field, reason });
        let (width, heads) = (self.d_model, self.encoder_attention_heads);
        if !(width + heads).is_multiple_of(8) {
            return fail(
                "d_model",
                format!("{width} and {heads} heads are no multiple of 8, which the mask head needs"),
            );
        }
        for divisor in [2, 4, 8, 16] {
            let channels = width / divisor;
            if channels == 0 || !channels.is_multiple_of(channels.min(8)) {
                return fail(
                    "d_model",
                    format!("{channels} channels of the mask head are not 8 equal groups"),
                );
            }
        }
        let maps = self.backbone()?.outputs.len();
        if maps < 3 {
            return fail("backbone_config", format!("gives {maps} feature maps; the mask head needs 3"));
        }
        Ok(())
    }
    /// The same config with the feature maps that a mask head draws on: all stages up to the last that is given, and what comes
    /// before them where these are fewer than three.
    #[must_use]
    pub fn with_maps(mut self) -> Self {
        // timm's backbones give all.
        let Some(object) = &mut self.backbone_config else { return self };
        if object.get("model_type").and_then(Value::as_str) == Some("timm_backbone") {
            return self;
        }
        let Ok(backbone) = ResNetConfig::read(object) else { return self };
        let last = backbone.outputs.last().copied().unwrap_or(0);
        let stem = (last < 3).then(|| "stem".to_owned());
        let names = stem.into_iter().chain((1..=last).map(|stage| format!("stage{stage}")));
        object.insert("out_features".to_owned(), names.collect());
        object.remove("out_indices");
        self
    }
}
