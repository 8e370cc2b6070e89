//! What can be wrong with a network's configuration.

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
    #[error("`_class_name` is `{found}`; expected `{expected}`")]
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
