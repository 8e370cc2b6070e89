//! Runs that are stopped, killed, spoilt and resumed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use burn::tensor::Device;
use kiln_training::{
    LOSSES_FILE, Outcome, Schedule, StepContext, Trainer, TrainerConfig, TrainingError, TrainingState,
};
use rstest::rstest;
use tempfile::tempdir;

use crate::regression::{Net, Notes, config, files, log, loss, loss_with_dropout, net};

/// The run that nothing interrupts: its final weights, their average, its log and what it told.
struct Whole {
    weights: Vec<u32>,
    average: Vec<u32>,
    log: String,
    losses: Vec<f32>,
}

fn whole(config: TrainerConfig) -> Whole {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config, net(), dir.path()).unwrap();
    let mut notes = Notes::default();
    trainer.run(loss, &mut notes).unwrap();
    Whole {
        weights: trainer.model().bits(),
        average: trainer.averaged().bits(),
        log: log(dir.path()),
        losses: notes.reports.iter().map(|report| report.loss).collect(),
    }
}

/// A net as another process would make it before it resumes: other weights, other parameter ids.
fn other_net() -> Net {
    Net::new(77, 8, &Device::flex().autodiff())
}

/// Ends the run in the folder, and holds it to the one that nothing interrupted.
fn finish(dir: &Path, whole: &Whole, from: usize) {
    let mut trainer = Trainer::resume(config(), other_net(), dir).unwrap();
    assert_eq!(trainer.step(), from);
    let mut notes = Notes::default();
    assert_eq!(trainer.run(loss, &mut notes).unwrap(), Outcome::Finished { step: 60 });
    let losses: Vec<f32> = notes.reports.iter().map(|report| report.loss).collect();
    assert_eq!(losses, whole.losses[from..], "the same losses, to the bit");
    assert!(trainer.model().bits() == whole.weights, "the final weights differ");
    assert!(trainer.averaged().bits() == whole.average, "the final average differs");
    assert_same_lines(&log(dir), &whole.log);
}

/// As if the run had not stopped; or the first line that differs.
fn assert_same_lines(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn a_stopped_run_goes_on_bit_for_bit() {
    let whole = whole(config());
    assert_eq!(whole.losses.len(), 60);
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    let mut notes = Notes { stop_after: Some((17, trainer.stop_flag())), ..Notes::default() };
    assert_eq!(trainer.run(loss, &mut notes).unwrap(), Outcome::Stopped { step: 17 });
    assert_eq!(notes.outcome, Some(Outcome::Stopped { step: 17 }));
    assert_eq!(files(dir.path()), ["checkpoint-00000017.safetensors"]);
    let mut trainer = Trainer::resume(config(), other_net(), dir.path()).unwrap();
    let mut notes = Notes { stop_after: Some((42, trainer.stop_flag())), ..Notes::default() };
    assert_eq!(trainer.run(loss, &mut notes).unwrap(), Outcome::Stopped { step: 42 });
    finish(dir.path(), &whole, 42);
}

/// Steps after the last checkpoint are made again, and what a death left behind does no harm.
#[test]
fn a_run_that_failed_goes_on_from_its_last_checkpoint_bit_for_bit() {
    let whole = whole(config());
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    let failed = trainer.run(
        |net, context| if context.step == 32 { Err("no more".into()) } else { loss(net, context) },
        &mut (),
    );
    assert!(matches!(failed, Err(TrainingError::Step { step: 33, .. })));
    drop(trainer);
    let mut rows = log(dir.path());
    assert_eq!(rows.lines().count(), 33);
    rows.push_str("33,0.12");
    std::fs::write(dir.path().join(LOSSES_FILE), rows).unwrap();
    std::fs::write(dir.path().join(".checkpoint-00000033.safetensors.unfinished"), "half").unwrap();
    finish(dir.path(), &whole, 25);
}

const CHILD_DIR: &str = "KILN_TRAINING_TEST_DIR";
const RESULT: &str = "result.txt";

/// One run with a dropout, begun or resumed in the folder that the environment names; a millisecond's rest a step.
#[test]
#[ignore = "the body of the processes that the next test starts and kills"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else { return };
    let config = TrainerConfig { steps: 200, ..config() };
    let mut trainer = match TrainingState::latest(&dir) {
        Ok(_) => Trainer::resume(config, other_net(), &dir).unwrap(),
        Err(TrainingError::NothingToResume { .. }) => Trainer::new(config, net(), &dir).unwrap(),
        Err(error) => panic!("{error}"),
    };
    let slowly = |net: &Net, context: &StepContext<'_>| {
        std::thread::sleep(Duration::from_millis(1));
        loss_with_dropout(net, context)
    };
    trainer.run(slowly, &mut ()).unwrap();
    std::fs::write(dir.join(RESULT), format!("{:?}", trainer.model().bits())).unwrap();
}

