//! The loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_backend::remote::is_remote;
use kiln_optim::{
    AdamW, AdamWConfig, Ema, EmaConfig, Group, NamedOptimizer, clip_by_global_norm, global_norm,
};

use crate::config::Difference;
use crate::data::Shuffle;
use crate::devices;
use crate::losses::LossLog;
use crate::observer::{BoxError, Observer, Outcome, Pace, StepReport};
use crate::state::{self, Snapshot, TrainingState};
use crate::{TrainerConfig, TrainingError};

/// A run: a model that is trained with AdamW in a folder that keeps its checkpoints.
///
/// Begun with [`Trainer::new`] or taken up again with [`Trainer::resume`], then [`Trainer::run`].
#[derive(Debug)]
pub struct Trainer<M: Module> {
    config: TrainerConfig,
    dir: PathBuf,
    device: Device,
    // Absent only while the optimizer maps it.
    model: Option<M>,
    optimizer: NamedOptimizer<AdamW>,
    average: Ema<M>,
    step: usize,
    losses: LossLog,
    last_checkpoint: Option<(usize, PathBuf)>,
    stop: Arc<AtomicBool>,
}

/// What the loss of a step may depend on beside the model; all of it is a function of the configuration and `step`.
///
/// For a run to resume bit for bit, whatever is random in the loss must come from here: the samples from
/// [`indices`](Self::indices), numbers from [`noise_key`](Self::noise_key). Burn's own generator, which dropout and
/// `Tensor::random` draw from, is seeded anew before each step; it is one for the whole process, so that two runs at
/// once in one process disturb each other's.
#[derive(Debug, Clone, Copy)]
pub struct StepContext<'a> {
    /// The number of steps made before this one.
    pub step: usize,
    /// The configuration's batch size; on several devices, the samples of the one at hand.
    pub batch_size: usize,
    /// The configuration's seed.
    pub seed: u64,
    /// The model's device, with autodiff.
    pub device: &'a Device,
    /// The place of the first sample among those of the step; not 0 where another device has the first ones.
    pub(crate) first: usize,
    /// Samples of the whole step, of which these are some where there are several devices.
    pub(crate) whole: usize,
}

impl StepContext<'_> {
    /// The number of samples drawn before this step: the position of its first sample in the run.
    #[must_use]
    pub fn first_sample(&self) -> u64 {
        self.step as u64 * self.whole as u64 + self.first as u64
    }

    /// The same step, for `count` of its samples from `first` on, on a device of their own.
    pub(crate) fn part<'b>(&self, first: usize, count: usize, device: &'b Device) -> StepContext<'b> {
        let Self { step, seed, whole, .. } = *self;
        StepContext { step, batch_size: count, seed, device, first, whole }
    }

    /// The indices of this step's samples in a data set of `len`: each epoch is a fresh permutation ([`Shuffle`]).
    ///
    /// # Panics
    ///
    /// Panics if `len` is 0.
    #[must_use]
    pub fn indices(&self, len: usize) -> Vec<usize> {
        Shuffle::new(self.seed, len).draw(self.first_sample(), self.batch_size)
    }

    /// The key of the `draw`-th noise of this step: other numbers for each sample of the run and each `draw`.
    #[must_use]
    pub fn noise_key(&self, draw: u64) -> NoiseKey {
        NoiseKey { seed: self.seed, sample: self.first_sample(), step: draw }
    }
}

