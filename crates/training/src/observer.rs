//! What a run tells while it goes on.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

/// Whatever can go wrong in the caller's own code.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Is told what happens in a run. Every method does nothing by default; an error of one ends the run as
/// [`TrainingError::Observer`](crate::TrainingError::Observer).
///
/// `()` is the observer that looks at nothing.
pub trait Observer<M> {
    /// After each `log_every`-th step, and the last.
    ///
    /// # Errors
    ///
    /// The observer's own.
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let _ = report;
        Ok(())
    }

    /// After a checkpoint has been written, whole, to `path`, with the averaged weights that it holds.
    ///
    /// # Errors
    ///
    /// The observer's own.
    fn on_checkpoint(&mut self, path: &Path, averaged: &M) -> Result<(), BoxError> {
        let _ = (path, averaged);
        Ok(())
    }

    /// After each `sample_every`-th step, and the last, with the averaged weights; `step` steps have been made.
    ///
    /// # Errors
    ///
    /// The observer's own.
    fn on_sample(&mut self, step: usize, averaged: &M) -> Result<(), BoxError> {
        let _ = (step, averaged);
        Ok(())
    }

    /// At the end of [`Trainer::run`](crate::Trainer::run), finished or stopped, with the last checkpoint written.
    ///
    /// # Errors
    ///
    /// The observer's own.
    fn on_end(&mut self, outcome: Outcome) -> Result<(), BoxError> {
        let _ = outcome;
        Ok(())
    }
}

impl<M> Observer<M> for () {}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps made so far, this one counted.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// The loss before the step.
    pub loss: f32,
    /// The global norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Samples worked through in a second, averaged over the last steps; time spent in checkpoints and in the
    /// observer is not counted.
    pub samples_per_second: f64,
    /// The time that the steps left will take at this pace.
    pub eta: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are made.
    Finished {
        /// The number of steps made.
        step: usize,
    },
    /// The stop flag was set; a checkpoint of this step is written.
    Stopped {
        /// The number of steps made.
        step: usize,
    },
}

/// The pace of the last steps: an exponential average of the time that a step takes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    weight: f64,
    seconds: f64,
}

impl Pace {
    /// The share that the newest step has in the average.
    const SHARE: f64 = 0.05;

    pub(crate) fn add(&mut self, since: Instant) {
        let seconds = since.elapsed().as_secs_f64();
        self.weight += Self::SHARE * (1.0 - self.weight);
        self.seconds += Self::SHARE * (seconds - self.seconds);
    }

    /// Seconds a step; 0 before the first.
    pub(crate) fn seconds_per_step(&self) -> f64 {
        // Starting from 0, the average is too low by the weight that is not yet filled.
        if self.weight > 0.0 { self.seconds / self.weight } else { 0.0 }
    }
}
