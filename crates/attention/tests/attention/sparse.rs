//! Sparse and low-rank attention: PyTorch's and transformers' numbers (tests/reference/attention_kinds.py), and laws.

use burn::tensor::{Device, Tensor};
use kiln_attention::low_rank::{LinformerConfig, Sharing, nystrom, pseudo_inverse};
use kiln_attention::sparse::{Pattern, sparse_attention};
use kiln_attention::{AttentionOptions, Causality};
use kiln_backend::{ops, testing};
use proptest::prelude::*;
use rstest::rstest;

use crate::support::{Golden, assert_close, devices_at, difference, values};

#[rstest]
#[case("local", Pattern::Local { reach: 2 })]
#[case("atrous", Pattern::Atrous { stride: 4 })]
#[case("strided", Pattern::Strided { reach: 2, stride: 4 })]
fn numbers_are_those_of_torch(#[case] name: &str, #[case] pattern: Pattern) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let tensor = |part: &str| golden.tensor::<4>(&format!("sparse.{part}"), &device);
        for (causality, of) in [(Causality::None, "all"), (Causality::Causal, "causal")] {
            let found = sparse_attention(tensor("q"), tensor("k"), tensor("v"), pattern, causality);
            assert_close(&format!("{name} {of} on {backend}"), found, tensor(&format!("{name}.{of}")), 2e-6);
        }
    }
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        (0_usize..9).prop_map(|reach| Pattern::Local { reach }),
        (1_usize..9).prop_map(|stride| Pattern::Atrous { stride }),
        (0_usize..9, 1_usize..9).prop_map(|(reach, stride)| Pattern::Strided { reach, stride }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_is_its_mask(n in 1_usize..24, pattern in any_pattern(), past in any::<bool>(), seed in 0_usize..99) {
        let causality = if past { Causality::Causal } else { Causality::None };
        for (backend, device) in devices_at(seed) {
            let [q, k, v] = [1, 2, 3].map(|which| values([2, 2, n, 4], seed * 4 + which, &device) * 2.0);
            let mask = Some(pattern.mask(n, n, causality, &device).additive([2, 2, n, n], q.dtype()));
            let options = AttentionOptions { mask, ..AttentionOptions::default() };
            let expected = ops::scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), options);
            let found = sparse_attention(q, k, v, pattern, causality);
            assert_close(&format!("{pattern:?} on {backend}"), found, expected, 1e-5);
        }
    }
}

#[test]
fn linformer_is_attention_over_projected_keys() {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let tensor = |part: &str| golden.tensor::<4>(&format!("linformer.{part}"), &device);
        for (sharing, expected) in [(Sharing::None, "y"), (Sharing::KeyValue, "shared.y")] {
            let mut layer = LinformerConfig::new(9, 4).with_sharing(sharing).init(&device);
            layer.key = layer.key.map(|_| golden.tensor("linformer.key", &device));
            layer.value = layer.value.map(|value| value.map(|_| golden.tensor("linformer.value", &device)));
            let found = layer.forward(tensor("q"), tensor("k"), tensor("v"));
            assert_close(&format!("{sharing:?} on {backend}"), found, tensor(expected), 5e-6);
        }
    }
}

#[rstest]
#[case(4)]
#[case(12)]
fn nystrom_is_that_of_transformers(#[case] landmarks: usize) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let tensor = |part: &str| golden.tensor::<3>(&format!("nystrom.{landmarks}.{part}"), &device);
        let [q, k, v] = ["q", "k", "v"].map(|part| kiln_attention::softmax::split(tensor(part), 2));
        let found = kiln_attention::softmax::join(nystrom(q, k, v, landmarks, 6));
        assert_close(&format!("{landmarks} on {backend}"), found, tensor("y"), 5e-6);
    }
}

/// More landmarks, a better approximation; and of an invertible matrix, the inverse.
#[test]
fn landmarks_come_nearer() {
    let device = Device::flex();
    let smooth = |seed: usize| {
        let coarse = values::<4>([1, 1, 64, 8], seed, &device);
        coarse.cumsum(2) * 0.3
    };
    let (q, k, v) = (smooth(1), smooth(2), smooth(3));
    let exact = nystrom(q.clone(), k.clone(), v.clone(), 64, 0);
    let error = |landmarks| {
        let mean: f32 = (nystrom(q.clone(), k.clone(), v.clone(), landmarks, 20) - exact.clone())
            .abs()
            .mean()
            .into_scalar();
        mean
    };
    let (few, many) = (error(2), error(32));
    assert!(many < few / 2.0, "{few} with 2, {many} with 32");
    let matrix = burn::tensor::activation::softmax(values::<4>([1, 2, 3, 3], 5, &device) * 2.0, 3);
    let identity = Tensor::<2>::eye(3, &device).unsqueeze::<4>().expand([1, 2, 3, 3]);
    assert!(difference(pseudo_inverse(matrix.clone(), 20).matmul(matrix), identity) < 1e-3);
}

#[test]
#[should_panic(expected = "5 landmarks do not divide 12 tokens")]
fn segments_are_as_long_as_each_other() {
    let x = values([1, 1, 12, 4], 1, &Device::flex());
    let _ = nystrom(x.clone(), x.clone(), x, 5, 6);
}
