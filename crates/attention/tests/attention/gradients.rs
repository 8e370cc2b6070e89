//! Gradients of every kind of attention, against central differences along a direction.

use burn::tensor::{Device, Tensor};
use kiln_attention::linear::{
    CausalForm, FeatureMap, LearnedFeaturesConfig, RandomFeaturesConfig, causal_linear_attention,
    linear_attention,
};
use kiln_attention::low_rank::nystrom;
use kiln_attention::positions::RotaryConfig;
use kiln_attention::sparse::{Pattern, sparse_attention};
use kiln_attention::{
    AttentionOptions, Causality, FlashConfig, GatedAttentionConfig, Mask, MultiHeadAttentionConfig, QkNorm,
    ScoreFunction, Scores, grouped_query,
};
use kiln_backend::noise::NoiseKey;
use kiln_backend::testing;
use rstest::rstest;

use crate::support::values;

/// Of a weighted sum of `f`, the derivative along a direction: by the backward pass, and by a difference.
#[track_caller]
fn check<const D: usize>(what: &str, device: &Device, x: Tensor<D>, f: impl Fn(Tensor<D>) -> Tensor<D>) {
    let device = device.clone().autodiff();
    let loss = |x: Tensor<D>| {
        let y = f(x);
        (y.clone() * values(y.dims(), 91, &device)).sum()
    };
    let along = values(x.dims(), 92, &device);
    let x: Tensor<D> = Tensor::from_data(x.into_data(), &device);
    let tracked = x.clone().require_grad();
    let gradient = tracked.grad(&loss(tracked.clone()).backward()).expect("it was asked for");
    let exact: f32 = (gradient * along.clone().inner()).sum().into_scalar();
    let step = 5e-3_f32;
    let at = |step: f32| -> f32 { loss(x.clone() + along.clone() * step).into_scalar() };
    let found = (at(step) - at(-step)) / (2.0 * step);
    let scale = 1.0 + exact.abs();
    assert!(exact.abs() > 1e-3, "{what}: a derivative of {exact} tells nothing");
    assert!((exact - found).abs() < 5e-3 * scale, "{what}: {exact}, by difference {found}");
}

/// `[query; key; value]`, one after the other along the tokens.
fn three(device: &Device) -> Tensor<4> {
    values([1, 2, 24, 4], 7, device)
}

fn parts(x: &Tensor<4>) -> [Tensor<4>; 3] {
    [0, 8, 16].map(|first| x.clone().narrow(2, first, 8))
}

#[test]
fn of_capped_scores() {
    for (backend, device) in testing::devices() {
        check(backend, &device, three(&device), |x| {
            let [q, k, v] = parts(&x);
            let mask = Mask::by_offset(8, 8, |offset| offset < 0, &x.device());
            let mask = Some(mask.additive([1, 2, 8, 8], x.dtype()));
            let scores = Scores { cap: Some(1.5), dropout: None };
            grouped_query(q, k, v, AttentionOptions { mask, ..AttentionOptions::default() }, scores)
        });
    }
}

/// Through the projections, the norms, the turns and the kernel; grouped, with dropout off and with a cap.
#[rstest]
#[case::plain(MultiHeadAttentionConfig::new(6, 2, 4))]
#[case::all(
    MultiHeadAttentionConfig::new(6, 4, 4)
        .with_kv_heads(Some(2))
        .with_qk_norm(QkNorm::RmsNorm)
        .with_rotary(Some(RotaryConfig::new()))
        .with_soft_cap(Some(2.0))
)]
fn of_softmax_attention(#[case] config: MultiHeadAttentionConfig) {
    for (backend, device) in testing::devices() {
        let tracked = device.clone().autodiff();
        tracked.seed(6);
        let layer = config.init(&tracked);
        for causality in [Causality::None, Causality::Causal] {
            let what = format!("{causality:?} on {backend}");
            // Weights as they are drawn are small, and so is what they let through.
            check(&what, &device, values([2, 7, 6], 3, &device) * 3.0, |x| {
                let options = AttentionOptions { causality, ..AttentionOptions::default() };
                layer.forward(x, None, options) * 10.0
            });
        }
    }
}

#[rstest]
#[case(FeatureMap::EluPlusOne)]
#[case(FeatureMap::SquaredRelu)]
#[case(FeatureMap::Exp)]
#[case(FeatureMap::TwoSoftmax)]
#[case(FeatureMap::Taylor)]
#[case(FeatureMap::Cosine { length: 8 })]
fn of_linear_attention(#[case] map: FeatureMap) {
    for (backend, device) in testing::devices() {
        let what = format!("{map:?} on {backend}");
        // All above 0, where no map has a kink.
        let inputs = || three(&device) * 0.5 + 0.6;
        check(&what, &device, inputs(), |x| {
            let [q, k, v] = parts(&x);
            linear_attention(map.features(q, k, 0, Causality::None), v)
        });
        check(&format!("{what}, causal"), &device, inputs(), |x| {
            let [q, k, v] = parts(&x);
            causal_linear_attention(map.features(q, k, 0, Causality::Causal), v, CausalForm::Chunked(3))
        });
    }
}

#[test]
fn of_random_and_learned_features() {
    for (backend, device) in testing::devices() {
        check(backend, &device, three(&device), |x| {
            let [q, k, v] = parts(&x);
            let random = RandomFeaturesConfig::new(4, 12).init(NoiseKey::new(1), &x.device());
            linear_attention(random.features(q, k, Causality::None), v)
        });
        // All above 0, where the features have no kink.
        let mut learned = LearnedFeaturesConfig::new(2, 4, 6).init(&device.clone().autodiff());
        learned.weight = learned.weight.map(|weight| values(weight.dims(), 93, &weight.device()) * 0.2);
        learned.bias = learned.bias.map(|bias| bias + 3.0);
        check(backend, &device, three(&device), |x| {
            let [q, k, v] = parts(&x);
            linear_attention(learned.features(q, k), v)
        });
    }
}

#[test]
fn of_sparse_and_low_rank_attention() {
    for (backend, device) in testing::devices() {
        check(backend, &device, three(&device), |x| {
            let [q, k, v] = parts(&x);
            sparse_attention(q, k, v, Pattern::Strided { reach: 2, stride: 3 }, Causality::Causal)
        });
        check(backend, &device, three(&device), |x| {
            let [q, k, v] = parts(&x);
            nystrom(q, k, v, 4, 6)
        });
    }
}

#[rstest]
#[case(ScoreFunction::SquaredRelu)]
#[case(ScoreFunction::Laplace)]
#[case(ScoreFunction::Softmax)]
fn of_gated_units(#[case] scores: ScoreFunction) {
    for (backend, device) in testing::devices() {
        let tracked = device.clone().autodiff();
        tracked.seed(5);
        let rotary = Some(RotaryConfig::new());
        for causality in [Causality::None, Causality::Causal] {
            let layer = GatedAttentionConfig::new(6)
                .with_shared_dim(8)
                .with_scores(scores)
                .with_causality(causality)
                .with_rotary(rotary.clone())
                .init(&tracked);
            let what = format!("{scores:?} on {backend}, {causality:?}");
            check(&what, &device, values([2, 7, 6], 3, &device), |x| layer.forward(x, None));
            let layer = FlashConfig::new(6)
                .with_shared_dim(8)
                .with_chunk(3)
                .with_scores(scores)
                .with_causality(causality)
                .with_rotary(rotary.clone())
                .init(&tracked);
            check(&what, &device, values([2, 7, 6], 3, &device), |x| layer.forward(x, None));
        }
    }
}
