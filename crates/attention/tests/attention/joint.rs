//! Joint attention is attention over the concatenation.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kiln_attention::{
    AttentionOptions, ContextOutput, JointAttention, JointAttentionConfig, MultiHeadAttention,
    MultiHeadAttentionConfig, ProjectionBias, QkNorm,
};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, SaveOptions, parameters, tensors_to_bytes, to_bytes};
use rstest::rstest;

fn values<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[track_caller]
fn assert_close(what: &str, found: Tensor<3>, expected: Tensor<3>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let error: f32 = (found - expected).abs().max().into_scalar();
    assert!(error < 2e-6, "{what}: {error}");
}

/// Norms start at 1 and 0, where a swap would not show.
struct Shaken;

impl ModuleMapper for Shaken {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.clone() + values(value.dims(), &value.device()) * 0.3)
    }
}

fn attention(qk_norm: QkNorm, device: &Device) -> MultiHeadAttention {
    let config = MultiHeadAttentionConfig::new(12, 2, 4).with_bias(ProjectionBias::All).with_qk_norm(qk_norm);
    config.init(device).map(&mut Shaken)
}

/// A joint attention whose context has the projections of the sample.
fn joint(of: &MultiHeadAttention, qk_norm: QkNorm, output: ContextOutput, device: &Device) -> JointAttention {
    let own = Checkpoint::from_bytes(to_bytes(of, &SaveOptions::default()).unwrap()).unwrap();
    let joint = JointAttentionConfig::new(12, 12, 2, 4)
        .with_qk_norm(qk_norm)
        .with_context_output(output)
        .init(device);
    let renamed = parameters(&joint).into_iter().map(|parameter| {
        let theirs = parameter
            .name
            .replace("norm_added_", "norm_")
            .replace("to_add_out", "to_out.0")
            .replace("add_q_proj", "to_q")
            .replace("add_k_proj", "to_k")
            .replace("add_v_proj", "to_v");
        (parameter.name, own.tensor(&theirs).unwrap())
    });
    let file = tensors_to_bytes(renamed.collect(), &BTreeMap::new()).unwrap();
    Checkpoint::from_bytes(file).unwrap().load_into(joint).unwrap().module
}

#[rstest]
#[case::plain(QkNorm::None)]
#[case::rms(QkNorm::RmsNorm)]
#[case::layer(QkNorm::LayerNorm)]
fn it_is_attention_over_both_as_one(#[case] qk_norm: QkNorm) {
    for (backend, device) in testing::devices() {
        let one = attention(qk_norm, &device);
        let both = joint(&one, qk_norm, ContextOutput::Projected, &device);
        let (x, context) = (values([2, 7, 12], &device), values([2, 3, 12], &device) * 0.5);
        let expected =
            one.forward(Tensor::cat(vec![x.clone(), context.clone()], 1), None, AttentionOptions::default());
        let (y, d) = both.forward(x, context, AttentionOptions::default());
        assert_close(backend, y, expected.clone().narrow(1, 0, 7));
        assert_close(backend, d.expect("the context goes on"), expected.narrow(1, 7, 3));
    }
}

/// Whoever discards the context sees it all the same.
#[test]
fn a_discarded_context_is_still_attended_to() {
    for (backend, device) in testing::devices() {
        let one = attention(QkNorm::RmsNorm, &device);
        let [goes_on, ends] = [ContextOutput::Projected, ContextOutput::Discarded]
            .map(|output| joint(&one, QkNorm::RmsNorm, output, &device));
        assert_eq!(parameters(&goes_on).len(), parameters(&ends).len() + 2, "a projection less");
        let forward = |layer: &JointAttention, scale: f64| {
            let context = values([1, 3, 12], &device) * scale;
            layer.forward(values([1, 7, 12], &device), context, AttentionOptions::default())
        };
        let (y, none) = forward(&ends, 1.0);
        assert!(none.is_none(), "{backend}");
        assert_close(backend, y.clone(), forward(&goes_on, 1.0).0);
        let moved: f32 = (y - forward(&ends, -2.0).0).abs().max().into_scalar();
        assert!(moved > 1e-3, "{backend}: {moved}");
    }
}

/// A mask over both that hides the context leaves the sample's own attention.
#[test]
fn a_mask_is_over_both() {
    for (backend, device) in testing::devices() {
        let one = attention(QkNorm::None, &device);
        let both = joint(&one, QkNorm::None, ContextOutput::Discarded, &device);
        let x = values([1, 4, 12], &device);
        let mask = TensorData::from([0.0, 0.0, 0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        let mask = Tensor::<1>::from_data(mask, &device).reshape([1, 1, 1, 6]);
        let options = AttentionOptions { mask: Some(mask), ..AttentionOptions::default() };
        let (y, _) = both.forward(x.clone(), values([1, 2, 12], &device), options);
        assert_close(backend, y, one.forward(x, None, AttentionOptions::default()));
    }
}
