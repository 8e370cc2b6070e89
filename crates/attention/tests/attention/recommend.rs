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

/// What was measured, in nanoseconds of a core a head: n, d, and the time.
#[test]
fn costs_are_those_that_were_measured() {
    for (n, d, measured) in [(4096, 32, 0.0657), (4096, 64, 0.1233), (4096, 128, 0.235)] {
        let off = softmax_cost(n, d, 2) / (measured * 1e9) - 1.0;
        assert!(off.abs() < 0.03, "{n} tokens, {d} channels: {off}");
    }
    for (n, d, measured) in [(16_384, 32, 0.0032), (16_384, 64, 0.008_89), (16_384, 128, 0.028_46)] {
        let off = linear_cost(n, d, 2) / (measured * 1e9) - 1.0;
        assert!(off.abs() < 0.03, "{n} tokens, {d} channels: {off}");
    }
}
