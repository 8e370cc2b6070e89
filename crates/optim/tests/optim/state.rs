//! States out and in again.

use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_optim::weights::{weights_of, with_weights};
use kiln_optim::{AdamW, AdamWConfig, NamedOptimizer, StateDict, StateError, Variant};
use rstest::rstest;

use crate::golden::Net;

fn config() -> AdamWConfig {
    AdamWConfig::new().with_weight_decay(0.05)
}

/// A net and its optimizer after a few steps.
fn trained(steps: usize) -> (Net, NamedOptimizer<AdamW>) {
    let mut net = Net::start(&Device::flex().autodiff());
    let mut optimizer = NamedOptimizer::new(config().build());
    for _ in 0..steps {
        let gradients = net.gradients();
        net = optimizer.step(0.01, net, gradients);
    }
    (net, optimizer)
}

#[test]
fn training_goes_on_as_if_never_saved() {
    let (mut net, mut optimizer) = trained(7);
    let (weights, state) = (weights_of(&net), optimizer.state_dict());
    // A net with other weights and other parameter ids, as in another process.
    let device = Device::flex().autodiff();
    let mut other = with_weights(Net::start(&device), weights).unwrap();
    assert_ne!(other.w1.id, net.w1.id);
    let mut resumed = NamedOptimizer::new(config().build()).load_state_dict(state, &other).unwrap();
    for _ in 0..10 {
        let gradients = net.gradients();
        net = optimizer.step(0.01, net, gradients);
        let gradients = other.gradients();
        other = resumed.step(0.01, other, gradients);
        assert_eq!(net.values(), other.values());
    }
    assert_eq!(optimizer.state_dict(), resumed.state_dict());
}

#[test]
fn the_largest_moments_of_amsgrad_are_saved_too() {
    let config = AdamWConfig::new().with_variant(Variant::AmsGrad);
    let mut net = Net::start(&Device::flex().autodiff());
    let mut optimizer = NamedOptimizer::new(config.build());
    for _ in 0..3 {
        let gradients = net.gradients();
        net = optimizer.step(0.1, net, gradients);
    }
    let state = optimizer.state_dict();
    let (largest, last) = (&state.tensors["w1.largest_second_moment"], &state.tensors["w1.second_moment"]);
    assert_ne!(largest, last, "the gradients have not shrunk");
    let mut other = net.clone();
    let mut resumed = NamedOptimizer::new(config.build()).load_state_dict(state, &other).unwrap();
    let gradients = net.gradients();
    net = optimizer.step(0.1, net, gradients);
    let gradients = other.gradients();
    other = resumed.step(0.1, other, gradients);
    assert_eq!(net.values(), other.values());
    assert_eq!(optimizer.state_dict(), resumed.state_dict());
}

#[test]
fn a_state_is_named_by_path_and_field() {
    let (_, optimizer) = trained(3);
    let StateDict { tensors, scalars } = optimizer.state_dict();
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let expected = ["b1", "w1", "w2"]
        .map(|path| ["first_moment", "second_moment"].map(|field| format!("{path}.{field}")))
        .concat();
    assert_eq!(names, expected);
    assert!(scalars.values().all(|&step| step == 3.0));
    assert_eq!(tensors["w1.first_moment"].shape().to_vec(), [3, 8]);
}

#[rstest]
#[case::a_moment_is_missing(|dict: &mut StateDict| { dict.tensors.remove("w1.first_moment"); },
    StateError::Missing { name: "w1.*".into() })]
#[case::a_count_is_missing(|dict: &mut StateDict| { dict.scalars.remove("w2.step"); },
    StateError::Missing { name: "w2.*".into() })]
#[case::a_count_is_no_integer(|dict: &mut StateDict| { dict.scalars.insert("w2.step".into(), 1.5); },
    StateError::Missing { name: "w2.*".into() })]
#[case::of_another_module(|dict: &mut StateDict| {
        dict.tensors.insert("w3.first_moment".into(), TensorData::from([1.0_f32]));
    },
    StateError::Unknown { name: "w3.first_moment".into() })]
#[case::of_another_shape(|dict: &mut StateDict| {
        dict.tensors.insert("b1.second_moment".into(), TensorData::from([1.0_f32]));
    },
    StateError::Shape { name: "b1.second_moment".into(), expected: vec![8], found: vec![1] })]
#[case::of_another_type(|dict: &mut StateDict| {
        dict.tensors.insert("b1.second_moment".into(), TensorData::from([1.0_f64; 8]));
    },
    StateError::ElementType { name: "b1.second_moment".into(), expected: DType::F32, found: DType::F64 })]
fn a_state_that_does_not_fit_is_refused(#[case] spoil: fn(&mut StateDict), #[case] expected: StateError) {
    let (net, optimizer) = trained(1);
    let mut dict = optimizer.state_dict();
    spoil(&mut dict);
    let error = NamedOptimizer::new(config().build()).load_state_dict(dict, &net).unwrap_err();
    assert_eq!(error, expected);
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let (net, _) = trained(0);
    let whole = weights_of(&net);
    assert_eq!(whole.keys().collect::<Vec<_>>(), ["b1", "w1", "w2"]);

    let mut missing = whole.clone();
    missing.remove("b1");
    let error = with_weights(net.clone(), missing).unwrap_err();
    assert_eq!(error.to_string().split(':').next(), Some("the state has no tensor \"b1\""));

    let mut shape = whole.clone();
    shape.insert("w1".into(), TensorData::from([1.0_f32]));
    let error = with_weights(net.clone(), shape).unwrap_err();
    assert_eq!(error.to_string(), "tensor \"w1\" has shape [1], and the module expects [3, 8]");

    let mut surplus = whole;
    surplus.insert("w3".into(), TensorData::from([1.0_f32]));
    assert_eq!(with_weights(net, surplus).unwrap_err(), StateError::Unknown { name: "w3".into() });
}

#[test]
fn buffers_are_weights_too_and_up_to_date() {
    let device = Device::flex().autodiff();
    let norm: BatchNorm = BatchNormConfig::new(2).init(&device);
    let x = Tensor::<3>::from_floats([[[1.0, 2.0], [5.0, 5.0]], [[3.0, 6.0], [4.0, 8.0]]], &device);
    norm.forward(x.clone());
    let weights = weights_of(&norm);
    assert!(weights.contains_key("running_mean"), "{:?}", weights.keys());
    // Momentum 0.1, from 0: a tenth of the batch's mean, 3 and 5.5.
    let mean: Vec<f32> = weights["running_mean"].clone().try_into_vec().unwrap();
    assert!((mean[0] - 0.3).abs() < 1e-6 && (mean[1] - 0.55).abs() < 1e-6, "{mean:?}");
    let fresh = with_weights(BatchNormConfig::new(2).init(&device), weights.clone()).unwrap();
    assert_eq!(weights_of(&fresh), weights);
}
