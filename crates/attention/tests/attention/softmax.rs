//! Softmax attention: diffusers' numbers (tests/reference/attention.py), and laws.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_attention::{
    AttentionOptions, Causality, Mask, MultiHeadAttention, MultiHeadAttentionConfig, ProjectionBias, QkNorm,
    ScorePrecision, multi_head,
};
use kiln_backend::testing;
use kiln_checkpoint::Checkpoint;
use rstest::rstest;

fn values<const D: usize>(shape: [usize; D], seed: f32, device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7 + seed).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn difference<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    (found - expected).abs().max().into_scalar()
}

fn base() -> MultiHeadAttentionConfig {
    MultiHeadAttentionConfig::new(12, 3, 8)
}

#[rstest]
#[case::of_itself("self", base())]
#[case::cross("cross", base().with_context_dim(Some(10)))]
#[case::bias("bias", base().with_bias(ProjectionBias::All))]
#[case::rms("rms", base().with_qk_norm(QkNorm::RmsNorm))]
#[case::rms_large_eps(
    "rms_large_eps",
    base().with_qk_norm(QkNorm::RmsNorm).with_eps(0.1).with_bias(ProjectionBias::All)
)]
#[case::layer_norm("layer_norm", base().with_qk_norm(QkNorm::LayerNorm).with_context_dim(Some(10)))]
#[case::layer_norm_large_eps("layer_norm_large_eps", base().with_qk_norm(QkNorm::LayerNorm).with_eps(0.1))]
#[case::one_head("one_head", MultiHeadAttentionConfig::new(12, 1, 12).with_precision(ScorePrecision::F32))]
#[case::masked("masked", base().with_context_dim(Some(10)))]
fn numbers_are_those_of_diffusers(#[case] name: &str, #[case] config: MultiHeadAttentionConfig) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/softmax.safetensors");
    let golden = Checkpoint::open(golden).unwrap();
    for (backend, device) in testing::devices() {
        let layer: MultiHeadAttention = config.init(&device);
        let loaded = golden.part(&format!("{name}.layer.")).load_into(layer).unwrap();
        assert!(loaded.surplus.is_empty(), "{:?}", loaded.surplus);
        let input = |part: &str| {
            let part = format!("{name}.{part}");
            golden.info(&part)?;
            Some(Tensor::<3>::from_data(golden.tensor(&part).unwrap(), &device))
        };
        let (x, context) = (input("x").unwrap(), input("context"));
        let mask = golden.info(&format!("{name}.visible")).map(|_| {
            let visible = golden.tensor(&format!("{name}.visible")).unwrap();
            let keys = context.as_ref().unwrap_or(&x).dims()[1];
            let scores = [x.dims()[0], config.heads, x.dims()[1], keys];
            Mask::visible_keys(Tensor::<2, Int>::from_data(visible, &device)).additive(scores, x.dtype())
        });
        let options = AttentionOptions { mask, ..AttentionOptions::default() };
        let error = difference(loaded.module.forward(x, context, options), input("y").unwrap());
        assert!(error < 2e-6, "{name} on {backend}: {error}");
    }
}

