//! A regression that the tests train: a small network learns a sine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::noise;
use kiln_optim::weights::weights_of;
use kiln_training::{
    BoxError, LOSSES_FILE, Observer, Outcome, Schedule, StepContext, StepReport, TrainerConfig,
};

/// Two layers, and a dropout, which draws from Burn's own generator, for those who want it.
#[derive(Module, Debug)]
pub struct Net {
    first: Linear,
    second: Linear,
    dropout: Dropout,
}

impl Net {
    /// A net with fresh parameter ids; its weights are a function of `seed`.
    pub fn new(seed: u64, hidden: usize, device: &Device) -> Self {
        let net = Self {
            first: LinearConfig::new(1, hidden).init(device),
            second: LinearConfig::new(hidden, 1).init(device),
            dropout: DropoutConfig::new(0.1).init(),
        };
        // Tests run at once in one process, where Burn's generator is shared: the weights come from ours.
        let mut weights = weights_of(&net);
        for (sample, data) in (0..).zip(weights.values_mut()) {
            let shape = data.shape().clone();
            let key = noise::NoiseKey { seed, sample, step: u64::MAX };
            let count = shape.num_elements();
            let values = noise::normal::<2>([1, count], key, &device.clone().inner()).into_data();
            *data = TensorData::new(values.try_into_vec::<f32>().unwrap(), shape);
        }
        kiln_optim::weights::with_weights(net, weights).unwrap()
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.second.forward(self.first.forward(x).tanh())
    }

    fn forward_with_dropout(&self, x: Tensor<2>) -> Tensor<2> {
        self.second.forward(self.dropout.forward(self.first.forward(x).tanh()))
    }

    /// The mean squared error on points of the curve that no step saw.
    pub fn error(&self) -> f32 {
        let device = self.devices()[0].clone();
        let x: Tensor<2> = (Tensor::arange(0..100, &device).float() / 50.0 - 1.0).reshape([100, 1]);
        (self.forward(x.clone()) - target(x)).square().mean().into_scalar()
    }

    /// All weights, for comparison to the bit.
    pub fn bits(&self) -> Vec<u32> {
        let weights = weights_of(self).into_values();
        weights.flat_map(|data| data.try_into_vec::<f32>().unwrap()).map(f32::to_bits).collect()
    }
}

fn target(x: Tensor<2>) -> Tensor<2> {
    (x * 3.0).sin()
}

pub fn config() -> TrainerConfig {
    TrainerConfig {
        steps: 60,
        batch_size: 16,
        learning_rate: 0.02,
        warmup_steps: 5,
        schedule: Schedule::Cosine { floor: 0.1, horizon: None },
        ema_decay: 0.8,
        seed: 3,
        checkpoint_every: 25,
        task: serde_json::json!({ "model": { "hidden": 8 } }),
        ..TrainerConfig::default()
    }
}

pub fn net() -> Net {
    Net::new(1, 8, &Device::flex().autodiff())
}

/// The loss: points drawn from a data set of 100, with noise on them.
pub fn loss(net: &Net, context: &StepContext<'_>) -> Result<Tensor<1>, BoxError> {
    let (x, y) = batch(context);
    Ok((net.forward(x) - y).square().mean())
}

/// The same with a dropout. Burn's generator is one for the process: for a process with one run.
pub fn loss_with_dropout(net: &Net, context: &StepContext<'_>) -> Result<Tensor<1>, BoxError> {
    let (x, y) = batch(context);
    Ok((net.forward_with_dropout(x) - y).square().mean())
}

fn batch(context: &StepContext<'_>) -> (Tensor<2>, Tensor<2>) {
    let points: Vec<f32> = context.indices(100).into_iter().map(|index| index as f32 / 50.0 - 1.0).collect();
    let x = Tensor::<1>::from_floats(points.as_slice(), context.device).reshape([context.batch_size, 1]);
    let noise = noise::normal::<2>([context.batch_size, 1], context.noise_key(0), context.device);
    (x.clone(), target(x) + noise * 0.01)
}

/// Notes everything, and stops the run after a step.
#[derive(Default)]
pub struct Notes {
    pub reports: Vec<StepReport>,
    pub checkpoints: Vec<PathBuf>,
    pub samples: Vec<(usize, Vec<u32>)>,
    pub outcome: Option<Outcome>,
    pub stop_after: Option<(usize, Arc<AtomicBool>)>,
}

impl Observer<Net> for Notes {
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        self.reports.push(*report);
        if let Some((step, flag)) = &self.stop_after
            && report.step == *step
        {
            flag.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, path: &Path, _averaged: &Net) -> Result<(), BoxError> {
        assert!(path.is_file());
        self.checkpoints.push(path.to_owned());
        Ok(())
    }

    fn on_sample(&mut self, step: usize, averaged: &Net) -> Result<(), BoxError> {
        self.samples.push((step, averaged.bits()));
        Ok(())
    }

    fn on_end(&mut self, outcome: Outcome) -> Result<(), BoxError> {
        self.outcome = Some(outcome);
        Ok(())
    }
}

/// The loss log of a run.
pub fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join(LOSSES_FILE)).unwrap()
}

/// The names of all files of a run but the log.
pub fn files(dir: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != LOSSES_FILE).collect();
    names.sort();
    names
}
