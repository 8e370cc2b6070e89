//! Conditionals one by one are those of one pass, and what is drawn by them is reproducible.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use kiln_autoregressive::{
    AutoregressiveModel, Canvas, Decoder, GatedPixelCnnConfig, NadeConfig, Order, PixelCnnConfig, Replay,
};
use kiln_backend::noise::{NoiseKey, uniform};
use kiln_backend::testing::devices;

use crate::models::{Visitor, binary, colour, one_hot};

fn values(x: &Tensor<2>) -> Vec<f32> {
    x.to_data().iter().collect()
}

fn largest_difference(a: &Tensor<2>, b: &Tensor<2>) -> f32 {
    values(a).into_iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Samples of the model's values, at random.
fn samples<M: AutoregressiveModel>(model: &M, batch: usize, device: &Device) -> Tensor<2> {
    let levels = match model.family().values() {
        kiln_autoregressive::Values::Levels(levels) => levels,
        kiln_autoregressive::Values::Real => 5,
    };
    let x: Tensor<2> = uniform([batch, model.variables()], NoiseKey::new(9), device);
    x.mul_scalar(levels as f64).floor()
}

struct OneByOne<'a> {
    backend: &'a str,
    given: usize,
}

impl Visitor for OneByOne<'_> {
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M) {
        let device = model.devices()[0].clone();
        let x = samples(&model, 2, &device);
        let given = (self.given > 0).then(|| one_hot(&[0, 2], self.given, &device));
        let whole = model.parameters(x.clone(), given.clone());
        let channels = model.family().channels();
        let by_site = x.clone().reshape([2, channels, model.sites()]);
        // Every third is pushed without being asked for, as what is known is.
        let mut all = model.decoder(2, given.clone());
        let mut some = model.decoder(2, given);
        for (place, &site) in model.order().variables().iter().enumerate() {
            let expected: Tensor<2> = whole.clone().narrow(1, site, 1).squeeze_dim(1);
            let error = largest_difference(&all.next(), &expected);
            assert!(error < 2e-5, "{name} on {}: place {place} is off by {error}", self.backend);
            if place % 3 != 1 {
                let error = largest_difference(&some.next(), &expected);
                assert!(
                    error < 2e-5,
                    "{name} on {}: place {place} is off by {error}, some known",
                    self.backend
                );
            }
            let value: Tensor<2> = by_site.clone().narrow(2, site, 1).squeeze_dim(2);
            all.push(value.clone());
            some.push(value);
        }
    }
}

#[test]
fn conditionals_one_by_one_are_those_of_one_pass() {
    for (backend, device) in devices() {
        binary(&device, 0, &mut OneByOne { backend, given: 0 });
        if backend == "flex" {
            binary(&device, 3, &mut OneByOne { backend, given: 3 });
        }
        colour(&device, &mut OneByOne { backend, given: 0 });
    }
}

/// A sample is a function of its number and the seed, not of the batch; what is known stays.
struct Draws;

impl Visitor for Draws {
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M) {
        let device = model.devices()[0].clone();
        let key = NoiseKey::new(21);
        let three = model.sample(3, None, key).unwrap();
        let second = model.sample(1, None, key.at_sample(1)).unwrap();
        assert_eq!(values(&three.clone().narrow(0, 1, 1)), values(&second), "{name}");
        assert_ne!(values(&three), values(&model.sample(3, None, NoiseKey::new(22)).unwrap()), "{name}");
        kiln_autoregressive::check(&model, &three, None).unwrap();

        let x = samples(&model, 4, &device);
        let sites = model.sites();
        let known: Vec<bool> = (0..sites).map(|site| model.order().places()[site] < sites / 2).collect();
        let completed = model.complete(x.clone(), &known, None, key).unwrap();
        for (i, (given, got)) in values(&x).into_iter().zip(values(&completed)).enumerate() {
            assert!(!known[i % sites] || given == got, "{name}: variable {i} was known");
        }
        let everything = model.complete(x.clone(), &vec![true; sites], None, key).unwrap();
        assert_eq!(values(&everything), values(&x), "{name}");
    }
}

#[test]
fn a_draw_is_a_function_of_seed_and_number() {
    binary(&Device::flex(), 0, &mut Draws);
    colour(&Device::flex(), &mut Draws);
}

/// The time of a place in drawing by the model's own decoder, and by passes over all.
fn times<M: AutoregressiveModel>(model: &M) -> [Duration; 2] {
    let draw = |decoder: &mut dyn Decoder, places: u32| {
        let started = Instant::now();
        for place in 0..places {
            let value = model.family().draw(decoder.next(), NoiseKey::new(u64::from(place)));
            decoder.push(value);
        }
        started.elapsed() / places
    };
    let all = model.sites() as u32;
    // Passes over all cost the same at every place.
    [draw(model.decoder(8, None).as_mut(), all), draw(&mut Replay::new(model, 8, None), 20)]
}

#[test]
fn what_is_kept_is_not_computed_again() {
    let device = Device::flex();
    let nade = NadeConfig::new(Order::natural(784), 100).init(&device).unwrap();
    let canvas = Canvas::binary(28, 28);
    let cnn = PixelCnnConfig::new(canvas).with_features(32).with_blocks(3).init(&device).unwrap();
    let gated = GatedPixelCnnConfig::new(canvas).with_features(16).with_layers(3).init(&device).unwrap();
    for (name, [kept, again]) in [("nade", times(&nade)), ("pixelcnn", times(&cnn)), ("gated", times(&gated))]
    {
        assert!(3 * kept < again, "{name}: {kept:?} with what is kept, {again:?} without");
    }
}