impl<M: Module> Trainer<M> {
    /// A run that begins with the weights of `model`, in the folder `dir`, which is made where it is missing.
    ///
    /// The first weights are the caller's: seed the device before the model is made (and read), so that a run can be
    /// made again.
    ///
    /// # Errors
    ///
    /// [`TrainingError::Config`], [`TrainingError::NoParameters`], [`TrainingError::AlreadyStarted`] where the folder
    /// has a checkpoint, [`TrainingError::Io`] where it can't be written.
    pub fn new(config: TrainerConfig, model: M, dir: impl Into<PathBuf>) -> Result<Self, TrainingError> {
        config.validate()?;
        let dir = dir.into();
        if let Some((step, _)) = state::list(&dir)?.pop() {
            return Err(TrainingError::AlreadyStarted { dir, step });
        }
        let (model, device) = with_autodiff(model)?;
        std::fs::create_dir_all(&dir).map_err(|source| TrainingError::Io {
            action: "make the folder",
            path: dir.clone(),
            source,
        })?;
        let steps = config.steps;
        Ok(Self {
            losses: LossLog::create(&dir)?,
            optimizer: NamedOptimizer::new(adamw(&config).build()),
            average: ema(&config).init(&model),
            config: config.with_horizon(steps),
            dir,
            device,
            model: Some(model),
            step: 0,
            last_checkpoint: None,
            stop: Arc::default(),
        })
    }

    /// The run in the folder `dir`, gone on with from its newest checkpoint as if it had not been stopped. The weights
    /// of `model` are replaced; the rows of the loss log after the checkpoint are dropped.
    ///
    /// # Errors
    ///
    /// [`TrainingError::ConfigChanged`] where `config` differs from the run's in a field that may not, and those of
    /// [`TrainingState::latest`] and [`Trainer::new`].
    pub fn resume(config: TrainerConfig, model: M, dir: impl Into<PathBuf>) -> Result<Self, TrainingError> {
        config.validate()?;
        let dir = dir.into();
        let saved = TrainingState::latest(&dir)?;
        let config = config.with_horizon(saved.config().horizon().unwrap_or(saved.config().steps));
        if let Some(Difference { field, saved: before, given }) = config.difference(saved.config()) {
            return Err(TrainingError::ConfigChanged {
                path: saved.path().to_owned(),
                field,
                saved: before,
                given,
            });
        }
        if config.steps < saved.step() {
            let message = format!("is {}, and {} steps are made already", config.steps, saved.step());
            return Err(TrainingError::Config { field: "steps", message });
        }
        let (model, device) = with_autodiff(model)?;
        let model = saved.trained(model)?;
        let averaged = saved.averaged(model.valid())?;
        let optimizer = NamedOptimizer::new(adamw(&config).build())
            .load_state_dict(saved.optimizer()?, &model)
            .map_err(|source| saved.misfit("optimizer", source))?;
        Ok(Self {
            losses: LossLog::resume(&dir, saved.step())?,
            optimizer,
            average: ema(&config).restore(&averaged, saved.updates()),
            config,
            dir,
            device,
            model: Some(model),
            step: saved.step(),
            last_checkpoint: Some((saved.step(), saved.path().to_owned())),
            stop: Arc::default(),
        })
    }

    /// The run with parameters stepped by an optimizer of their own, at a share of the learning rate: a backbone, norms without
    /// decay. A parameter that several groups match is in the first of them. What the groups are belongs in
    /// [`TrainerConfig::task`], so that a run is not resumed with others.
    #[must_use]
    pub fn with_group(mut self, group: Group<AdamW>) -> Self {
        self.optimizer = self.optimizer.with_group(group);
        self
    }

