//! What can be wrong with a saved state, and with groups of parameters.

use burn::tensor::DType;

/// A saved state does not fit the module that it is loaded into.
///
/// `name` is the path of the tensor in the module, such as `blocks.0.conv.weight`, followed by the state's own
/// field (`first_moment`) where it belongs to an optimizer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StateError {
    /// The module has a tensor that the state lacks.
    #[error("the state has no tensor \"{name}\": it was saved from another module, or is not whole")]
    Missing {
        /// The tensor's path.
        name: String,
    },
    /// The state has an entry that the module has no place for.
    #[error(
        "the state has an entry \"{name}\" that the module has no place for: it was saved from another module"
    )]
    Unknown {
        /// The entry's path.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor \"{name}\" has shape {found:?}, and the module expects {expected:?}")]
    Shape {
        /// The tensor's path.
        name: String,
        /// The module's shape.
        expected: Vec<usize>,
        /// The state's shape.
        found: Vec<usize>,
    },
    /// A tensor has another element type.
    #[error("tensor \"{name}\" has elements of type {found:?}, and the module expects {expected:?}")]
    ElementType {
        /// The tensor's path.
        name: String,
        /// The module's type.
        expected: DType,
        /// The state's type.
        found: DType,
    },
}

/// The groups of parameters do not fit the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A pattern matches no parameter.
    #[error("the pattern \"{pattern}\" matches no parameter: is it misspelt?")]
    Idle {
        /// The pattern.
        pattern: String,
    },
}
