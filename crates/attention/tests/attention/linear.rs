//! Linear attention: numbers of tests/reference/attention_kinds.py, and laws.

use burn::tensor::{Device, Int, Tensor};
use kiln_attention::linear::{
    CausalForm, FeatureMap, Features, LearnedFeaturesConfig, LinearAttentionConfig, LinearKernel,
    LinearState, LinearStateRecord, RandomFeaturesConfig, causal_linear_attention, linear_attention,
    mapped_linear_attention, quadratic_linear_attention,
};
use kiln_attention::{AttentionOptions, Causality};
use kiln_backend::noise::NoiseKey;
use kiln_backend::{ops, testing};
use kiln_checkpoint::{Checkpoint, SaveOptions, to_bytes};
use proptest::prelude::*;
use rstest::rstest;
use rstest_reuse::{apply, template};

use crate::support::{Golden, assert_close, devices_at, difference, values};

const MAPS: [FeatureMap; 7] = [
    FeatureMap::EluPlusOne,
    FeatureMap::Relu,
    FeatureMap::SquaredRelu,
    FeatureMap::Exp,
    FeatureMap::TwoSoftmax,
    FeatureMap::Taylor,
    FeatureMap::Cosine { length: 64 },
];

#[template]
#[rstest]
#[case::elu_plus_one("elu_plus_one", FeatureMap::EluPlusOne)]
#[case::relu("relu", FeatureMap::Relu)]
#[case::squared_relu("squared_relu", FeatureMap::SquaredRelu)]
#[case::exp("exp", FeatureMap::Exp)]
#[case::two_softmax("two_softmax", FeatureMap::TwoSoftmax)]
#[case::taylor("taylor", FeatureMap::Taylor)]
#[case::cosine("cosine", FeatureMap::Cosine { length: 16 })]
fn every_map(#[case] name: &str, #[case] map: FeatureMap) {}

/// A sum of similarities may be small, and then what is divided by it is as inexact as that sum.
const TOLERANCE: f32 = 5e-6;

#[apply(every_map)]
fn numbers_are_those_of_the_definition(#[case] name: &str, #[case] map: FeatureMap) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let [q, k, v] = ["q", "k", "v"].map(|part| golden.tensor(&format!("linear.{part}"), &device));
        let expected = golden.tensor(&format!("linear.{name}.all"), &device);
        let features = || map.features(q.clone(), k.clone(), 0, Causality::None);
        assert_eq!(features().key.dims()[3], map.width(6));
        let what = format!("{name} on {backend}");
        assert_close(&what, linear_attention(features(), v.clone()), expected.clone(), TOLERANCE);
        assert_close(&what, quadratic_linear_attention(features(), v.clone()), expected, TOLERANCE);
        let found = mapped_linear_attention(q.clone(), k.clone(), v.clone(), map);
        assert_close(&what, found, golden.tensor(&format!("linear.{name}.all"), &device), TOLERANCE);
        let expected: Tensor<4> = golden.tensor(&format!("linear.{name}.causal"), &device);
        for form in [CausalForm::Quadratic, CausalForm::Chunked(4), CausalForm::Recurrent] {
            let features = map.features(q.clone(), k.clone(), 0, Causality::Causal);
            let found = causal_linear_attention(features, v.clone(), form);
            assert_close(&format!("{what}, {form:?}"), found, expected.clone(), TOLERANCE);
        }
    }
}

#[test]
fn random_and_learned_features_are_those_of_the_definition() {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let tensor = |name: &str| golden.tensor::<4>(&format!("linear.{name}"), &device);
        let (q, k, v) = (tensor("q"), tensor("k"), tensor("v"));
        let mut random = RandomFeaturesConfig::new(6, 10).init(NoiseKey::new(1), &device);
        random.projection = random.projection.map(|_| golden.tensor("linear.projection", &device));
        let mut learned = LearnedFeaturesConfig::new(3, 6, 7).init(&device);
        learned.weight = learned.weight.map(|_| golden.tensor("linear.weight", &device));
        learned.bias = learned.bias.map(|_| golden.tensor("linear.bias", &device));
        let all = random.features(q.clone(), k.clone(), Causality::None);
        assert_close(backend, linear_attention(all, v.clone()), tensor("random.all"), TOLERANCE);
        let past = random.features(q.clone(), k.clone(), Causality::Causal);
        let found = causal_linear_attention(past, v.clone(), CausalForm::Chunked(4));
        assert_close(backend, found, tensor("random.causal"), TOLERANCE);
        let features = learned.features(q, k);
        assert_close(
            backend,
            linear_attention(features.clone(), v.clone()),
            tensor("learned.all"),
            TOLERANCE,
        );
        let found = causal_linear_attention(features, v, CausalForm::Chunked(4));
        assert_close(backend, found, tensor("learned.causal"), TOLERANCE);
    }
}