/// softmax(q k^T / sqrt(d)) v, term by term on the host.
#[test]
fn one_head_is_the_formula() {
    for (backend, device) in testing::devices() {
        let [q, k, v] =
            [[2, 5, 6], [2, 4, 6], [2, 4, 6]].map(|shape| values(shape, shape[1] as f32, &device));
        let found = multi_head(q.clone(), k.clone(), v.clone(), 1, AttentionOptions::default());
        let [found, q, k, v] = [found, q, k, v].map(|x| x.into_data().iter::<f32>().collect::<Vec<_>>());
        for batch in 0..2 {
            for query in 0..5 {
                let row = |x: &[f32], n: usize, at: usize| x[(batch * n + at) * 6..][..6].to_vec();
                let exp: Vec<f64> = (0..4)
                    .map(|key| {
                        let terms = row(&q, 5, query).into_iter().zip(row(&k, 4, key));
                        let score: f64 = terms.map(|(q, k)| f64::from(q) * f64::from(k)).sum();
                        (score / 6_f64.sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = exp.iter().sum();
                for (channel, found) in row(&found, 5, query).into_iter().enumerate() {
                    let y: f64 = (0..4).map(|key| exp[key] / sum * f64::from(row(&v, 4, key)[channel])).sum();
                    assert!((f64::from(found) - y).abs() < 1e-6, "{backend}: {found} for {y}");
                }
            }
        }
    }
}

/// Heads are attention over parts of the channels, side by side.
#[test]
fn heads_do_not_see_each_other() {
    for (backend, device) in testing::devices() {
        let [q, k, v] = [1.0, 2.0, 3.0].map(|seed| values([1, 5, 12], seed, &device));
        let all = multi_head(q.clone(), k.clone(), v.clone(), 3, AttentionOptions::default());
        let part = |x: &Tensor<3>, head: usize| x.clone().narrow(2, head * 4, 4);
        for head in 0..3 {
            let alone =
                multi_head(part(&q, head), part(&k, head), part(&v, head), 1, AttentionOptions::default());
            assert!(difference(part(&all, head), alone) < 1e-6, "head {head} on {backend}");
        }
    }
}

#[test]
fn queries_in_another_order_are_answered_in_that_order_and_keys_have_none() {
    for (backend, device) in testing::devices() {
        let layer = base().with_context_dim(Some(10)).init(&device);
        let (x, context) = (values([2, 5, 12], 0.0, &device), values([2, 4, 10], 1.0, &device));
        let order = |x: &Tensor<3>, order: &[i64]| {
            x.clone().select(
                1,
                Tensor::<1, Int>::from_data(TensorData::new(order.to_vec(), [order.len()]), &device),
            )
        };
        let answer = |x, context| layer.forward(x, Some(context), AttentionOptions::default());
        let expected = answer(x.clone(), context.clone());
        let turned = answer(order(&x, &[3, 0, 4, 1, 2]), order(&context, &[2, 3, 1, 0]));
        assert!(difference(turned, order(&expected, &[3, 0, 4, 1, 2])) < 1e-6, "{backend}");
        let other = answer(x, order(&context, &[0, 0, 1, 2]));
        assert!(difference(other, expected) > 1e-3, "{backend}: which keys there are does matter");
    }
}

/// The future does not change the past: not by a bit.
#[test]
fn causal_attention_does_not_see_the_future() {
    for (backend, device) in testing::devices() {
        let layer = base().init(&device);
        let x = values([1, 6, 12], 0.0, &device);
        let moved = Tensor::cat(vec![x.clone().narrow(1, 0, 4), x.clone().narrow(1, 4, 2) * 3.0], 1);
        let answer = |x: Tensor<3>, causality| {
            layer.forward(x, None, AttentionOptions { causality, ..AttentionOptions::default() })
        };
        let past = |x: Tensor<3>, causality| answer(x, causality).narrow(1, 0, 4).into_data();
        assert_eq!(past(x.clone(), Causality::Causal), past(moved.clone(), Causality::Causal), "{backend}");
        assert_ne!(past(x.clone(), Causality::None), past(moved.clone(), Causality::None), "{backend}");
        let now = |x| answer(x, Causality::Causal).narrow(1, 4, 2);
        assert!(difference(now(x), now(moved)) > 1e-3, "{backend}: the present is seen");
    }
}

#[test]
fn a_scale_is_taken_in_place_of_the_usual_one() {
    for (backend, device) in testing::devices() {
        let [q, k, v] = [1.0, 2.0, 3.0].map(|seed| values([1, 4, 8], seed, &device));
        let answer = |q, scale| {
            multi_head(q, k.clone(), v.clone(), 2, AttentionOptions { scale, ..AttentionOptions::default() })
        };
        assert!(
            difference(answer(q.clone(), Some(0.5)), answer(q.clone(), None)) < 1e-6,
            "{backend}: 1 / sqrt 4"
        );
        assert!(difference(answer(q.clone(), Some(1.0)), answer(q * 2.0, None)) < 1e-6, "{backend}");
    }
}

#[test]
#[should_panic(expected = "5 heads do not divide a width of 12")]
fn heads_divide_the_width() {
    let x = values([1, 2, 12], 0.0, &Device::flex());
    let _ = multi_head(x.clone(), x.clone(), x, 5, AttentionOptions::default());
}
