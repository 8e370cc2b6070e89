//! AdamW against traces of torch.optim.AdamW.

use burn::config::Config;
use burn::module::Param;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use kiln_optim::{AdamWConfig, NamedOptimizer};

use crate::golden::{Net, Point, distance_in_millionths, row, slice, tensor, values};

const STEPS: usize = 50;

#[test]
fn a_quadratic_is_descended_as_torch_does() {
    let device = Device::flex().autodiff();
    let (scale, target) = (tensor::<1>("quadratic.scale", &device), tensor::<1>("quadratic.target", &device));
    let mut point = Point { p: Param::from_tensor(tensor("quadratic.start.p", &device)) };
    let config =
        AdamWConfig::new().with_beta1(0.8).with_beta2(0.95).with_epsilon(1e-6).with_weight_decay(0.1);
    let mut optimizer = NamedOptimizer::new(config.build());
    for step in 0..STEPS {
        let loss = ((point.p.val() - target.clone()).square() * scale.clone()).sum() / 2.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &point);
        point = optimizer.step(0.05, point, gradients);
        let difference = distance_in_millionths(&values(&point.p.val()), &row("quadratic.trace.p", step));
        assert!(difference < 1.0, "after step {}: {difference} millionths", step + 1);
    }
}

#[test]
fn a_network_is_trained_as_torch_does() {
    let device = Device::flex().autodiff();
    let mut net = Net::start(&device);
    let mut optimizer = NamedOptimizer::new(AdamWConfig::new().with_weight_decay(0.05).build());
    for step in 0..STEPS {
        let mut gradients = GradientsParams::new();
        gradients.register(net.w1.id, slice::<2>("net.gradients.w1", step));
        gradients.register(net.b1.id, slice::<1>("net.gradients.b1", step));
        gradients.register(net.w2.id, slice::<2>("net.gradients.w2", step));
        net = optimizer.step(0.01, net, gradients);
        let difference = distance_in_millionths(&net.values(), &net_trace(step));
        assert!(difference < 1.0, "after step {}: {difference} millionths", step + 1);
    }
}

/// With gradients of our own, which differ from torch's in the last digit: where a gradient passes through 0, Adam makes a
/// step of full length from what is left of it.
#[test]
fn a_network_is_trained_as_torch_does_with_our_own_gradients() {
    let mut net = Net::start(&Device::flex().autodiff());
    let mut optimizer = NamedOptimizer::new(AdamWConfig::new().with_weight_decay(0.05).build());
    for _ in 0..STEPS {
        let gradients = net.gradients();
        net = optimizer.step(0.01, net, gradients);
    }
    let difference = distance_in_millionths(&net.values(), &net_trace(STEPS - 1));
    assert!(difference < 5.0, "{difference} millionths");
}

fn net_trace(step: usize) -> Vec<f32> {
    ["w1", "b1", "w2"].map(|name| row(&format!("net.trace.{name}"), step)).concat()
}

#[test]
fn the_defaults_are_torchs() {
    let device = Device::flex().autodiff();
    let mut point = Point { p: Param::from_tensor(tensor("defaults.start.q", &device)) };
    let mut optimizer = NamedOptimizer::new(AdamWConfig::new().build());
    for step in 0..STEPS {
        let mut gradients = GradientsParams::new();
        gradients.register(point.p.id, slice::<1>("defaults.gradients.q", step));
        point = optimizer.step(1e-3, point, gradients);
    }
    let difference = distance_in_millionths(&values(&point.p.val()), &row("defaults.trace.q", STEPS - 1));
    assert!(difference < 1.0, "{difference} millionths");
}

#[test]
fn burns_module_optimizer_makes_the_same_steps() {
    let device = Device::flex().autodiff();
    let (mut ours, mut burns) = (Net::start(&device), Net::start(&device));
    let config = AdamWConfig::new().with_weight_decay(0.05);
    let mut named = NamedOptimizer::new(config.build());
    let mut module: ModuleOptimizer = config.init();
    for _ in 0..5 {
        let gradients = ours.gradients();
        ours = named.step(0.01, ours, gradients);
        let gradients = burns.gradients();
        burns = module.step(0.01, burns, gradients);
    }
    assert_eq!(ours.values(), burns.values());
    // Burn's own record of the state: three parameters, two moments each. As its Learner saves it, and loads it again.
    assert_eq!(module.to_record().len(), 6);
    let mut resumed = config.init().from_bytes(module.into_bytes().unwrap()).unwrap();
    let (one, other) = (burns.gradients(), burns.gradients());
    let on = module.step(0.01, burns.clone(), one);
    assert_eq!(resumed.step(0.01, burns.clone(), other).values(), on.values());
    let gradients = burns.gradients();
    let afresh = config.init().step(0.01, burns, gradients);
    assert_ne!(afresh.values(), on.values(), "a state makes a difference");
}

#[test]
fn parameters_without_a_gradient_are_left_alone() {
    let device = Device::flex().autodiff();
    let start = Net::start(&device);
    let mut optimizer = NamedOptimizer::new(AdamWConfig::new().build());
    let mut gradients = start.gradients();
    gradients.remove::<2>(start.w1.id).expect("a gradient of w1");
    let (w1, b1) = (values(&start.w1.val()), values(&start.b1.val()));
    let net = optimizer.step(0.01, start, gradients);
    assert_eq!(values(&net.w1.val()), w1);
    assert_ne!(values(&net.b1.val()), b1);
    assert!(net.w1.is_require_grad() && net.b1.is_require_grad());
    let named: Vec<String> = optimizer.state_dict().scalars.into_keys().collect();
    assert_eq!(named, ["b1.step", "w2.step"]);
}

#[test]
fn the_gradient_checkpointing_of_a_parameter_survives_a_step() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let net = Net::start(&device);
    let before = net.w1.val().gradient_checkpointing_strategy();
    let gradients = net.gradients();
    let net = NamedOptimizer::new(AdamWConfig::new().build()).step(0.01, net, gradients);
    assert!(before.is_some());
    assert_eq!(net.w1.val().gradient_checkpointing_strategy(), before);
    net.gradients();
}

#[test]
fn a_configuration_survives_its_json() {
    let config = AdamWConfig::new().with_beta2(0.95).with_weight_decay(0.0);
    assert_eq!(AdamWConfig::load_binary(config.to_string().as_bytes()).unwrap(), config);
}

/// The weights stay where they are in memory, unless someone else holds them: then those stay as they were.
#[test]
fn a_step_is_in_place_where_nobody_else_holds_the_tensor() {
    let device = Device::flex();
    let place = |point: Point| point.p.into_value().into_data().as_bytes().as_ptr();
    let step = |point: Point| {
        let mut optimizer = NamedOptimizer::new(AdamWConfig::new().build());
        (0..3).fold(point, |point, _| {
            let mut gradients = GradientsParams::new();
            gradients.register(point.p.id, Tensor::<1>::ones([50_000], &device));
            optimizer.step(0.1, point, gradients)
        })
    };
    let start = || {
        let data = TensorData::new(vec![1.0_f32; 50_000], [50_000]);
        let place = data.as_bytes().as_ptr();
        (place, Point { p: Param::from_tensor(Tensor::from_data(data, &device)) })
    };
    let (before, point) = start();
    assert_eq!(place(step(point)), before);

    let (before, point) = start();
    let other = point.clone();
    assert_ne!(place(step(point)), before);
    assert!(values(&other.p.val()).iter().all(|&p| p == 1.0));
}
