//! The moving average against diffusers' EMAModel, and its laws.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kiln_backend::testing;
use kiln_optim::weights::{weights_of, with_weights};
use kiln_optim::{EmaConfig, StateError, Warmup};

use crate::golden::{Point, distance, row, tensor, values};

#[derive(Module, Debug)]
struct Mixed {
    trained: Param<Tensor<1>>,
    frozen: Param<Tensor<1>>,
}

fn mixed(trained: Tensor<1>, frozen: Tensor<1>) -> Mixed {
    Mixed { trained: Param::from_tensor(trained), frozen: Param::from_tensor(frozen).set_require_grad(false) }
}

#[test]
fn averages_are_diffusers_own() {
    for (backend, device) in testing::devices() {
        let device = device.autodiff();
        let weights = |step| {
            let at = |name: &str| {
                Tensor::from_floats(row(&format!("ema.weights.{name}"), step).as_slice(), &device)
            };
            mixed(at("trained"), at("frozen"))
        };
        let start = mixed(tensor("ema.start.trained", &device), tensor("ema.start.frozen", &device));
        let mut ema = EmaConfig::new().with_decay(0.7).init(&start);
        for step in 0..40 {
            ema.update(&weights(step));
            for (name, ours) in [("trained", &ema.module().trained), ("frozen", &ema.module().frozen)] {
                let difference = distance(&values(&ours.val()), &row(&format!("ema.averages.{name}"), step));
                assert!(difference < 1e-6, "{backend}, {name}, update {}: {difference:e}", step + 1);
            }
        }
        assert_eq!(ema.updates(), 40);
    }
}

#[test]
fn averages_with_power_warm_up_are_diffusers_own() {
    let device = Device::flex().autodiff();
    let config = EmaConfig::new()
        .with_decay(0.9)
        .with_min_decay(0.3)
        .with_start_after(5)
        .with_warmup(Warmup::Power { inverse_gamma: 2.0, power: 0.75 });
    let weights = |step| single(&row("ema.weights.trained", step), &device);
    let mut ema = config.init(&single(&values(&tensor::<1>("ema.start.trained", &device)), &device));
    for step in 0..40 {
        ema.update(&weights(step));
        let found = values(&ema.module().p.val());
        let difference = distance(&found, &row("ema.power.averages.trained", step));
        assert!(difference < 1e-6, "update {}: {difference:e}", step + 1);
    }
    // Both ends of the rise are within the run.
    assert!(
        config.decay_at(7) == 0.3 && config.decay_at(40) > 0.85,
        "{:?}",
        [7, 40].map(|n| config.decay_at(n))
    );
}

fn single(values: &[f32], device: &Device) -> Point {
    Point { p: Param::from_tensor(Tensor::<1>::from_floats(values, device)) }
}

#[test]
fn a_saved_average_is_loaded_and_gone_on_with() {
    let config = EmaConfig::new().with_decay(0.9).with_warmup(Warmup::Off);
    let mut one = config.init(&point([0.0; 2]));
    for step in 0..5_u8 {
        one.update(&point([f32::from(step), 1.0]));
    }
    let mut other = config.load(&point([7.0; 2]), one.state_dict()).unwrap();
    for ema in [&mut one, &mut other] {
        ema.update(&point([3.0, -2.0]));
    }
    assert_eq!(values(&one.module().p.val()), values(&other.module().p.val()));
    assert_eq!(other.updates(), 6);

    let mut state = one.state_dict();
    state.scalars.clear();
    let error = config.load(&point([0.0; 2]), state).unwrap_err();
    assert_eq!(error, StateError::Missing { name: "updates".into() });
    let mut state = one.state_dict();
    state.tensors.clear();
    let error = config.load(&point([0.0; 2]), state).unwrap_err();
    assert_eq!(error, StateError::Missing { name: "p".into() });
}

fn point(values: [f32; 2]) -> Point {
    Point { p: Param::from_data(values, &Device::flex().autodiff()) }
}

/// With weights 0, then 1 for ever, the average is 1 minus the product of all decays.
#[test]
fn a_step_is_followed_in_closed_form() {
    let config = EmaConfig::new().with_decay(0.95);
    let mut ema = config.init(&point([0.0; 2]));
    ema.update(&point([0.0; 2]));
    let mut rest = 1.0;
    for update in 2..=300 {
        ema.update(&point([1.0, -2.0]));
        rest *= config.decay_at(update);
        let expected = 1.0 - rest;
        let found = values(&ema.module().p.val());
        assert!((f64::from(found[0]) - expected).abs() < 1e-5, "update {update}: {found:?} for {expected}");
        assert!((f64::from(found[1]) + 2.0 * expected).abs() < 2e-5, "update {update}: {found:?}");
    }
}

/// The form s d + w (1 - d) fails this: with d = 0.9999 in f32 it settles at 0.9997 w.
#[test]
fn constant_weights_are_a_fixed_point() {
    let weights = point([0.1, 12_345.678]);
    let mut ema = EmaConfig::new().restore(&weights, 100_000);
    for _ in 0..20_000 {
        ema.update(&weights);
    }
    assert_eq!(values(&ema.module().p.val()), values(&weights.p.val()));
}

#[test]
fn the_average_is_another_tensor_without_autodiff() {
    let model = point([1.0, 2.0]);
    let mut ema = EmaConfig::new().init(&model);
    ema.update(&model);
    ema.update(&point([3.0, 2.0]));
    assert!(!ema.module().p.val().is_autodiff());
    assert_eq!(values(&model.p.val()), [1.0, 2.0]);
    assert_ne!(values(&ema.module().p.val()), [1.0, 2.0]);
}

#[test]
fn an_average_goes_on_as_if_never_saved() {
    let config = EmaConfig::new().with_decay(0.9);
    let mut one = config.init(&point([0.0; 2]));
    for step in 0..30_u8 {
        one.update(&point([f32::from(step).sin(), f32::from(step)]));
    }
    let saved = weights_of(one.module());
    let fresh = with_weights(point([7.0; 2]), saved).unwrap();
    let mut other = config.restore(&fresh, one.updates());
    for step in 30..60_u8 {
        let weights = point([f32::from(step).sin(), f32::from(step)]);
        one.update(&weights);
        other.update(&weights);
        assert_eq!(values(&one.module().p.val()), values(&other.module().p.val()));
    }
}

#[derive(Module, Debug)]
struct List {
    points: Vec<Point>,
}

#[test]
#[should_panic(expected = "has no parameter \"points.1.p\"")]
fn a_module_with_fewer_parameters_is_refused() {
    let mut ema = EmaConfig::new().init(&List { points: vec![point([0.0; 2]), point([1.0; 2])] });
    ema.update(&List { points: vec![point([0.0; 2])] });
}
