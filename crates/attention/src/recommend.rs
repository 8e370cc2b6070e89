//! Which attention is the faster one, from what was measured.
//!
//! ```text
//! softmax   heads n^2 (A d + B)          two products a pair of tokens, and an exponential
//! linear    heads n d (C d + D)          two products a token, and features
//! ```
//!
//! Both share the factor `heads n`, and so the crossing point n* = d (C d + D) / (A d + B) is one of d alone.

// Nanoseconds of a core, as `examples/scaling.rs` fitted and printed them on 23 November 2026: one thread of a virtual
// machine with two cores of an AMD EPYC (AVX-512, 1 MiB of L2 cache a core), heads of d = 32, 64 and 128 at n = 4096
// (softmax) and 16,384 (linear). Within 2.2 % of all six.
const SOFTMAX_A: f64 = 0.0522;
const SOFTMAX_B: f64 = 0.2288;
const LINEAR_C: f64 = 0.0373;
const LINEAR_D: f64 = 1.7498;

/// What [`recommend`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recommendation {
    /// The sequence is short: softmax attention is not the slower one.
    Softmax,
    /// The sequence is long: linear attention is the faster one, if its similarity serves.
    Linear,
}

/// Nanoseconds of a core that softmax attention of n tokens takes on the CPU, forward.
#[must_use]
pub fn softmax_cost(n: usize, d: usize, heads: usize) -> f64 {
    let (n, d) = (n as f64, d as f64);
    heads as f64 * n * n * (SOFTMAX_A * d + SOFTMAX_B)
}

/// Nanoseconds of a core that linear attention of n tokens takes on the CPU, forward, over all keys.
#[must_use]
pub fn linear_cost(n: usize, d: usize, heads: usize) -> f64 {
    let (n, d) = (n as f64, d as f64);
    heads as f64 * n * d * (LINEAR_C * d + LINEAR_D)
}

/// Which attention over `n` tokens in `heads` heads of `d` channels is the faster one. It is about speed alone: linear
/// attention is another function, with another quality.
#[must_use]
pub fn recommend(n: usize, d: usize, heads: usize) -> Recommendation {
    if linear_cost(n, d, heads) < softmax_cost(n, d, heads) {
        Recommendation::Linear
    } else {
        Recommendation::Softmax
    }
}
