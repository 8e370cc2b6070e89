//! `kiln train`: a network learns to draw.

mod card;
mod lesson;
mod levels;
mod report;

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use kiln::backend::noise::{NoiseKey, uniform_values};
use kiln::denoisers::seeded;
use kiln::diffusion::Process;
use kiln::picture::Channels;
use kiln::training::data::{FolderOptions, OpenOptions, Pictures};
use kiln::training::{BoxError, Outcome, Schedule, StepContext, Trainer, TrainerConfig};
use kiln::{Drawing, ModelCard, NetworkConfig};
use serde_json::json;

use self::lesson::Lesson;
use self::report::{LogitLog, Report};
use crate::cli::Train;
use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;

/// The finished model in a run's folder.
pub const MODEL_FILE: &str = "model.safetensors";

pub fn run(options: &Train) -> Result<()> {
    let data = open_data(options)?;
    let devices = options.backend.open_all(FloatDType::F32)?;
    let device = devices[0].clone();
    let card = card::card(options, &data, &device)?;
    card.check()?;
    let process = lesson::process(&card)?;
    let lesson = Lesson::new(options, &card)?;
    lesson.check(process.as_ref())?;

    let run = Run { options, devices, data, card, process, lesson };
    match &run.card.network {
        NetworkConfig::UNet2D(config) => run.learn(config.init(&device)?),
        NetworkConfig::MmDit(config) => run.learn(config.init(&device)?),
        NetworkConfig::Ncsn(config) => run.learn(config.init(&device)?),
    }
}

/// What is learnt from what.
struct Run<'a> {
    options: &'a Train,
    /// The first has the model.
    devices: Vec<Device>,
    data: Pictures,
    card: ModelCard,
    process: Box<dyn Process>,
    lesson: Lesson,
}

impl Run<'_> {
    fn learn<M: Drawing>(&self, network: M) -> Result<()> {
        let Self { options, devices, data, card, process, lesson } = self;
        let config = trainer_config(options, card, lesson, data);
        let network = seeded(network, options.seed);
        let parameters = network.num_params();
        let mut trainer = match options.resume {
            true => Trainer::resume(config, network, &options.out)?,
            false => Trainer::new(config, network, &options.out)?,
        };
        eprintln!(
            "{} pictures of {} x {}, {} classes; a network of {parameters} parameters; from step {} to {}",
            data.len(),
            data.height(),
            data.width(),
            card.classes.len(),
            trainer.step(),
            options.steps
        );
        set_on_interrupt(trainer.stop_flag())?;
        let logits = Mutex::new(LogitLog::open(&options.out, trainer.step())?);
        let loss = |network: &M, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
            let batch = data.batch(&context.indices(data.len()));
            let labels = self.shown(batch.labels, context);
            let pictures = TensorData::new(batch.pixels, batch.shape);
            let pictures = Tensor::<4>::from_data(pictures, context.device);
            let objective = match lesson {
                Lesson::Regression(objective) => objective,
                Lesson::Slices(slices) => {
                    let answer = |x, times| network.predict(x, times, None);
                    let key = context.noise_key(0);
                    let each = slices.loss(process.as_ref(), card.prediction, answer, pictures, key);
                    return Ok(each.mean());
                }
            };
            let pair = objective.pair(process.as_ref(), pictures, context.noise_key(0));
            if LogitLog::is_due(context.step)
                && context.first_sample() == (context.step * options.batch_size) as u64
                && let Some(largest) =
                    network.largest_logits(pair.input.clone(), pair.network_times.clone(), labels.clone())
            {
                logits.lock().unwrap_or_else(PoisonError::into_inner).write(context.step, largest)?;
            }
            let output = network.predict(pair.input.clone(), pair.network_times.clone(), labels);
            Ok(pair.loss(output))
        };
        let mut report = Report::new(card, &options.out)?;
        report.bar.set_position(trainer.step() as u64);
        report.bar.set_length(options.steps as u64);
        let outcome = match devices.as_slice() {
            [_] => trainer.run(loss, &mut report)?,
            several => trainer.run_on(several, loss, &mut report)?,
        };
        report.bar.finish();
        match outcome {
            Outcome::Finished { .. } => print(options.out.join(MODEL_FILE).display()),
            Outcome::Stopped { step } => {
                let again = "go on with the same command and --resume";
                bail!(Interrupted(format!("; the checkpoint of step {step} is written: {again}")))
            }
        }
    }

    /// The classes as the network is told them: without its class now and then, so that it also learns what guidance leads
    /// away from.
    fn shown(&self, labels: Option<Vec<u32>>, context: &StepContext<'_>) -> Option<Tensor<1, Int>> {
        if !self.card.is_labelled() {
            return None;
        }
        let no_class = self.card.no_class() as i64;
        let labels: Vec<i64> = labels.map_or_else(
            || vec![no_class; context.batch_size],
            |labels| labels.into_iter().map(i64::from).collect(),
        );
        let shown = hidden_at_times(labels, self.options.unlabelled, no_class, context);
        Some(Tensor::from_data(TensorData::new(shown.clone(), [shown.len()]), context.device))
    }
}

/// Labels of a step's pictures, a share of them exchanged for `no_class`: which, depends on the seed and the pictures' numbers alone.
pub fn hidden_at_times(labels: Vec<i64>, share: f64, no_class: i64, context: &StepContext<'_>) -> Vec<i64> {
    let shown = labels.into_iter().zip(0..).map(|(label, row)| {
        let key = context.noise_key(1);
        let key = NoiseKey { sample: key.sample + row, ..key };
        let hidden = f64::from(uniform_values(1, key)[0]) < share;
        if hidden { no_class } else { label }
    });
    shown.collect()
}

fn open_data(options: &Train) -> Result<Pictures> {
    let channels = if options.grey { Channels::Grey } else { Channels::Rgb };
    let folder = FolderOptions { size: options.size, channels, ..FolderOptions::default() };
    let data = Pictures::open(&options.data, &OpenOptions { folder, ..OpenOptions::default() })?;
    if data.is_empty() {
        bail!("{} holds no pictures", options.data.display());
    }
    Ok(data)
}

fn trainer_config(options: &Train, card: &ModelCard, lesson: &Lesson, data: &Pictures) -> TrainerConfig {
    TrainerConfig {
        steps: options.steps,
        batch_size: options.batch_size,
        learning_rate: options.learning_rate,
        warmup_steps: options.warmup,
        schedule: Schedule::Cosine { floor: 0.01, horizon: None },
        weight_decay: options.weight_decay,
        clip_norm: Some(options.clip_norm),
        ema_decay: options.ema_decay,
        seed: options.seed,
        checkpoint_every: options.checkpoint_every,
        sample_every: Some(options.sample_every),
        log_every: 1,
        task: json!({
            "model": card,
            "objective": lesson,
            "unlabelled": options.unlabelled.to_string(),
            "pictures": data.len(),
        }),
    }
}
