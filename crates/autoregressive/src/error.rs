//! What can be wrong with a request.

use crate::Values;

/// What can't be computed, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AutoregressiveError {
    /// A value that the model's variables do not take.
    #[error("row {row}, variable {variable}: {value} is none of the model's values; expected {expected}")]
    Value {
        /// The sample.
        row: usize,
        /// The variable.
        variable: usize,
        /// What was found.
        value: f32,
        /// What it may be.
        expected: Values,
    },
    /// A sample of another length.
    #[error("a sample of {found} variables, and the model has {expected}")]
    Length {
        /// The sample's.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// An order that does not name every variable once.
    #[error("an order of {length} variables: {reason}")]
    Order {
        /// How many were listed.
        length: usize,
        /// What is wrong.
        reason: String,
    },
    /// A field of a configuration that can't be met.
    #[error("`{field}`: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What the sample is given with does not fit the model.
    #[error("given {found} numbers a sample, and the model takes {expected}")]
    Given {
        /// How many came.
        found: usize,
        /// How many the model takes; 0 for none.
        expected: usize,
    },
}

/// The error of a field, in short.
pub(crate) fn config<T>(field: &'static str, reason: impl Into<String>) -> Result<T, AutoregressiveError> {
    Err(AutoregressiveError::Config { field, reason: reason.into() })
}