#[test]
fn hidden_keys_add_nothing() {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let [q, k, v] = ["q", "k", "v"].map(|part| golden.tensor(&format!("linear.{part}"), &device));
        let visible = golden.integers("linear.masked.visible", &device);
        let features = FeatureMap::EluPlusOne.features(q, k, 0, Causality::None).with_visible_keys(visible);
        let expected = golden.tensor("linear.masked.all", &device);
        assert_close(backend, linear_attention(features, v), expected, TOLERANCE);
    }
}

/// Not by an exception of the code: nothing is similar to it.
#[rstest]
#[case(FeatureMap::EluPlusOne)]
#[case(FeatureMap::TwoSoftmax)]
#[case(FeatureMap::Taylor)]
fn where_no_key_is_visible_the_answer_is_zeros(#[case] map: FeatureMap) {
    for (backend, device) in testing::devices() {
        let [q, k, v] = [1, 2, 3].map(|seed| values([1, 2, 5, 4], seed, &device));
        let hidden = || Tensor::<2, Int>::zeros([1, 5], &device);
        let zeros = Tensor::zeros([1, 2, 5, 4], &device);
        let features = map.features(q.clone(), k.clone(), 0, Causality::None).with_visible_keys(hidden());
        assert_close(backend, linear_attention(features, v.clone()), zeros.clone(), 0.0);
        let features = map.features(q, k, 0, Causality::Causal).with_visible_keys(hidden());
        assert_close(backend, causal_linear_attention(features, v, CausalForm::Chunked(2)), zeros, 0.0);
    }
}

fn any_map() -> impl Strategy<Value = FeatureMap> {
    prop::sample::select(MAPS.to_vec())
}

