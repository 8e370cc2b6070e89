//! Runs that go through: what they learn, write and tell.

use std::time::Duration;

use burn::tensor::Device;
use kiln_training::{Observer, Outcome, Schedule, Trainer, TrainerConfig, TrainingError, TrainingState};
use tempfile::tempdir;

use crate::regression::{Net, Notes, config, files, log, loss, net};

#[test]
fn a_network_learns_a_sine() {
    let dir = tempdir().unwrap();
    let config = TrainerConfig { steps: 600, ..config() };
    let before = net().error();
    let mut trainer = Trainer::new(config, net(), dir.path()).unwrap();
    assert_eq!(trainer.run(loss, &mut ()).unwrap(), Outcome::Finished { step: 600 });
    assert!(before > 0.5, "the untrained net has {before}");
    // The variance of the target is 0.5.
    let (trained, averaged) = (trainer.model().error(), trainer.averaged().error());
    assert!(trained < 0.01 && averaged < 0.01, "trained {trained}, averaged {averaged}");
}

#[test]
fn a_run_tells_and_writes_everything() {
    let dir = tempdir().unwrap();
    let config = TrainerConfig { log_every: 20, sample_every: Some(40), ..config() };
    let mut trainer = Trainer::new(config.clone(), net(), dir.path()).unwrap();
    let mut notes = Notes::default();
    let outcome = trainer.run(loss, &mut notes).unwrap();
    assert_eq!(notes.outcome, Some(outcome));

    assert_eq!(notes.reports.iter().map(|report| report.step).collect::<Vec<_>>(), [20, 40, 60]);
    for report in &notes.reports {
        assert_eq!(report.steps, 60);
        assert!(report.loss > 0.0 && report.grad_norm > 0.0 && report.samples_per_second > 0.0, "{report:?}");
        assert_eq!(report.learning_rate, config.learning_rate_at(report.step - 1));
    }
    assert!(notes.reports[0].eta > Duration::ZERO);
    assert_eq!(notes.reports[2].eta, Duration::ZERO);

    let written: Vec<_> =
        notes.checkpoints.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let names = [25, 50, 60].map(|step| format!("checkpoint-{step:08}.safetensors"));
    assert_eq!(written, names);
    assert_eq!(files(dir.path()), names[1..], "the newest and the one before it");

    assert_eq!(notes.samples.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [40, 60]);
    assert_eq!(notes.samples[1].1, trainer.averaged().bits());

    let log = log(dir.path());
    let mut rows = log.lines();
    assert_eq!(rows.next(), Some("step,loss,learning_rate,grad_norm"));
    let rows: Vec<Vec<f64>> =
        rows.map(|row| row.split(',').map(|number| number.parse().unwrap()).collect()).collect();
    assert_eq!(rows.iter().map(|row| row[0] as usize).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
    let last = notes.reports[2];
    assert_eq!(rows[59], [60.0, last.loss.to_string().parse().unwrap(), last.learning_rate, last.grad_norm]);
}

#[test]
fn the_average_is_in_the_checkpoint() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    trainer.run(loss, &mut ()).unwrap();
    let saved = TrainingState::latest(dir.path()).unwrap();
    assert_eq!(saved.step(), 60);
    assert_eq!(saved.config().task, config().task);
    assert_eq!(saved.config().schedule, Schedule::Cosine { floor: 0.1, horizon: Some(60) });
    let averaged = saved.averaged(Net::new(9, 8, &Device::flex())).unwrap();
    assert_eq!(averaged.bits(), trainer.averaged().bits());
    assert_ne!(averaged.bits(), trainer.model().bits());
}

#[test]
fn a_model_without_autodiff_is_trained_with_it() {
    let dir = tempdir().unwrap();
    let plain = Net::new(1, 8, &Device::flex());
    let mut one = Trainer::new(config(), plain, dir.path().join("plain")).unwrap();
    let mut other = Trainer::new(config(), net(), dir.path().join("autodiff")).unwrap();
    one.run(loss, &mut ()).unwrap();
    other.run(loss, &mut ()).unwrap();
    assert_eq!(one.model().bits(), other.model().bits());
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    let mut weights = Vec::new();
    let run = trainer.run(
        |net, context| {
            weights = net.bits();
            Ok(loss(net, context)? / if context.step == 40 { 0.0 } else { 1.0 })
        },
        &mut (),
    );
    let error = run.unwrap_err();
    let TrainingError::Diverged { step: 41, quantity: "loss", value, ref last_checkpoint, .. } = error else {
        panic!("{error:?}")
    };
    assert!(value.is_infinite());
    let kept = dir.path().join("checkpoint-00000025.safetensors");
    assert_eq!(last_checkpoint.as_deref(), Some(kept.as_path()));
    let message = error.to_string();
    assert!(message.starts_with("in step 41 the loss is inf: training has diverged."), "{message}");
    assert!(message.contains("lower learning_rate") && message.contains("checkpoint-00000025"), "{message}");
    assert_eq!(TrainingState::latest(dir.path()).unwrap().step(), 25);
    assert_eq!(log(dir.path()).lines().count(), 1 + 40);
    // The step that failed left the weights as they were.
    assert_eq!(trainer.step(), 40);
    assert_eq!(trainer.model().bits(), weights);
}

#[test]
fn gradients_that_are_not_finite_end_the_run() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    // The root of 0 has a finite value and an infinite slope.
    let error = trainer.run(|net, context| Ok((loss(net, context)? * 0.0).sqrt()), &mut ()).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("in step 1 the norm of the gradients is NaN"), "{message}");
    assert_eq!(trainer.model().bits(), net().bits());
    assert!(files(dir.path()).is_empty());
}

#[test]
fn errors_of_the_caller_come_through() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    let run = trainer.run(
        |net, context| if context.step == 2 { Err("picture 7 is broken".into()) } else { loss(net, context) },
        &mut (),
    );
    assert_eq!(run.unwrap_err().to_string(), "step 3: picture 7 is broken");

    struct FullDisk;
    impl Observer<Net> for FullDisk {
        fn on_sample(&mut self, _: usize, _: &Net) -> Result<(), kiln_training::BoxError> {
            Err("no space for the samples".into())
        }
    }
    let config = TrainerConfig { sample_every: Some(10), ..config() };
    let mut trainer = Trainer::new(config, net(), dir.path().join("other")).unwrap();
    let error = trainer.run(loss, &mut FullDisk).unwrap_err();
    assert_eq!(error.to_string(), "after step 10: no space for the samples");
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let dir = tempdir().unwrap();
    Trainer::new(config(), net(), dir.path()).unwrap().run(loss, &mut ()).unwrap();
    let error = Trainer::new(config(), net(), dir.path()).unwrap_err();
    assert!(matches!(error, TrainingError::AlreadyStarted { step: 60, .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("inside")] {
        let error = Trainer::new(config(), net(), &path).unwrap_err();
        assert!(matches!(error, TrainingError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
