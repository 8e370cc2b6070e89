//! Grouped heads, caps, dropout: PyTorch's numbers (tests/reference/attention_kinds.py), and laws.

use burn::module::Module;
use burn::nn::DropoutConfig;
use burn::tensor::{Device, Tensor};
use kiln_attention::{AttentionOptions, Causality, Mask, MultiHeadAttentionConfig, Scores, grouped_query};
use kiln_backend::testing;
use rstest::rstest;

use crate::support::{Golden, assert_close, difference, values};

fn options(causality: Causality) -> AttentionOptions {
    AttentionOptions { causality, ..AttentionOptions::default() }
}

#[rstest]
#[case("grouped.2.all", Causality::None, None)]
#[case("grouped.2.causal", Causality::Causal, None)]
#[case("grouped.1.causal", Causality::Causal, None)]
#[case("grouped.4.all", Causality::None, None)]
#[case("capped", Causality::Causal, Some(1.5))]
fn numbers_are_those_of_torch(#[case] name: &str, #[case] causality: Causality, #[case] cap: Option<f64>) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let [q, k, v, y] = ["q", "k", "v", "y"].map(|part| golden.tensor(&format!("{name}.{part}"), &device));
        let found = grouped_query(q, k, v, options(causality), Scores { cap, dropout: None });
        assert_close(&format!("{name} on {backend}"), found, y, 2e-6);
    }
}

/// On the way with a cap, too.
#[rstest]
#[case::kernel(None)]
#[case::composed(Some(50.0))]
fn a_row_that_sees_no_key_gives_zeros(#[case] cap: Option<f64>) {
    for (backend, device) in testing::devices() {
        let [q, k, v] = [1, 2, 3].map(|seed| values([1, 2, 3, 4], seed, &device));
        let mask = Mask::by_offset(3, 3, |offset| offset < 0, &device).additive([1, 2, 3, 3], q.dtype());
        let options = AttentionOptions { mask: Some(mask), ..AttentionOptions::default() };
        let found = grouped_query(q, k, v.clone(), options, Scores { cap, dropout: None });
        let first: Vec<f32> = found.clone().narrow(2, 0, 1).into_data().iter().collect();
        assert_eq!(first, [0.0; 8], "{backend}");
        // The second sees the first alone.
        assert_close(backend, found.narrow(2, 1, 1), v.narrow(2, 0, 1), 1e-6);
    }
}

#[test]
fn a_distant_cap_is_none() {
    for (backend, device) in testing::devices() {
        let [q, k, v] = [1, 2, 3].map(|seed| values([2, 4, 5, 6], seed, &device));
        let attend = |cap| {
            let scores = Scores { cap, dropout: None };
            grouped_query(q.clone(), k.clone(), v.clone(), options(Causality::Causal), scores)
        };
        // A GPU's tanh is off by some 1e-8, which the cap multiplies.
        assert_close(backend, attend(Some(1e3)), attend(None), 5e-5);
        assert!(difference(attend(Some(0.1)), attend(None)) > 1e-3, "{backend}");
    }
}

/// With values of ones, what a query gets is the sum of its probabilities.
#[test]
fn dropout_is_of_probabilities_and_in_training_alone() {
    for (backend, device) in testing::devices() {
        let dropout = DropoutConfig::new(0.5).init();
        let attend = |device: &Device| {
            let [q, k] = [1, 2].map(|seed| values([1, 2, 8, 4], seed, device));
            let scores = Scores { cap: None, dropout: Some(&dropout) };
            grouped_query(q, k, Tensor::ones([1, 2, 8, 3], device), options(Causality::None), scores)
        };
        assert_close(backend, attend(&device), Tensor::ones([1, 2, 8, 3], &device), 1e-6);
        let trained = attend(&device.clone().autodiff()).inner();
        let away = difference(trained.clone(), Tensor::ones([1, 2, 8, 3], &device));
        assert!((0.05..=1.0).contains(&away), "{backend}: {away}");
        let mean: f32 = trained.mean().into_scalar();
        assert!((0.5..1.5).contains(&mean), "{backend}: {mean}");
    }
}

#[test]
fn a_layer_with_fewer_heads_of_keys_has_smaller_projections() {
    let device = Device::flex();
    let config = MultiHeadAttentionConfig::new(12, 4, 6);
    let (all, grouped) = (config.clone().init(&device), config.with_kv_heads(Some(2)).init(&device));
    assert_eq!(all.num_params() - grouped.num_params(), 2 * 12 * 2 * 6);
}

#[test]
#[should_panic(expected = "3 heads of keys do not divide 4 heads of queries")]
fn groups_are_of_as_many_heads_each() {
    let _ = MultiHeadAttentionConfig::new(12, 4, 6).with_kv_heads(Some(3)).init(&Device::flex());
}