fn start_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resume::child", "--ignored"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let (whole, killed) = (tempdir().unwrap(), tempdir().unwrap());
    assert!(start_child(whole.path()).wait().unwrap().success());
    let result = |dir: &Path| std::fs::read_to_string(dir.join(RESULT)).unwrap();

    // Killed three times, wherever it is by then: between checkpoints, or in the middle of one.
    for rows in [40, 77, 126] {
        let mut child = start_child(killed.path());
        let log = killed.path().join(LOSSES_FILE);
        let reached = || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > rows);
        while !reached() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!killed.path().join(RESULT).exists());
    }
    assert!(start_child(killed.path()).wait().unwrap().success());
    assert_same_lines(&log(killed.path()), &log(whole.path()));
    assert!(result(killed.path()) == result(whole.path()), "the final weights differ");
}

/// Six steps, stopped after the third, on each backend compiled in: its own uninterrupted run to the bit, and Flex's to 1e-4.
#[test]
fn a_run_resumes_on_every_backend() {
    let mut reference: Option<Vec<f32>> = None;
    let config = TrainerConfig { steps: 6, ..config() };
    for (name, device) in kiln_backend::testing::devices() {
        let device = device.autodiff();
        let dir = tempdir().unwrap();
        let (whole, halves) = (dir.path().join("whole"), dir.path().join("halves"));
        let mut trainer = Trainer::new(config.clone(), Net::new(1, 8, &device), whole).unwrap();
        trainer.run(loss, &mut ()).unwrap();
        let expected = (trainer.model().bits(), trainer.averaged().bits());

        let mut trainer = Trainer::new(config.clone(), Net::new(1, 8, &device), &halves).unwrap();
        let mut notes = Notes { stop_after: Some((3, trainer.stop_flag())), ..Notes::default() };
        trainer.run(loss, &mut notes).unwrap();
        let mut trainer = Trainer::resume(config.clone(), Net::new(77, 8, &device), &halves).unwrap();
        trainer.run(loss, &mut ()).unwrap();
        assert_eq!((trainer.model().bits(), trainer.averaged().bits()), expected, "{name}");

        let weights: Vec<f32> = expected.0.into_iter().map(f32::from_bits).collect();
        let reference = reference.get_or_insert_with(|| {
            let dir = tempdir().unwrap();
            let mut trainer = Trainer::new(config.clone(), net(), dir.path()).unwrap();
            trainer.run(loss, &mut ()).unwrap();
            trainer.model().bits().into_iter().map(f32::from_bits).collect()
        });
        let differences = weights.iter().zip(reference).map(|(ours, flex)| (ours - *flex).abs());
        let difference = differences.fold(0.0, f32::max);
        assert!(difference < 1e-4, "{name}: {difference:e}");
    }
}

/// A checkpoint of a stopped run of `steps` steps.
fn stopped(dir: &Path, step: usize) -> PathBuf {
    let mut trainer = Trainer::new(config(), net(), dir).unwrap();
    let mut notes = Notes { stop_after: Some((step, trainer.stop_flag())), ..Notes::default() };
    trainer.run(loss, &mut notes).unwrap();
    TrainingState::latest(dir).unwrap().path().to_owned()
}

#[test]
fn a_flag_set_before_the_run_stops_it_at_once() {
    let dir = tempdir().unwrap();
    let mut trainer = Trainer::new(config(), net(), dir.path()).unwrap();
    trainer.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(trainer.run(loss, &mut ()).unwrap(), Outcome::Stopped { step: 0 });
    assert_eq!(Trainer::resume(config(), other_net(), dir.path()).unwrap().step(), 0);
}

