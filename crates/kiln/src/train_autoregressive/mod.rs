//! `kiln train-autoregressive`: p(x) is learnt as a product of conditionals.

mod data;
mod options;
mod report;

use std::time::Instant;

use anyhow::{Result, bail};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kiln::autoregressive::AutoregressiveModel;
use kiln::autoregressive::zoo::{ModelConfig, Visitor};
use kiln::checkpoint::{SaveOptions, save};
use kiln::training::data::Shuffle;
use kiln::training::{BoxError, Outcome, Schedule, StepContext, Trainer, TrainerConfig};
use serde_json::{Value, json};

use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
use data::Discrete;
pub use data::{binarising, discrete, drawn};
pub use options::{Format, TrainAutoregressive};
pub use report::{KEY, MODEL_FILE, PICTURES_KEY};
use report::{Report, given, pictures, scores, write_scores};

pub fn run(options: &TrainAutoregressive) -> Result<()> {
    let [train, held_out] = Discrete::open(options)?;
    if options.labels && train.format.classes < 2 {
        bail!("--labels: {} has no classes", options.data.display());
    }
    let device = options.backend.open()?;
    device.seed(options.seed);
    let config = options.config(train.format);
    let run = Run { options, config: &config, train, held_out, device: device.clone() };
    config.build(&device, run)?
}

struct Run<'a> {
    options: &'a TrainAutoregressive,
    config: &'a ModelConfig,
    train: Discrete,
    held_out: Discrete,
    device: Device,
}

impl Visitor for Run<'_> {
    type Output = Result<()>;

    fn visit<M: AutoregressiveModel>(self, model: M) -> Result<()> {
        let Self { options, config, train, held_out, device } = &self;
        let started = Instant::now();
        let parameters = model.num_params();
        if options.twin {
            self.write_twin(&model)?;
        }
        let mut trainer = match options.resume {
            true => Trainer::resume(self.trainer(), model, &options.out)?,
            false => Trainer::new(self.trainer(), model, &options.out)?,
        };
        eprintln!(
            "{} pictures of {} variables, {} held out; {parameters} parameters; from step {} to {}",
            train.len(),
            train.variables(),
            held_out.len(),
            trainer.step(),
            options.steps
        );
        set_on_interrupt(trainer.stop_flag())?;
        let loss = |model: &M, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
            let indices = context.indices(train.len());
            let labels = given(model, train.labels(&indices, context.device));
            Ok(model.loss(train.batch(&indices, context.device), labels, context.noise_key(0)))
        };
        let mut report = Report::new(config, train.format, &options.out, trainer.step(), options.steps)?;
        let outcome = trainer.run(loss, &mut report)?;
        report.bar.finish();
        if let Outcome::Stopped { step } = outcome {
            let again = "go on with the same command and --resume";
            bail!(Interrupted(format!("; the checkpoint of step {step} is written: {again}")))
        }
        let seconds = started.elapsed().as_secs_f64();
        let averaged = trainer.averaged();
        let found = scores(averaged, held_out, device)?;
        write_scores(&options.out, &found, &self.task(), seconds)?;
        pictures(averaged, held_out, &options.out, options.seed, device)?;
        let classified = found.classified.map(|share| format!(", {:.1} % classified", 100.0 * share));
        print(format_args!(
            "{:.2} nats a picture held out, {:.4} bits a dimension{}",
            found.nats,
            found.bits_per_dimension,
            classified.unwrap_or_default()
        ))?;
        print(options.out.join(MODEL_FILE).display())
    }
}

impl Run<'_> {
    /// What a run must not be resumed without.
    fn task(&self) -> Value {
        let Self { options, config, train, .. } = self;
        json!({
            "model": config,
            "pictures": train.len(),
            "levels": options.levels,
            "labels": options.labels,
        })
    }

    fn trainer(&self) -> TrainerConfig {
        let options = self.options;
        TrainerConfig {
            steps: options.steps,
            batch_size: options.batch_size,
            learning_rate: options.rate(),
            warmup_steps: options.warmup,
            schedule: Schedule::Cosine { floor: 0.01, horizon: None },
            weight_decay: options.weight_decay,
            clip_norm: Some(options.clip_norm),
            ema_decay: options.ema_decay,
            seed: options.seed,
            checkpoint_every: options.checkpoint_every,
            sample_every: None,
            log_every: 1,
            task: self.task(),
        }
    }

    /// The first weights; the pixels, and which of them each step takes.
    fn write_twin<M: AutoregressiveModel>(&self, model: &M) -> Result<()> {
        let Self { options, train, held_out, device, .. } = self;
        std::fs::create_dir_all(&options.out)?;
        save(model, options.out.join("start.safetensors"), &SaveOptions::default())?;
        let all =
            |data: &Discrete| Param::from_tensor(data.batch(&(0..data.len()).collect::<Vec<_>>(), device));
        let labels = |data: &Discrete| {
            let labels = data.labels(&(0..data.len()).collect::<Vec<_>>(), device)?;
            Some(Param::from_tensor(labels.float()))
        };
        let drawn = Shuffle::new(options.seed, train.len()).draw(0, options.steps * options.batch_size);
        let drawn: Vec<f32> = drawn.into_iter().map(|index| index as f32).collect();
        let order = TensorData::new(drawn, [options.steps, options.batch_size]);
        let twin = Twin {
            train: all(train),
            train_labels: labels(train),
            held_out: all(held_out),
            held_out_labels: labels(held_out),
            order: Param::from_tensor(Tensor::from_data(order, device)),
        };
        Ok(save(&twin, options.out.join("data.safetensors"), &SaveOptions::default())?)
    }
}

/// What another program needs to train the same.
#[derive(Module, Debug)]
struct Twin {
    train: Param<Tensor<2>>,
    train_labels: Option<Param<Tensor<1>>>,
    held_out: Param<Tensor<2>>,
    held_out_labels: Option<Param<Tensor<1>>>,
    order: Param<Tensor<2>>,
}
