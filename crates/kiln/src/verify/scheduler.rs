//! Schedulers: a run is replayed with the outputs that a network gave, call by call, and the noise that was drawn.
//!
//! diffusers' schedulers are told each output; solvers here ask for it. So the network of the replay gives the recorded outputs in their
//! order, and notes what it is asked: the sample of call i + 1 is what diffusers returned for call i.

use std::cell::RefCell;

use anyhow::{Result, bail};
use burn::tensor::{Tensor, TensorData};
use kiln::diffusion::{Denoiser, Draw, Law, Prediction, Process, Request, Scaling, Schedule};

use super::call::Call;
use super::compare::Outputs;

/// What a call of the network was about.
struct Asked {
    /// The sample, in the process's own variables.
    sample: Tensor<4>,
    input: Tensor<4>,
    told: f64,
    law: Law,
}

/// Replays the run that `call` records through the scheduler of `config`.
pub fn run(config: &str, call: &Call<'_>) -> Result<Outputs> {
    let steps = call.number("num_inference_steps")?.unwrap_or(0.0);
    if !(steps >= 1.0 && steps.fract() == 0.0 && steps < 1e6) {
        bail!("input.num_inference_steps is {steps}, expected a whole number from 1");
    }
    let request = Request { steps: steps as usize, eta: call.option("eta")?, mu: call.option("mu")? };
    let schedule = Schedule::read_with(config, &request)?;
    let recorded = series(call, "model_outputs")?;
    let noises = series(call, "noises")?;
    let start = four(call, "sample")?;
    let added = AddNoise::take(call)?;
    call.understood()?;

    let process = &*schedule.process;
    let shown = |x: Tensor<4>, law: &Law| match schedule.scaling {
        Scaling::NoiseRatio if law.alpha > 0.0 => x / law.alpha,
        _ => x,
    };
    let asked: RefCell<Vec<Asked>> = RefCell::default();
    let network = |input: Tensor<4>, told: f64| {
        let mut asked = asked.borrow_mut();
        let index = asked.len().saturating_sub(1).min(recorded.len() - 1);
        if let Some(last) = asked.last_mut() {
            (last.input, last.told) = (input, told);
        }
        recorded[index].clone()
    };
    let scheduled = schedule.denoiser(network);
    let denoiser = Noting { inner: &scheduled, process, asked: &asked };
    // Noise is drawn after the call of the network that it belongs to.
    let noise = |_: Draw| noises[asked.borrow().len().saturating_sub(1).min(noises.len() - 1)].clone();
    let [t, _] = schedule.sampler.steps()[0];
    let first = process.law(t);
    let start = if schedule.scaling == Scaling::NoiseRatio { start * first.alpha } else { start };
    let last = schedule.sampler.steps()[schedule.sampler.steps().len() - 1][1];
    let end = schedule.sampler.start(process, &denoiser, start, noise)?.finish();

    let asked = asked.take();
    if asked.len() != recorded.len() {
        bail!(
            "the solver asks the network {} times, and {} of its outputs are recorded",
            asked.len(),
            recorded.len()
        );
    }
    let mut outputs = Outputs::default();
    let stack = |tensors: Vec<Tensor<4>>| Tensor::stack::<5>(tensors, 0);
    let following = asked.iter().skip(1).map(|asked| shown(asked.sample.clone(), &asked.law));
    let prev: Vec<_> = following.chain([shown(end, &process.law(last))]).collect();
    outputs.push("prev_samples", stack(prev));
    outputs.push("scaled_samples", stack(asked.iter().map(|asked| asked.input.clone()).collect()));
    outputs.push_data("timesteps", numbers(asked.iter().map(|asked| asked.told)));
    // A rectified flow's level is sigma itself; where alpha is 1, both are the same.
    let flow = schedule.prediction == Prediction::Velocity;
    let level = |law: Law| if flow { law.sigma } else { law.noise_ratio() };
    let levels = asked.iter().map(|asked| level(asked.law)).chain([level(process.law(last))]);
    outputs.push_data("sigmas", numbers(levels));
    if let Some(added) = added {
        outputs.push("add_noise", added.run(&schedule)?);
    }
    Ok(outputs)
}

fn numbers(values: impl Iterator<Item = f64>) -> TensorData {
    let values: Vec<f64> = values.collect();
    let count = values.len();
    TensorData::new(values, [count])
}

/// Notes the sample of each call, before the network's input is made of it.
struct Noting<'a, N> {
    inner: &'a N,
    process: &'a dyn Process,
    asked: &'a RefCell<Vec<Asked>>,
}

impl<N: Denoiser<4>> Denoiser<4> for Noting<'_, N> {
    fn denoise(&self, x: Tensor<4>, t: f64) -> kiln::diffusion::Estimate<4> {
        self.denoise_with_spread(x, t).0
    }

    fn denoise_with_spread(&self, x: Tensor<4>, t: f64) -> (kiln::diffusion::Estimate<4>, Option<Tensor<4>>) {
        let law = self.process.law(t);
        self.asked.borrow_mut().push(Asked { sample: x.clone(), input: x.clone(), told: 0.0, law });
        self.inner.denoise_with_spread(x, t)
    }
}

/// `[batch, channels, height, width]`.
fn four(call: &Call<'_>, name: &str) -> Result<Tensor<4>> {
    use super::call::Side::Any;
    call.need(name, [Any("batch"), Any("channels"), Any("height"), Any("width")])
}

/// One tensor for each call of the network.
fn series(call: &Call<'_>, name: &str) -> Result<Vec<Tensor<4>>> {
    use super::call::Side::Any;
    let all = call.need(name, [Any("calls"), Any("batch"), Any("channels"), Any("height"), Any("width")])?;
    Ok(all.split(1, 0).into_iter().map(|one| one.squeeze_dim(0)).collect())
}

/// The forward process, as a run has it too.
struct AddNoise {
    original: Tensor<4>,
    noise: Tensor<4>,
    timesteps: Vec<f64>,
}

impl AddNoise {
    fn take(call: &Call<'_>) -> Result<Option<Self>> {
        if !call.has("add_noise.original") {
            return Ok(None);
        }
        let original = four(call, "add_noise.original")?;
        let noise = four(call, "add_noise.noise")?;
        let batch = original.dims()[0];
        let times = call.times("add_noise.timesteps", batch)?;
        let Some(times) = times else { bail!(call.missing("add_noise.timesteps")) };
        let timesteps = times.into_data().iter::<f64>().collect();
        Ok(Some(Self { original, noise, timesteps }))
    }

    fn run(self, schedule: &Schedule) -> Result<Tensor<4>> {
        let laws: Vec<Law> = self
            .timesteps
            .iter()
            .map(|&timestep| schedule.time_told(timestep).map(|t| schedule.process.law(t)))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                anyhow::anyhow!("input.add_noise.timesteps holds a timestep that the schedule has not")
            })?;
        let coefficient = |value: fn(&Law, Scaling) -> f64| -> Tensor<4> {
            let values: Vec<f64> = laws.iter().map(|law| value(law, schedule.scaling)).collect();
            let shape = [values.len(), 1, 1, 1];
            Tensor::from_data(
                TensorData::new(values, shape),
                (&self.original.device(), self.original.dtype()),
            )
        };
        let alpha = coefficient(|law, scaling| if scaling == Scaling::NoiseRatio { 1.0 } else { law.alpha });
        let sigma = coefficient(
            |law, scaling| if scaling == Scaling::NoiseRatio { law.noise_ratio() } else { law.sigma },
        );
        Ok(self.original * alpha + self.noise * sigma)
    }
}
