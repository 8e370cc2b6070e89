//! Fits a line through noisy points, stops half way, and goes on as if it had not stopped.
//!
//! `cargo run --release --example line`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kiln_backend::noise;
use kiln_training::{BoxError, Observer, Schedule, StepContext, StepReport, Trainer, TrainerConfig};

#[derive(Module, Debug)]
struct Line {
    slope: Param<Tensor<1>>,
    intercept: Param<Tensor<1>>,
}

impl Line {
    fn new(device: &Device) -> Self {
        Self { slope: Param::from_data([0.0], device), intercept: Param::from_data([0.0], device) }
    }
}

/// Points on y = 3 x - 1, with noise of a tenth; all of them a function of the step.
fn loss(line: &Line, context: &StepContext<'_>) -> Result<Tensor<1>, BoxError> {
    let points = [context.batch_size];
    let x = noise::uniform(points, context.noise_key(0), context.device);
    let y = x.clone() * 3.0 - 1.0 + noise::normal(points, context.noise_key(1), context.device) * 0.1;
    Ok((x * line.slope.val() + line.intercept.val() - y).square().mean())
}

/// Prints the progress, and stops the run after step 200, as a signal handler would.
struct Progress(Arc<AtomicBool>);

impl Observer<Line> for Progress {
    #[allow(clippy::print_stdout)]
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let StepReport { step, steps, loss, samples_per_second, eta, .. } = report;
        println!(
            "step {step} of {steps}: loss {loss:.4}, {samples_per_second:.0} points a second, {eta:.1?} left"
        );
        if *step == 200 {
            self.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let config = TrainerConfig {
        steps: 400,
        learning_rate: 0.05,
        schedule: Schedule::Cosine { floor: 0.0, horizon: None },
        weight_decay: 0.0,
        ema_decay: 0.9,
        log_every: 100,
        ..TrainerConfig::default()
    };
    let dir = tempfile::tempdir()?;
    let mut trainer = Trainer::new(config.clone(), Line::new(&device), dir.path())?;
    let flag = trainer.stop_flag();
    println!("{:?}", trainer.run(loss, &mut Progress(flag))?);

    let mut trainer = Trainer::resume(config, Line::new(&device), dir.path())?;
    let flag = trainer.stop_flag();
    println!("{:?}", trainer.run(loss, &mut Progress(flag))?);
    let line = trainer.averaged();
    let (slope, intercept): (f32, f32) = (line.slope.val().into_scalar(), line.intercept.val().into_scalar());
    println!("y = {slope:.3} x + {intercept:.3}");
    Ok(())
}
