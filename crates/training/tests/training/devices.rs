//! A step dealt out to several devices is that of one.

use burn::tensor::Device;
use kiln_training::{Outcome, Trainer, TrainerConfig, TrainingError};
use tempfile::tempdir;

use crate::regression::{Notes, config, loss, net};

/// The losses of 60 steps on so many devices, 0 for the usual run on one, and the last weights.
fn train(devices: usize) -> (Vec<f32>, Vec<f32>) {
    let dir = tempdir().unwrap();
    let config = TrainerConfig { log_every: 1, ..config() };
    let mut trainer = Trainer::new(config, net(), dir.path()).unwrap();
    let mut notes = Notes::default();
    let outcome = match devices {
        0 => trainer.run(loss, &mut notes),
        count => trainer.run_on(&vec![Device::flex(); count], loss, &mut notes),
    };
    assert_eq!(outcome.unwrap(), Outcome::Finished { step: 60 });
    let weights = trainer.model().bits().into_iter().map(f32::from_bits).collect();
    (notes.reports.iter().map(|report| report.loss).collect(), weights)
}

/// Sixteen samples on two, three (which get 6, 5 and 5), and on more devices than there are samples.
#[test]
fn losses_and_weights_are_those_of_one_device() {
    let (losses, weights) = train(0);
    assert_eq!(losses.len(), 60);
    assert_eq!(train(1).0, losses, "one device is the usual run, to the bit");
    for devices in [2, 3, 20] {
        let (found, ended) = train(devices);
        let furthest =
            |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        let (losses_off, weights_off) = (furthest(&losses, &found), furthest(&weights, &ended));
        assert!(losses_off < 1e-5, "{devices} devices: losses are off by {losses_off}");
        assert!(weights_off < 1e-4, "{devices} devices: weights are off by {weights_off}");
    }
}

#[test]
fn an_error_on_one_device_ends_the_run() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    let devices = [Device::flex(), Device::flex()];
    let failing = |net: &_, context: &kiln_training::StepContext<'_>| match context.first_sample() {
        first if first >= 4 * 16 + 8 => Err("no more samples".into()),
        _ => loss(net, context),
    };
    let error = trainer.run_on(&devices, failing, &mut ()).unwrap_err();
    assert!(matches!(error, TrainingError::Step { step: 5, .. }), "{error}");
    assert_eq!(trainer.step(), 4);
}

#[test]
fn no_devices_are_refused() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    let error = trainer.run_on(&[], loss, &mut ()).unwrap_err();
    assert!(matches!(error, TrainingError::Config { field: "devices", .. }), "{error}");
}
