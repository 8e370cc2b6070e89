//! What a LoRA's notes say of its scale: `lora_adapter_metadata`, as diffusers writes PEFT's config beside the tensors.
//!
//! ```text
//! scale = alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023, "rsLoRA")
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{LoraError, LoraPart};

const NOTE: &str = "lora_adapter_metadata";

/// PEFT's config of each network, field by field: `unet.lora_alpha`, `text_encoder.alpha_pattern`.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    fields: Map<String, Value>,
}

impl Metadata {
    pub(super) fn read(file: &str, notes: &BTreeMap<String, String>) -> Result<Self, LoraError> {
        let Some(text) = notes.get(NOTE) else { return Ok(Self::default()) };
        let fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| LoraError::Metadata {
            file: file.to_owned(),
            note: NOTE.to_owned(),
            reason: format!("is no JSON object: {error}"),
        })?;
        let read = Self { fields };
        for (field, value) in &read.fields {
            let name = field.rsplit('.').next().unwrap_or(field);
            let wrong = match name {
                "use_dora" if value == &Value::Bool(true) => {
                    let kind = "DoRA (weights split into direction and length)";
                    return Err(LoraError::Kind { file: file.to_owned(), key: field.clone(), kind });
                }
                "lora_alpha" if value.as_f64().is_none() => "is no number",
                "use_rslora" if !value.is_boolean() => "is neither true nor false",
                "alpha_pattern" if !is_pattern(value) => "is no table of layers and numbers",
                _ => continue,
            };
            let reason = wrong.to_owned();
            return Err(LoraError::Metadata { file: file.to_owned(), note: field.clone(), reason });
        }
        Ok(read)
    }

    fn field(&self, part: LoraPart, field: &str) -> Option<&Value> {
        part.names().iter().find_map(|part| self.fields.get(&format!("{part}.{field}")))
    }

    /// What the product of a layer's factors is multiplied by, if the notes say.
    pub(super) fn scale(&self, part: LoraPart, layer: Option<&str>, rank: usize) -> Option<f64> {
        let pattern = self.field(part, "alpha_pattern").and_then(Value::as_object);
        let special = pattern.into_iter().flatten().find(|(pattern, _)| {
            layer.is_some_and(|layer| match pattern.strip_prefix('^') {
                Some(whole) => layer == whole,
                None => {
                    layer.strip_suffix(&***pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }
            })
        });
        let alpha =
            special.map_or_else(|| self.field(part, "lora_alpha"), |(_, alpha)| Some(alpha))?.as_f64()?;
        let rank = rank as f64;
        let stabilised = self.field(part, "use_rslora") == Some(&Value::Bool(true));
        Some(alpha / if stabilised { rank.sqrt() } else { rank })
    }
}

/// A table whose layers are names, or the ends of names: PEFT takes them for regular expressions, which no published file needs.
fn is_pattern(value: &Value) -> bool {
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    value.as_object().is_some_and(|table| {
        table.iter().all(|(name, alpha)| is_name(name.strip_prefix('^').unwrap_or(name)) && alpha.is_number())
    })
}