#[test]
fn a_finished_run_resumes_to_nothing_or_to_more_steps() {
    let dir = tempdir().unwrap();
    Trainer::new(config(), net(), dir.path()).unwrap().run(loss, &mut ()).unwrap();
    let mut again = Trainer::resume(config(), other_net(), dir.path()).unwrap();
    assert_eq!(again.run(loss, &mut ()).unwrap(), Outcome::Finished { step: 60 });

    let more = TrainerConfig { steps: 70, checkpoint_every: 5, log_every: 2, ..config() };
    let mut trainer = Trainer::resume(more, other_net(), dir.path()).unwrap();
    let mut notes = Notes::default();
    assert_eq!(trainer.run(loss, &mut notes).unwrap(), Outcome::Finished { step: 70 });
    // The cosine keeps its horizon of 60 steps: the rest runs at the floor.
    assert!(notes.reports.iter().all(|report| (report.learning_rate - 0.002).abs() < 1e-15));
    assert_eq!(trainer.config().schedule, Schedule::Cosine { floor: 0.1, horizon: Some(60) });

    let fewer = TrainerConfig { steps: 65, ..config() };
    let error = Trainer::resume(fewer, other_net(), dir.path()).unwrap_err();
    assert_eq!(error.to_string(), "the training configuration's steps is 65, and 70 steps are made already");
}

#[rstest]
#[case::batch_size(TrainerConfig { batch_size: 32, ..config() }, "batch_size = 16, and is resumed with 32")]
#[case::learning_rate(TrainerConfig { learning_rate: 0.01, ..config() }, "learning_rate = 0.02, and is resumed with 0.01")]
#[case::clip_norm(TrainerConfig { clip_norm: None, ..config() }, "clip_norm = 1.0, and is resumed with null")]
#[case::seed(TrainerConfig { seed: 4, ..config() }, "seed = 3, and is resumed with 4")]
#[case::schedule(TrainerConfig { schedule: Schedule::Cosine { floor: 0.0, horizon: None }, ..config() },
    "schedule.floor = 0.1, and is resumed with 0.0")]
#[case::horizon(TrainerConfig { schedule: Schedule::Cosine { floor: 0.1, horizon: Some(90) }, ..config() },
    "schedule.horizon = 60, and is resumed with 90")]
#[case::constant(TrainerConfig { schedule: Schedule::Constant, ..config() },
    "schedule.floor = 0.1, and is resumed with null")]
#[case::task(TrainerConfig { task: serde_json::json!({ "model": { "hidden": 9 } }), ..config() },
    "task.model.hidden = 8, and is resumed with 9")]
fn a_changed_configuration_is_refused_by_name(#[case] changed: TrainerConfig, #[case] expected: &str) {
    let dir = tempdir().unwrap();
    let path = stopped(dir.path(), 1);
    let error = Trainer::resume(changed, net(), dir.path()).unwrap_err();
    assert!(matches!(error, TrainingError::ConfigChanged { .. }));
    let message = error.to_string();
    assert!(message.contains(expected), "{message}");
    assert!(message.starts_with(path.to_str().unwrap()), "{message}");
}

/// 0.1 + 0.2 is 0.30000000000000004: serde_json by itself reads some numbers of 17 digits one unit off.
#[test]
fn odd_numbers_are_kept_to_the_bit() {
    let dir = tempdir().unwrap();
    let numbers = (1..200).map(|i| (f64::from(i) * 0.1 + 0.2) / 7.0);
    let spoilt =
        numbers.filter(|x| serde_json::from_str::<f64>(&x.to_string()).unwrap() != *x).collect::<Vec<_>>();
    assert!(!spoilt.is_empty(), "serde_json reads every number exactly: the module `exact` can go");
    let config = TrainerConfig { learning_rate: spoilt[0], clip_norm: Some(spoilt[0]), ..config() };
    let mut trainer = Trainer::new(config, net(), dir.path()).unwrap();
    trainer.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    trainer.run(loss, &mut ()).unwrap();
    let saved = TrainingState::latest(dir.path()).unwrap().config().clone();
    assert_eq!(saved.learning_rate.to_bits(), spoilt[0].to_bits());
    assert_eq!(saved.clip_norm, Some(spoilt[0]));
    Trainer::resume(saved, net(), dir.path()).unwrap();
}