fn inputs(sizes: [usize; 4], seed: usize, device: &Device) -> [Tensor<4>; 3] {
    [1, 2, 3].map(|which| values(sizes, seed * 4 + which, device) * 2.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunked_is_recurrent_is_quadratic(
        (heads, n, d) in (1_usize..3, 1_usize..20, 1_usize..6), chunk in 1_usize..9, map in any_map(), seed in 0_usize..99,
    ) {
        for (backend, device) in devices_at(seed) {
            let [q, k, v] = inputs([2, heads, n, d], seed, &device);
            let answer = |form| {
                causal_linear_attention(map.features(q.clone(), k.clone(), 0, Causality::Causal), v.clone(), form)
            };
            let expected = answer(CausalForm::Quadratic);
            let what = format!("{map:?} on {backend}");
            let scale = 1.0 + expected.clone().abs().max().into_scalar::<f32>();
            assert_close(&what, answer(CausalForm::Chunked(chunk)), expected.clone(), 1e-4 * scale);
            assert_close(&what, answer(CausalForm::Recurrent), expected, 1e-4 * scale);
        }
    }

    /// In any order of keys, and in the queries' own order.
    #[test]
    fn order_is_nothing_to_a_sum(n in 2_usize..12, turn in 1_usize..11, map in any_map(), seed in 0_usize..99) {
        // A cosine looks at places.
        prop_assume!(!matches!(map, FeatureMap::Cosine { .. }));
        for (backend, device) in devices_at(seed) {
            let [q, k, v] = inputs([1, 2, n, 4], seed, &device);
            let turned = |x: &Tensor<4>| x.clone().roll_dim(turn as i64, 2);
            let answer = |q, k, v| linear_attention(map.features(q, k, 0, Causality::None), v);
            let expected = turned(&answer(q.clone(), k.clone(), v.clone()));
            let found = answer(turned(&q), turned(&k), turned(&v));
            assert_close(&format!("{map:?} on {backend}"), found, expected, 1e-4);
        }
    }

    /// Not by a bit.
    #[test]
    fn the_future_does_not_change_the_past(
        n in 2_usize..20, cut in 1_usize..19, chunk in 1_usize..9, map in any_map(), seed in 0_usize..99,
    ) {
        let cut = cut.min(n - 1);
        for (backend, device) in devices_at(seed) {
            let [q, k, v] = inputs([1, 2, n, 4], seed, &device);
            let other = |x: &Tensor<4>| {
                Tensor::cat(vec![x.clone().narrow(2, 0, cut), x.clone().narrow(2, cut, n - cut) * -1.7], 2)
            };
            let past = |q, k, v| {
                let features = map.features(q, k, 0, Causality::Causal);
                let y = causal_linear_attention(features, v, CausalForm::Chunked(chunk));
                y.narrow(2, 0, cut).into_data().iter::<f32>().collect::<Vec<_>>()
            };
            let changed = past(other(&q), other(&k), other(&v));
            prop_assert_eq!(past(q, k, v), changed, "{:?} on {}", map, backend);
        }
    }

    #[test]
    fn padding_that_is_hidden_changes_nothing(n in 1_usize..9, more in 1_usize..6, map in any_map(), seed in 0_usize..99) {
        for (backend, device) in devices_at(seed) {
            let [q, k, v] = inputs([1, 2, n, 4], seed, &device);
            let padded = |x: &Tensor<4>, with: f32| {
                Tensor::cat(vec![x.clone(), Tensor::full([1, 2, more, 4], with, &device)], 2)
            };
            let visible = Tensor::cat(
                vec![Tensor::<2, Int>::ones([1, n], &device), Tensor::zeros([1, more], &device)],
                1,
            );
            let features = map.features(padded(&q, 0.3), padded(&k, 1.7), 0, Causality::None);
            let found = linear_attention(features.with_visible_keys(visible), padded(&v, 9.0)).narrow(2, 0, n);
            let expected = linear_attention(map.features(q, k, 0, Causality::None), v);
            assert_close(&format!("{map:?} on {backend}"), found, expected, 1e-4);
        }
    }
}

/// Keys of 80: e^160 has no place in f32.
#[test]
fn exponentials_fit() {
    for (backend, device) in testing::devices() {
        let [q, k, v] = inputs([1, 1, 6, 4], 7, &device);
        let large = |x: Tensor<4>| x * 80.0;
        for map in [FeatureMap::Exp, FeatureMap::TwoSoftmax] {
            let y = linear_attention(
                map.features(large(q.clone()), large(k.clone()), 0, Causality::None),
                v.clone(),
            );
            let largest: f32 = y.abs().max().into_scalar();
            assert!(
                largest.is_finite() && largest > 0.0 && largest <= 2.1,
                "{map:?} on {backend}: {largest}"
            );
        }
    }
}

/// The mean over draws comes nearer to softmax attention, as 1 / sqrt(draws) says, and orthogonal rows are at right angles.
#[test]
fn random_features_are_softmax_on_average() {
    let device = Device::flex();
    let d = 8;
    let [q, k, v] = inputs([1, 2, 10, d], 11, &device).map(|x| x / 2.0);
    let exact =
        ops::scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), AttentionOptions::default());
    let random = |features, seed| RandomFeaturesConfig::new(d, features).init(NoiseKey::new(seed), &device);
    let error = |features| {
        let features = random(features, 3).features(q.clone(), k.clone(), Causality::None);
        difference(linear_attention(features, v.clone()), exact.clone())
    };
    let (few, many) = (error(16), error(8192));
    assert!(many < 0.05 && many < few / 3.0, "{few} with 16, {many} with 8192");
    let rows: Vec<f32> = random(d, 5).projection.val().into_data().iter().collect();
    for a in 0..d {
        for b in 0..a {
            let product: f32 = (0..d).map(|i| rows[a * d + i] * rows[b * d + i]).sum();
            assert!(product.abs() < 1e-4, "rows {a} and {b}: {product}");
        }
    }
    assert_ne!(
        random(d, 5).redrawn(NoiseKey::new(6)).projection.val().into_data(),
        random(d, 5).projection.val().into_data()
    );
}