    /// The flag that stops the run: once it is set, [`Trainer::run`] finishes the step it is in, writes a checkpoint
    /// and ends with [`Outcome::Stopped`]. A signal handler sets it.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The configuration, with the horizon of its schedule written out.
    #[must_use]
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The number of steps made.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// The model that is trained, on the device with autodiff.
    #[must_use]
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("the model is absent only while the optimizer maps it")
    }

    /// The model with the averaged weights, on the device without autodiff.
    #[must_use]
    pub fn averaged(&self) -> &M {
        self.average.module()
    }

    /// As [`run`](Self::run), each step's samples dealt out to `devices`, which work on them at once; the model's own device adds their
    /// gradients up and makes the step. `loss_of` gives the mean over the samples that it is asked for.
    ///
    /// A device may be named several times: several threads share it then. Burn's own generator is one for the whole process, so a
    /// model with dropout is trained with other numbers than on one device.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and [`TrainingError::Config`] if there are no devices.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on<L, O>(
        &mut self,
        devices: &[Device],
        loss_of: L,
        observer: &mut O,
    ) -> Result<Outcome, TrainingError>
    where
        L: Fn(&M, &StepContext<'_>) -> Result<Tensor<1>, BoxError> + Sync,
        O: Observer<M> + ?Sized,
    {
        if devices.is_empty() {
            let message = "are none; a step needs at least one".to_owned();
            return Err(TrainingError::Config { field: "devices", message });
        }
        let with_autodiff = |device: &Device| match device.is_autodiff() {
            true => device.clone(),
            false => device.clone().autodiff(),
        };
        let devices: Vec<_> = devices.iter().map(with_autodiff).collect();
        self.watched(&devices, |run| {
            run.drive(|model, context| devices::on_all(&loss_of, model, context, &devices), observer)
        })
    }

    /// Makes the steps that are left, or those until the stop flag is set. `loss_of` gives a step's loss: one number.
    ///
    /// # Errors
    ///
    /// Those of the closure and the observer, [`TrainingError::Diverged`] where the loss or the gradients are not
    /// finite, [`TrainingError::Io`] where a checkpoint or the log can't be written, [`TrainingError::DeviceLost`] where a device of another
    /// machine went away. The last checkpoint stays.
    ///
    /// # Panics
    ///
    /// Panics if the loss does not depend on the model's parameters.
    pub fn run<L, O>(&mut self, mut loss_of: L, observer: &mut O) -> Result<Outcome, TrainingError>
    where
        L: FnMut(&M, &StepContext<'_>) -> Result<Tensor<1>, BoxError>,
        O: Observer<M> + ?Sized,
    {
        self.watched(&[], |run| {
            run.drive(|model, context| devices::gradients(&mut loss_of, model, context, 1.0), observer)
        })
    }

    /// What `steps` gives. A device of another machine that goes away panics, for Burn's operations have no errors; it is told as an error,
    /// and the run is over: its model may have been lost on the way through the step.
    fn watched(
        &mut self,
        devices: &[Device],
        steps: impl FnOnce(&mut Self) -> Result<Outcome, TrainingError>,
    ) -> Result<Outcome, TrainingError> {
        if !devices.iter().chain([&self.device]).any(is_remote) {
            return steps(self);
        }
        catch_unwind(AssertUnwindSafe(|| steps(self))).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            Err(TrainingError::DeviceLost {
                step: self.step + 1,
                reason: said.to_owned(),
                last_checkpoint: self.last_checkpoint.as_ref().map(|(_, path)| path.clone()),
            })
        })
    }

    /// The steps, however their gradients are found.
    fn drive<G, O>(&mut self, mut gradients_of: G, observer: &mut O) -> Result<Outcome, TrainingError>
    where
        G: FnMut(&M, &StepContext<'_>) -> Result<(f32, GradientsParams), BoxError>,
        O: Observer<M> + ?Sized,
    {
        let mut pace = Pace::default();
        let outcome = loop {
            if self.step >= self.config.steps {
                break Outcome::Finished { step: self.step };
            }
            if self.stop.load(Ordering::Relaxed) {
                break Outcome::Stopped { step: self.step };
            }
            let started = Instant::now();
            let mut report = self.advance(&mut gradients_of)?;
            pace.add(started);
            report.samples_per_second = self.config.batch_size as f64 / pace.seconds_per_step();
            let left = (self.config.steps - self.step) as f64 * pace.seconds_per_step();
            report.eta = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            self.losses.push(&report)?;
            self.tell(&report, observer)?;
        };
        self.checkpoint(observer)?;
        observer.on_end(outcome).map_err(|source| self.blame(source))?;
        Ok(outcome)
    }

    /// One step: the step that this crate is about.
    fn advance<G>(&mut self, gradients_of: &mut G) -> Result<StepReport, TrainingError>
    where
        G: FnMut(&M, &StepContext<'_>) -> Result<(f32, GradientsParams), BoxError>,
    {
        let TrainerConfig { steps, batch_size, seed, clip_norm, .. } = self.config;
        let (first, whole) = (0, batch_size);
        let context = StepContext { step: self.step, batch_size, seed, device: &self.device, first, whole };
        let step = self.step + 1;
        let _span = tracing::debug_span!("training step", step).entered();
        let learning_rate = self.config.learning_rate_at(self.step);
        self.device.seed(step_seed(seed, step));

        let model = self.model();
        let (loss, mut gradients) =
            gradients_of(model, &context).map_err(|source| TrainingError::Step { step, source })?;
        let grad_norm = match clip_norm {
            Some(max_norm) => clip_by_global_norm(&mut gradients, model, max_norm),
            None => global_norm(&gradients, model),
        };
        for (quantity, value) in [("loss", f64::from(loss)), ("norm of the gradients", grad_norm)] {
            if !value.is_finite() {
                let last_checkpoint = self.last_checkpoint.as_ref().map(|(_, path)| path.clone());
                return Err(TrainingError::Diverged {
                    step,
                    quantity,
                    value,
                    learning_rate,
                    last_checkpoint,
                });
            }
        }
        // The model is moved through the step: a tensor that anyone else held could not be updated in place.
        self.model = self.model.take().map(|model| self.optimizer.step(learning_rate, model, gradients));
        self.step = step;
        self.average.update(self.model.as_ref().expect("put back above"));
        let (samples_per_second, eta) = (0.0, Duration::ZERO);
        Ok(StepReport { step, steps, loss, grad_norm, learning_rate, samples_per_second, eta })
    }

    /// What is due after a step.
    fn tell<O: Observer<M> + ?Sized>(
        &mut self,
        report: &StepReport,
        observer: &mut O,
    ) -> Result<(), TrainingError> {
        let TrainerConfig { steps, log_every, checkpoint_every, sample_every, .. } = self.config;
        let due = |every: usize| report.step.is_multiple_of(every) || report.step == steps;
        if due(log_every) {
            observer.on_step(report).map_err(|source| self.blame(source))?;
        }
        if due(checkpoint_every) {
            self.checkpoint(observer)?;
        }
        if sample_every.is_some_and(due) {
            let _span = tracing::info_span!("sample", step = report.step).entered();
            observer.on_sample(report.step, self.averaged()).map_err(|source| self.blame(source))?;
        }
        Ok(())
    }

    /// Writes a checkpoint of this step, if there is none yet.
    fn checkpoint<O: Observer<M> + ?Sized>(&mut self, observer: &mut O) -> Result<(), TrainingError> {
        if self.last_checkpoint.as_ref().is_some_and(|(step, _)| *step == self.step) {
            return Ok(());
        }
        self.losses.sync()?;
        let snapshot = Snapshot {
            step: self.step,
            updates: self.average.updates(),
            config: &self.config,
            model: self.model(),
            average: self.averaged(),
            optimizer: self.optimizer.state_dict(),
        };
        let path = state::save(&self.dir, snapshot)?;
        self.last_checkpoint = Some((self.step, path.clone()));
        observer.on_checkpoint(&path, self.averaged()).map_err(|source| self.blame(source))
    }

    fn blame(&self, source: BoxError) -> TrainingError {
        TrainingError::Observer { step: self.step, source }
    }
}

/// The seed of Burn's own generator in a step (counted from 1): far apart for neighbouring steps and for other seeds.
fn step_seed(seed: u64, step: usize) -> u64 {
    seed ^ (step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn adamw(config: &TrainerConfig) -> AdamWConfig {
    AdamWConfig::new().with_weight_decay(config.weight_decay)
}

fn ema(config: &TrainerConfig) -> EmaConfig {
    EmaConfig::new().with_decay(config.ema_decay)
}

/// The model on its device with autodiff, and that device.
fn with_autodiff<M: Module>(model: M) -> Result<(M, Device), TrainingError> {
    let device = model.devices().into_iter().next().ok_or(TrainingError::NoParameters)?;
    if device.is_autodiff() { Ok((model, device)) } else { Ok((model.train(), device.autodiff())) }
}
