//! `config.json`: what a folder says of the network in it.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

/// A `config.json` that no network can be built from.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is not a JSON object.
    #[error("the config is not a JSON object: {reason}")]
    NotJson {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// The config belongs to another model.
    #[error("the config is of a `{found}`; expected {expected}")]
    Class {
        /// The class that was asked for.
        expected: String,
        /// The class that the config names.
        found: String,
    },
    /// A field holds a value of another type, or names a choice that is not known here.
    #[error("config field `{field}`: {reason}")]
    Field {
        /// The field, as in the JSON.
        field: String,
        /// What is wrong with its value, and what it may be.
        reason: String,
    },
    /// Each field can be read, but together they make no network.
    #[error("config field `{field}`: {reason}")]
    Inconsistent {
        /// The field to change.
        field: &'static str,
        /// What it contradicts.
        reason: String,
    },
}

/// The class that a config names: diffusers' `_class_name`, or the first of transformers' `architectures`.
///
/// # Errors
///
/// [`ConfigError::NotJson`].
pub fn class_of(text: &str) -> Result<Option<String>, ConfigError> {
    let object = object(text)?;
    let class = object.get("_class_name").or_else(|| object.get("architectures")?.get(0));
    Ok(class.map(|class| class.as_str().map_or_else(|| class.to_string(), str::to_owned)))
}

/// Read the config of one of `classes`. Every field of `T` must have a default (`#[serde(default)]` on the struct), so that
/// what is wrong can be traced to its field; fields that `T` does not know are passed over. A config that names no class is
/// taken at its word.
///
/// # Errors
///
/// [`ConfigError`]; the message names the field.
pub fn read<T: DeserializeOwned>(text: &str, classes: &[&str]) -> Result<T, ConfigError> {
    if let Some(found) = class_of(text)?
        && !classes.contains(&found.as_str())
    {
        return Err(ConfigError::Class { expected: format!("`{}`", classes.join("` or `")), found });
    }
    serde_json::from_value(Value::Object(object(text)?)).or_else(|error| {
        // serde does not say which field it was in; every field has a default, so each can be tried alone.
        let wrong = object(text)?.into_iter().find_map(|(field, value)| {
            let alone = Map::from_iter([(field.clone(), value)]);
            let reason = serde_json::from_value::<T>(Value::Object(alone)).err()?.to_string();
            Some(ConfigError::Field { field, reason })
        });
        Err(wrong.unwrap_or_else(|| ConfigError::NotJson { reason: error.to_string() }))
    })
}

/// Refuse a config that sets a field to what no network here computes: each of `only` is a field with the one value (beside
/// being absent or `null`) that is understood.
///
/// # Errors
///
/// [`ConfigError::Field`] with the first that says otherwise.
pub fn refuse_others(text: &str, only: &[(&str, Value)]) -> Result<(), ConfigError> {
    let object = object(text)?;
    for (field, value) in only {
        match object.get(*field) {
            None | Some(Value::Null) => {}
            Some(found) if found == value || found.as_f64().is_some_and(|f| value.as_f64() == Some(f)) => {}
            Some(found) => {
                let reason = format!("is {found}; only {value} is supported");
                return Err(ConfigError::Field { field: (*field).to_owned(), reason });
            }
        }
    }
    Ok(())
}

fn object(text: &str) -> Result<Map<String, Value>, ConfigError> {
    serde_json::from_str(text).map_err(|error| ConfigError::NotJson { reason: error.to_string() })
}
