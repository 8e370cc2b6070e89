//! Decoding with kept keys and values is causal attention, however the tokens come.

use burn::tensor::{Device, Tensor};
use kiln_attention::positions::RotaryConfig;
use kiln_attention::{
    AttentionOptions, Causality, KeyValueCache, KeyValueRecord, Mask, MultiHeadAttention,
    MultiHeadAttentionConfig, QkNorm,
};
use kiln_backend::testing;
use rstest::rstest;

use crate::support::{assert_close, values};

fn layer(device: &Device) -> MultiHeadAttention {
    MultiHeadAttentionConfig::new(12, 4, 6)
        .with_kv_heads(Some(2))
        .with_qk_norm(QkNorm::RmsNorm)
        .with_rotary(Some(RotaryConfig::new()))
        .with_soft_cap(Some(3.0))
        .init(device)
}

fn decoded(
    layer: &MultiHeadAttention,
    x: &Tensor<3>,
    cache: &mut KeyValueCache,
    steps: &[usize],
) -> Tensor<3> {
    let mut first = cache.seen();
    let parts = steps.iter().map(|&n| {
        let part = x.clone().narrow(1, first, n);
        first += n;
        layer.decode(part, cache)
    });
    Tensor::cat(parts.collect(), 1)
}

#[rstest]
#[case::one_by_one(&[1, 1, 1, 1, 1, 1, 1])]
#[case::a_prompt_and_then(&[4, 1, 1, 1])]
#[case::in_parts(&[2, 3, 2])]
#[case::at_once(&[7])]
fn decoding_is_causal_attention(#[case] steps: &[usize]) {
    for (backend, device) in testing::devices() {
        let layer = layer(&device);
        let x = values([2, 7, 12], 1, &device);
        let options = AttentionOptions { causality: Causality::Causal, ..AttentionOptions::default() };
        let expected = layer.forward(x.clone(), None, options);
        let mut cache = KeyValueCache::new();
        assert_close(backend, decoded(&layer, &x, &mut cache, steps), expected, 2e-6);
        assert_eq!((cache.seen(), cache.kept()), (7, 7));
    }
}

#[rstest]
#[case::one_by_one(&[1, 1, 1, 1, 1, 1, 1])]
#[case::in_parts(&[2, 4, 1])]
fn a_window_keeps_no_more_than_it_sees(#[case] steps: &[usize]) {
    for (backend, device) in testing::devices() {
        let layer = layer(&device);
        let x = values([1, 7, 12], 2, &device);
        let mask = Mask::by_offset(7, 7, |offset| (-2..=0).contains(&offset), &device);
        let mask = Some(mask.additive([1, 4, 7, 7], x.dtype()));
        let expected =
            layer.forward(x.clone(), None, AttentionOptions { mask, ..AttentionOptions::default() });
        let mut cache = KeyValueCache::sliding(3);
        assert_close(backend, decoded(&layer, &x, &mut cache, steps), expected, 2e-6);
        assert_eq!((cache.seen(), cache.kept()), (7, 2));
    }
}

#[test]
fn a_cache_goes_on_after_a_file_and_forgets_a_draft() {
    for (backend, device) in testing::devices() {
        let layer = layer(&device);
        let x = values([1, 6, 12], 3, &device);
        let mut cache = KeyValueCache::new();
        let all = decoded(&layer, &x, &mut cache.clone(), &[6]);
        let _ = decoded(&layer, &x, &mut cache, &[3]);
        let _ = layer.decode(values([1, 2, 12], 4, &device), &mut cache);
        cache.forget(2);
        let text = serde_json::to_string(&cache.to_record()).unwrap();
        let record: KeyValueRecord = serde_json::from_str(&text).unwrap();
        let mut read = KeyValueCache::from_record(record, &device).expect("it is a cache's");
        let rest = decoded(&layer, &x, &mut read, &[1, 2]);
        assert_close(backend, rest, all.narrow(1, 3, 3), 2e-6);
    }
}

#[test]
fn a_record_that_is_no_caches_is_refused() {
    let device = Device::flex();
    let mut cache = KeyValueCache::new();
    cache.append(values([1, 1, 3, 4], 1, &device), values([1, 1, 3, 4], 2, &device));
    let text = serde_json::to_string(&cache.to_record()).unwrap();
    for (from, to) in [("\"seen\":3", "\"seen\":2"), ("\"window\":null", "\"window\":0")] {
        assert!(text.contains(from), "{text}");
        let record: KeyValueRecord = serde_json::from_str(&text.replace(from, to)).unwrap();
        assert!(KeyValueCache::from_record(record, &device).is_none(), "{to}");
    }
}
