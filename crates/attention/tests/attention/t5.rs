//! Relative positions in buckets: transformers' numbers (tests/reference/attention.py), and laws.

use std::path::Path;

use kiln_attention::Causality;
use kiln_attention::positions::{RelativeBiasConfig, RelativeBuckets};
use kiln_backend::testing;
use rstest::rstest;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    buckets: usize,
    max_distance: usize,
    bidirectional: bool,
    first: i64,
    of: Vec<usize>,
}

#[test]
fn buckets_are_those_of_transformers() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/t5_buckets.json");
    let goldens: Vec<Golden> = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    assert!(goldens.len() > 12);
    for Golden { buckets, max_distance, bidirectional, first, of } in goldens {
        let causality = if bidirectional { Causality::None } else { Causality::Causal };
        let relative = RelativeBuckets::new(buckets, max_distance, causality).unwrap();
        for (offset, expected) in (first..).zip(of) {
            let found = relative.bucket(offset);
            assert_eq!(found, expected, "{relative:?}: offset {offset}");
        }
    }
}

#[rstest]
#[case::past_and_future(Causality::None)]
#[case::past(Causality::Causal)]
fn farther_is_never_a_nearer_bucket(#[case] causality: Causality) {
    for (buckets, max_distance) in [(32, 128), (6, 1000), (17, 20)] {
        let relative = RelativeBuckets::new(buckets, max_distance, causality).unwrap();
        let of_past: Vec<_> = (0..2000).map(|distance| relative.bucket(-distance)).collect();
        assert!(of_past.is_sorted());
        assert_eq!(relative.bucket(-(max_distance as i64)), relative.bucket(i64::MIN));
        assert!((-2000..2000).all(|offset| relative.bucket(offset) < buckets));
        if causality == Causality::None {
            assert!((1..2000).all(|offset| relative.bucket(offset) >= buckets / 2), "the future is apart");
        } else {
            assert!((1..2000).all(|offset| relative.bucket(offset) == 0), "the future is hidden");
        }
    }
}

#[rstest]
#[case::too_few(3, 128)]
#[case::too_near(32, 8)]
#[case::none(0, 0)]
fn buckets_that_make_no_scale_are_refused(#[case] buckets: usize, #[case] max_distance: usize) {
    assert_eq!(RelativeBuckets::new(buckets, max_distance, Causality::None), None);
}

#[test]
fn a_bias_is_looked_up_by_bucket_and_head() {
    for (backend, device) in testing::devices() {
        let bias = RelativeBiasConfig::new(8, 3).with_max_distance(16).init(&device);
        let relative = RelativeBuckets::new(8, 16, Causality::None).unwrap();
        let weight: Vec<f32> = bias.weight.val().into_data().iter().collect();
        for (queries, keys) in [(5, 5), (3, 7), (6, 2)] {
            let found = bias.forward(queries, keys);
            assert_eq!(found.dims(), [1, 3, queries, keys], "{backend}");
            let found: Vec<f32> = found.into_data().iter().collect();
            for head in 0..3 {
                for query in 0..queries {
                    for key in 0..keys {
                        let bucket = relative.bucket(key as i64 - query as i64);
                        let place = (head * queries + query) * keys + key;
                        assert_eq!(found[place], weight[bucket * 3 + head], "{backend}");
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "3 buckets do not reach")]
fn a_table_of_too_few_buckets_is_a_mistake() {
    let _ = RelativeBiasConfig::new(3, 2).init(&burn::tensor::Device::flex());
}
