//! What can be asked of a function that it does not have.

/// A derivative that does not exist, or was asked for with what does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalculusError {
    /// The direction is 0 everywhere.
    #[error("a direction of length 0 points nowhere: give one that is not 0")]
    NoDirection,
    /// The gradient is 0: no direction is the steepest.
    #[error("the gradient is 0 here: no direction is steeper than another")]
    Stationary,
    /// A tensor has another shape than the point, or than the function's value.
    #[error("the {what} has shape {found:?}, and must have {expected:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape it must have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// An index is not in the point's shape.
    #[error("there is no coordinate {index:?}: the point has shape {shape:?}")]
    Coordinate {
        /// What was asked for.
        index: Vec<usize>,
        /// The point's shape.
        shape: Vec<usize>,
    },
    /// The function gives more than one number where one is needed.
    #[error("the function gives {found} numbers, and a gradient is of one: sum them, or take the Jacobian")]
    NotANumber {
        /// How many it gives.
        found: usize,
    },
    /// NaN or an infinity.
    #[error("the {what} is not finite")]
    NotFinite {
        /// What is not.
        what: &'static str,
    },
}
