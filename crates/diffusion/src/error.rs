//! What can be wrong with a choice that comes from outside: a schedule, a grid, a pair of process and prediction.

use thiserror::Error;

/// A process, prediction, grid, solver or objective that can't work, with what to do about it.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DiffusionError {
    /// A number is outside the range in which its formula means something.
    #[error("{what} must be {requirement}, not {value}")]
    Parameter {
        /// The parameter, with the thing it belongs to.
        what: &'static str,
        /// The range that it must lie in.
        requirement: &'static str,
        /// What was given.
        value: f64,
    },
    /// A grid of times that can't be walked.
    #[error("grid of times: {problem}")]
    Grid {
        /// What is wrong, and where.
        problem: String,
    },
    /// The prediction tells nothing of the data where sampling starts.
    #[error(
        "a network that predicts {prediction} can't be sampled from t = {t}: alpha is 0 there, so its output says nothing of the \
         data; train it to predict velocity, v or sample"
    )]
    Pole {
        /// The prediction's name.
        prediction: &'static str,
        /// Where alpha is 0.
        t: f64,
    },
    /// A saved state of another solver.
    #[error(
        "the saved state holds {found} tensors and {times} times, but {solver} keeps {expected}: resume with its own solver"
    )]
    State {
        /// The solver that was asked to go on.
        solver: &'static str,
        /// Tensors found.
        found: usize,
        /// Times found.
        times: usize,
        /// What it keeps.
        expected: &'static str,
    },
    /// A scheduler's config that can't be used.
    #[error("scheduler config field `{field}`: {problem}")]
    Config {
        /// The field, as in the JSON.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A name that is in no table.
    #[error("unknown {what} {name:?}: choose one of {known}")]
    Unknown {
        /// What was named.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// `value` if it is finite and `holds`, else the error that says so.
pub(crate) fn require(
    what: &'static str,
    requirement: &'static str,
    value: f64,
    holds: bool,
) -> Result<f64, DiffusionError> {
    if value.is_finite() && holds {
        Ok(value)
    } else {
        Err(DiffusionError::Parameter { what, requirement, value })
    }
}
