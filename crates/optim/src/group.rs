//! Groups of parameters, told by the patterns of their paths: no decay on norms and biases, another rate for a backbone.
//!
//! ```text
//! pattern    **.bias       any number of fields (none, too), then one called bias
//! *          within a field, any characters             norm*  norm1, norm_out
//! ?          within a field, one character              conv?  conv1
//! **         any number of fields                       backbone.**
//! ```
//!
//! The fields of a path are between its dots: `backbone.blocks.0.conv.weight`.

use crate::GroupError;

/// The patterns that norms and biases have: what is usually kept from decaying.
///
/// Burn's own norms call their weight `gamma` and their bias `beta`; the norms of networks with diffusers' names have
/// "norm" in the name of their field. (The linear layer within an adaptive norm, `norm1.linear.weight`, is no norm's weight.)
pub const NORMS_AND_BIASES: [&str; 4] = ["**.bias", "**.gamma", "**.beta", "**.*norm*.weight"];

/// Parameters that are stepped by an optimizer of their own, at a rate of their own.
///
/// ```
/// use kiln_optim::{AdamWConfig, Group, NORMS_AND_BIASES, NamedOptimizer};
///
/// let adamw = AdamWConfig::new().with_weight_decay(0.05);
/// let optimizer = NamedOptimizer::new(adamw.build())
///     .with_group(Group::new(["backbone.**"], adamw.build()).with_rate(0.1))
///     .with_group(Group::new(NORMS_AND_BIASES, adamw.with_weight_decay(0.0).build()));
/// ```
#[derive(Clone, Debug)]
pub struct Group<O> {
    pub(crate) patterns: Vec<String>,
    pub(crate) optimizer: O,
    pub(crate) rate: f64,
}

impl<O> Group<O> {
    /// The parameters whose path one of `patterns` matches, stepped by `optimizer`.
    #[must_use]
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>, optimizer: O) -> Self {
        Self { patterns: patterns.into_iter().map(Into::into).collect(), optimizer, rate: 1.0 }
    }

    /// The group with a learning rate `factor` times the one that a step is made with, so that one schedule serves all.
    ///
    /// # Panics
    ///
    /// Panics if `factor` is negative or not finite.
    #[must_use]
    pub fn with_rate(self, factor: f64) -> Self {
        assert!(factor >= 0.0 && factor.is_finite(), "a rate's factor must be 0 or more, and is {factor}");
        Self { rate: factor, ..self }
    }

    /// Whether a parameter with this path is in the group.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, path))
    }

    /// The first pattern that none of `paths` matches, which is most likely misspelt.
    pub(crate) fn check(&self, paths: &[String]) -> Result<(), GroupError> {
        let idle = self.patterns.iter().find(|pattern| !paths.iter().any(|path| matches(pattern, path)));
        idle.map_or(Ok(()), |pattern| Err(GroupError::Idle { pattern: pattern.clone() }))
    }
}

/// Whether the path has the form of the pattern, field by field.
fn matches(pattern: &str, path: &str) -> bool {
    fn fields(patterns: &[&str], path: &[&str]) -> bool {
        match (patterns, path) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| fields(rest, &path[skipped..])),
            ([first, rest @ ..], [field, others @ ..]) => {
                characters(first.as_bytes(), field.as_bytes()) && fields(rest, others)
            }
            _ => false,
        }
    }
    let split = |text| str::split(text, '.').collect::<Vec<_>>();
    fields(&split(pattern), &split(path))
}

fn characters(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skipped| characters(rest, &text[skipped..])),
        ([b'?', rest @ ..], [_, others @ ..]) => characters(rest, others),
        ([first, rest @ ..], [character, others @ ..]) => first == character && characters(rest, others),
        _ => false,
    }
}
