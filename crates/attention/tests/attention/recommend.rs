//! Which attention is the faster one.

use kiln_attention::recommend::{linear_cost, softmax_cost};
use kiln_attention::{Recommendation, recommend};

#[test]
fn short_sequences_are_softmax_and_long_ones_linear() {
    for d in [32, 64, 128] {
        assert_eq!(recommend(16, d, 8), Recommendation::Softmax, "{d} channels");
        assert_eq!(recommend(1024, d, 8), Recommendation::Linear, "{d} channels");
        // There is one crossing, and the number of heads does not move it.
        let lengths: Vec<usize> = (1..1024).collect();
        let changes = lengths.windows(2).filter(|n| recommend(n[0], d, 1) != recommend(n[1], d, 1)).count();
        assert_eq!(changes, 1, "{d} channels");
        assert!(lengths.iter().all(|&n| recommend(n, d, 1) == recommend(n, d, 24)));
    }
}

/// Measured where the curves cross (`examples/scaling.rs`, two heads of 64 channels): with 32 tokens softmax is the faster one,
/// with 64 they are alike, with 128 linear is.
#[test]
fn the_crossing_is_where_it_was_measured() {
    assert_eq!(recommend(32, 64, 2), Recommendation::Softmax);
    assert_eq!(recommend(128, 64, 2), Recommendation::Linear);
}

/// What was measured, in seconds of a core for two heads: n, d, and the time.
#[test]
fn costs_are_those_that_were_measured() {
    for (n, d, measured) in [(4096, 32, 0.064_236), (4096, 64, 0.117_123), (4096, 128, 0.235_332)] {
        let off = softmax_cost(n, d, 2) / (measured * 1e9) - 1.0;
        assert!(off.abs() < 0.03, "{n} tokens, {d} channels: {off}");
    }
    for (n, d, measured) in [(16_384, 32, 0.003_078), (16_384, 64, 0.008_740), (16_384, 128, 0.027_284)] {
        let off = linear_cost(n, d, 2) / (measured * 1e9) - 1.0;
        assert!(off.abs() < 0.03, "{n} tokens, {d} channels: {off}");
    }
}
