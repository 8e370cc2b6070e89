//! What sizes a config may ask for.

use crate::ConfigError;

/// Larger numbers than in any encoder (mT5's table has 250,112 rows): what a config asks for stays countable.
const LARGEST: usize = 1 << 20;
/// More layers than in any encoder.
const MOST_LAYERS: usize = 1 << 10;

/// That every size is one that an encoder can have, and so is the number of its layers.
pub(crate) fn check(
    layers: (&'static str, usize),
    fields: &[(&'static str, usize)],
) -> Result<(), ConfigError> {
    let all = fields.iter().map(|&(field, value)| (field, value, LARGEST));
    for (field, value, most) in all.chain([(layers.0, layers.1, MOST_LAYERS)]) {
        if !(1..=most).contains(&value) {
            let reason = format!("is {value}; expected 1 to {most}");
            return Err(ConfigError::Inconsistent { field, reason });
        }
    }
    Ok(())
}

/// That what is added to a variance keeps it from 0.
pub(crate) fn check_epsilon(field: &'static str, epsilon: f64) -> Result<(), ConfigError> {
    if epsilon > 0.0 && epsilon.is_finite() {
        return Ok(());
    }
    Err(ConfigError::Inconsistent { field, reason: format!("is {epsilon}; expected a number above 0") })
}