#[rstest]
#[case::map(LinearKernel::Map(FeatureMap::EluPlusOne))]
#[case::cosine(LinearKernel::Map(FeatureMap::Cosine { length: 32 }))]
#[case::two_softmax(LinearKernel::Map(FeatureMap::TwoSoftmax))]
#[case::random(LinearKernel::Random { features: 12, seed: 4 })]
#[case::learned(LinearKernel::Learned { features: 5 })]
fn decoding_goes_on_from_a_state(#[case] kernel: LinearKernel) {
    for (backend, device) in testing::devices() {
        let layer = LinearAttentionConfig::new(8, 2, 4)
            .with_kernel(kernel)
            .with_causality(Causality::Causal)
            .with_form(CausalForm::Chunked(3))
            .init(&device);
        let x = values([2, 9, 8], 5, &device);
        let expected = layer.forward(x.clone(), None, None);
        let mut state = LinearState::default();
        let mut parts = vec![layer.decode(x.clone().narrow(1, 0, 4), &mut state)];
        let text = serde_json::to_string(&state.to_record()).unwrap();
        let record: LinearStateRecord = serde_json::from_str(&text).unwrap();
        let mut state = LinearState::from_record(record, &device).expect("it is a state's");
        assert_eq!(state.seen(), 4);
        parts.extend((4..9).map(|i| layer.decode(x.clone().narrow(1, i, 1), &mut state)));
        assert_close(&format!("{kernel:?} on {backend}"), Tensor::cat(parts, 1), expected, 2e-5);
    }
}

/// A draw is saved with its layer, and does not learn.
#[test]
fn random_features_are_saved() {
    let device = Device::flex().autodiff();
    let config =
        LinearAttentionConfig::new(8, 2, 4).with_kernel(LinearKernel::Random { features: 6, seed: 1 });
    let layer = config.init(&device);
    let other = config.with_kernel(LinearKernel::Random { features: 6, seed: 2 }).init(&device);
    let x = values([1, 5, 8], 1, &device);
    let file = Checkpoint::from_bytes(to_bytes(&layer, &SaveOptions::default()).unwrap()).unwrap();
    let loaded = file.load_into(other.clone()).unwrap().module;
    let expected = layer.forward(x.clone(), None, None);
    assert!(difference(other.forward(x.clone(), None, None), expected.clone()) > 1e-4);
    assert_close("loaded", loaded.forward(x, None, None), expected, 0.0);
}

#[test]
fn a_layer_attends_to_a_context() {
    for (backend, device) in testing::devices() {
        let layer = LinearAttentionConfig::new(8, 2, 4).with_context_dim(Some(6)).init(&device);
        let (x, context) = (values([2, 5, 8], 1, &device), values([2, 7, 6], 2, &device));
        let y = layer.forward(x.clone(), Some(context.clone()), None);
        assert_eq!(y.dims(), [2, 5, 8], "{backend}");
        let visible = Tensor::<2, Int>::from_data([[1, 1, 1, 0, 0, 0, 0]; 2], &device);
        let first = layer.forward(x.clone(), Some(context.clone()), Some(visible));
        assert_close(backend, first, layer.forward(x, Some(context.narrow(1, 0, 3)), None), 2e-5);
    }
}

/// Sums of many terms in f16 would stop growing at 2048.
#[test]
fn sums_are_in_f32_whatever_the_values_are_in() {
    use burn::tensor::DType;
    let device = Device::flex();
    let n = 5000;
    let [q, k] = [1, 2].map(|_| Tensor::<4>::ones([1, 1, n, 2], &device).cast(DType::F16));
    let v = Tensor::<4>::ones([1, 1, n, 2], &device).cast(DType::F16);
    let Features { query, key, normaliser } = FeatureMap::EluPlusOne.features(q, k, 0, Causality::Causal);
    let features = || Features { query: query.clone(), key: key.clone(), normaliser };
    for y in [
        linear_attention(features(), v.clone()),
        causal_linear_attention(features(), v.clone(), CausalForm::Chunked(64)),
    ] {
        assert_eq!(y.dtype(), DType::F16);
        let worst: f32 = (y.cast(DType::F32) - 1.0).abs().max().into_scalar();
        assert_eq!(worst, 0.0);
    }
}
