//! Laws of softmax attention, whichever way it is computed: grouped heads, with a cap and without.

use burn::tensor::{Device, Int, Tensor};
use kiln_attention::{AttentionOptions, Causality, Mask, Scores, grouped_query};
use proptest::prelude::*;

use crate::support::{assert_close, devices_at, difference, values};

const CAPS: [Option<f64>; 2] = [None, Some(2.0)];

/// Four heads of queries, two of keys.
fn inputs(n: usize, m: usize, seed: usize, device: &Device) -> [Tensor<4>; 3] {
    let key = |which| values([2, 2, m, 4], seed * 4 + which, device) * 2.0;
    [values([2, 4, n, 4], seed * 4 + 1, device) * 2.0, key(2), key(3)]
}

fn attend([q, k, v]: [Tensor<4>; 3], options: AttentionOptions, cap: Option<f64>) -> Tensor<4> {
    grouped_query(q, k, v, options, Scores { cap, dropout: None })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Not by a bit.
    #[test]
    fn the_future_does_not_change_the_past(n in 2_usize..40, cut in 1_usize..39, seed in 0_usize..99) {
        let cut = cut.min(n - 1);
        for (backend, device) in devices_at(seed) {
            let other = |x: Tensor<4>| {
                Tensor::cat(vec![x.clone().narrow(2, 0, cut), x.narrow(2, cut, n - cut) * -1.7], 2)
            };
            for cap in CAPS {
                let past = |inputs| {
                    let options = AttentionOptions { causality: Causality::Causal, ..AttentionOptions::default() };
                    attend(inputs, options, cap).narrow(2, 0, cut).into_data().iter::<f32>().collect::<Vec<_>>()
                };
                let changed = past(inputs(n, n, seed, &device).map(other));
                prop_assert_eq!(past(inputs(n, n, seed, &device)), changed, "{:?} on {}", cap, backend);
            }
        }
    }

    /// In any order of keys the same, in another order of queries in that order.
    #[test]
    fn order_is_nothing_to_keys((n, m) in (2_usize..12, 2_usize..20), turn in 1_usize..11, seed in 0_usize..99) {
        for (backend, device) in devices_at(seed) {
            for cap in CAPS {
                let turned = |x: Tensor<4>| x.roll_dim(turn as i64, 2);
                let [q, k, v] = inputs(n, m, seed, &device);
                let expected = attend([q.clone(), k.clone(), v.clone()], AttentionOptions::default(), cap);
                let found = attend([turned(q), turned(k), turned(v)], AttentionOptions::default(), cap);
                assert_close(backend, found, turned(expected), 1e-5);
            }
        }
    }

    /// Whatever stands there, and however many.
    #[test]
    fn padding_that_is_hidden_changes_nothing((n, m, more) in (1_usize..9, 1_usize..20, 1_usize..9), seed in 0_usize..99) {
        for (backend, device) in devices_at(seed) {
            for cap in CAPS {
                let [q, k, v] = inputs(n, m, seed, &device);
                let padded = |x: &Tensor<4>, with: f32| {
                    Tensor::cat(vec![x.clone(), Tensor::full([2, 2, more, 4], with, &device)], 2)
                };
                let visible =
                    Tensor::cat(vec![Tensor::<2, Int>::ones([2, m], &device), Tensor::zeros([2, more], &device)], 1);
                let mask = Mask::visible_keys(visible).additive([2, 4, n, m + more], q.dtype());
                let options = AttentionOptions { mask: Some(mask), ..AttentionOptions::default() };
                let found = attend([q.clone(), padded(&k, 3.0), padded(&v, 1e4)], options, cap);
                let expected = attend([q, k, v], AttentionOptions::default(), cap);
                assert_close(backend, found, expected, 1e-5);
            }
        }
    }

    /// What is in the mask and what is done by causality are one: hidden by both, and a bias added.
    #[test]
    fn a_mask_and_causality_go_together(n in 1_usize..20, seed in 0_usize..99) {
        for (backend, device) in devices_at(seed) {
            for cap in CAPS {
                let bias = || Mask::bias(values([1, 4, n, n], seed, &device));
                let additive = |mask: Mask| Some(mask.additive([2, 4, n, n], burn::tensor::DType::F32));
                let both = AttentionOptions { mask: additive(bias()), causality: Causality::Causal, scale: None };
                let past = Mask::by_offset(n, n, |offset| offset <= 0, &device);
                let one = AttentionOptions { mask: additive(bias().and(past)), ..AttentionOptions::default() };
                let [first, second] = [both, one].map(|options| attend(inputs(n, n, seed, &device), options, cap));
                assert_close(backend, first, second, 1e-5);
            }
        }
    }
}

/// The laws can fail: a cap, a key, the future do matter.
#[test]
fn what_is_seen_matters() {
    let device = Device::flex();
    let all = |cap| attend(inputs(6, 6, 1, &device), AttentionOptions::default(), cap);
    assert!(difference(all(None), all(Some(2.0))) > 1e-3);
    let past = AttentionOptions { causality: Causality::Causal, ..AttentionOptions::default() };
    assert!(difference(all(None), attend(inputs(6, 6, 1, &device), past, None)) > 1e-3);
}
