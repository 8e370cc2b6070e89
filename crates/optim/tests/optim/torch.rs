//! States that torch.save wrote are gone on with.

use std::collections::BTreeMap;

use burn::optim::Optimizer;
use burn::tensor::{Device, TensorData};
use kiln_checkpoint::Checkpoint;
use kiln_optim::{AdamConfig, AdamWConfig, NamedOptimizer, StateError, Variant, from_torch, torch_names};

use crate::golden::distance_in_millionths;
use crate::groups::Net;

fn file(name: &str) -> BTreeMap<String, TensorData> {
    let path = format!("{}/tests/golden/{name}.pt", env!("CARGO_MANIFEST_DIR"));
    let file = Checkpoint::open(path).unwrap();
    file.tensors().map(|(name, _)| (name.to_owned(), file.tensor(name).unwrap())).collect()
}

/// Ten steps on from torch's saved ones end where torch's own ten do.
fn resumes<O: Optimizer>(name: &str, optimizer: O) {
    let device = Device::flex();
    let mut net = Net::load(&format!("resume.{name}.saved"), &device);
    let state = from_torch(file(name), &torch_names(&net), &net).unwrap();
    let mut optimizer = NamedOptimizer::new(optimizer).load_state_dict(state, &net).unwrap();
    for step in 10..20 {
        let gradients = net.gradients(&format!("resume.{name}.{step}.gradient"), &device);
        net = optimizer.step(0.01, net, gradients);
    }
    let theirs = Net::load(&format!("resume.{name}.end"), &device);
    let difference = distance_in_millionths(&net.values(), &theirs.values());
    assert!(difference < 1.0, "{name}: {difference} millionths");
    assert!(optimizer.state_dict().scalars.values().all(|&step| step == 20.0));
}

#[test]
fn adam_goes_on_from_torchs_state() {
    resumes("adam", AdamConfig::new().with_weight_decay(0.1).build());
}

#[test]
fn adamw_goes_on_from_torchs_state_with_its_largest_moments() {
    resumes("adamw", AdamWConfig::new().with_weight_decay(0.1).with_variant(Variant::AmsGrad).build());
}

#[test]
fn parameters_have_torchs_names() {
    let net = Net::load("groups.start", &Device::flex());
    let expected =
        ["backbone.weight", "backbone.bias", "norm.weight", "norm.bias", "head.weight", "head.bias"];
    assert_eq!(torch_names(&net), expected);
}

#[test]
fn a_state_of_another_network_is_refused() {
    let net = Net::load("groups.start", &Device::flex());
    let names = torch_names(&net);
    let refused = |spoil: &dyn Fn(&mut BTreeMap<String, TensorData>), names: &[String]| {
        let mut tensors = file("adam");
        spoil(&mut tensors);
        from_torch(tensors, names, &net).unwrap_err()
    };
    let unknown = |name: &str| StateError::Unknown { name: name.into() };
    let missing = |name: &str| StateError::Missing { name: name.into() };
    assert_eq!(refused(&|_| (), &names[..5]), unknown("state.5.exp_avg"));
    assert_eq!(
        refused(&|t| drop(t.insert("state.x.step".into(), TensorData::from([1.0_f32]))), &names),
        unknown("state.x.step")
    );
    assert_eq!(
        refused(&|t| drop(t.insert("state.0.momentum_buffer".into(), TensorData::from([1.0_f32]))), &names),
        unknown("state.0.momentum_buffer")
    );
    assert_eq!(refused(&|t| drop(t.remove("state.2.exp_avg_sq")), &names), missing("state.2.exp_avg_sq"));
    assert_eq!(refused(&|t| drop(t.remove("state.2.step")), &names), missing("state.2.step"));
    let turned =
        refused(&|t| drop(t.insert("state.0.exp_avg".into(), TensorData::zeros::<f32, _>([3, 4]))), &names);
    let shape = StateError::Shape { name: "state.0.exp_avg".into(), expected: vec![4, 3], found: vec![3, 4] };
    assert_eq!(turned, shape);
}