#[test]
fn a_folder_without_checkpoints_has_nothing_to_resume() {
    let dir = tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = Trainer::resume(config(), net(), &path).unwrap_err();
        assert!(matches!(&error, TrainingError::NothingToResume { dir } if *dir == path), "{error}");
    }
}

#[rstest]
#[case::empty(0)]
#[case::in_the_header(100)]
#[case::in_the_tensors(-1)]
fn a_checkpoint_cut_short_is_told_with_the_one_before(#[case] length: i64) {
    let dir = tempdir().unwrap();
    let first = stopped(dir.path(), 1);
    let mut trainer = Trainer::resume(config(), net(), dir.path()).unwrap();
    let mut notes = Notes { stop_after: Some((2, trainer.stop_flag())), ..Notes::default() };
    trainer.run(loss, &mut notes).unwrap();
    let newest = dir.path().join("checkpoint-00000002.safetensors");
    let bytes = std::fs::read(&newest).unwrap();
    let length = if length < 0 { bytes.len() - 1 } else { length as usize };
    std::fs::write(&newest, &bytes[..length]).unwrap();

    let error = Trainer::resume(config(), net(), dir.path()).unwrap_err();
    assert!(matches!(error, TrainingError::Checkpoint { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with(newest.to_str().unwrap()), "{message}");
    assert!(message.ends_with(&format!("; delete it to go on from {}", first.display())), "{message}");

    std::fs::remove_file(newest).unwrap();
    assert_eq!(Trainer::resume(config(), net(), dir.path()).unwrap().step(), 1);
}

#[test]
fn a_file_of_another_kind_is_told() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("checkpoint-00000001.safetensors");
    kiln_checkpoint::save(&net(), &path, &kiln_checkpoint::SaveOptions::default()).unwrap();
    let error = Trainer::resume(config(), net(), dir.path()).unwrap_err();
    assert!(matches!(error, TrainingError::NotARun { .. }), "{error:?}");
    let message = error.to_string();
    assert!(
        message.contains("checkpoint-00000001.safetensors is no checkpoint of a training run"),
        "{message}"
    );

    std::fs::write(&path, "This is no model at all, but a letter to a friend.").unwrap();
    let error = Trainer::resume(config(), net(), dir.path()).unwrap_err();
    assert!(matches!(error, TrainingError::Checkpoint { .. }), "{error:?}");
}

#[test]
fn a_checkpoint_of_another_shape_is_told() {
    let dir = tempdir().unwrap();
    stopped(dir.path(), 1);
    let wider = Net::new(1, 12, &Device::flex().autodiff());
    let error = Trainer::resume(config(), wider, dir.path()).unwrap_err();
    assert!(matches!(error, TrainingError::State { .. }), "{error:?}");
    let message = error.to_string();
    assert!(
        message
            .contains("its model's tensor \"first.weight\" has shape [1, 8], and the module expects [1, 12]"),
        "{message}"
    );
}

#[test]
fn a_checkpoint_without_a_moment_is_told() {
    let dir = tempdir().unwrap();
    let path = stopped(dir.path(), 1);
    let checkpoint = kiln_checkpoint::Checkpoint::open(&path).unwrap();
    let names: Vec<String> = checkpoint.tensors().map(|(name, _)| name.to_owned()).collect();
    let mut tensors: std::collections::BTreeMap<_, _> =
        names.into_iter().map(|name| (name.clone(), checkpoint.tensor(&name).unwrap())).collect();
    tensors.remove("optimizer.second.bias.second_moment").expect("a moment of this name");
    let metadata = checkpoint.metadata().clone();
    kiln_checkpoint::save_tensors(tensors, &metadata, &path).unwrap();
    let message = Trainer::resume(config(), net(), dir.path()).unwrap_err().to_string();
    assert!(message.contains("optimizer's the state has no tensor \"second.bias.*\""), "{message}");
}
