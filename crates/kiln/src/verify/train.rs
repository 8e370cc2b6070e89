//! A few steps of training, before the outputs are taken: the loss of each, and the network that comes out.
//!
//! ```text
//! step i   loss = mean (network(x_t, t) - noise)²,   x_t = sqrt(alpha_bar_t) clean[i] + sqrt(1 - alpha_bar_t) noise[i],   t = timesteps[i]
//! ```
//!
//! DDPM's forward process and loss; the request names schedule and optimizer. The rate is constant, and nothing is dropped out.

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use kiln::checkpoint::{StoredModel, config};
use kiln::denoisers::{UNet2D, UNet2DConfig};
use kiln::diffusion::{BetaSchedule, DdpmLadder, perturb};
use kiln::optim::{AdamConfig, AdamWConfig, NamedOptimizer};

use super::call::{Call, Side};

/// The loss that is understood, in the words of the request.
const LOSS: &str = "mse of the noise";

/// More levels of noise than any schedule has: their table is made in memory.
const MOST_RUNGS: usize = 1_000_000;

/// What a request asks for, with the batches of its steps.
#[derive(Debug)]
pub struct Training {
    ladder: DdpmLadder,
    method: Method,
    learning_rate: f64,
    /// `[steps, batch, channels, height, width]`.
    clean: Tensor<5>,
    noise: Tensor<5>,
    /// A list for each step.
    timesteps: Vec<Vec<i64>>,
}

impl Training {
    /// The training that a call asks for; `None` if it asks for none.
    pub fn take(config: &UNet2DConfig, call: &Call<'_>) -> Result<Option<Self>> {
        use Side::{Any, Is};
        let Some(steps) = call.option::<usize>("train_steps")? else { return Ok(None) };
        if config.num_class_embeds.is_some() || config.class_embed_type.is_some() {
            bail!("training a network with classes is not known here");
        }
        if FloatDType::F16 == call.device().settings().float_dtype {
            bail!("AdamW's epsilon is 0 in f16, and its first step no number: train in f32 or bf16");
        }
        let rungs = call.option("num_train_timesteps")?.unwrap_or(1000);
        if rungs > MOST_RUNGS {
            bail!("`num_train_timesteps` of the request is {rungs}; at most {MOST_RUNGS} are known");
        }
        let shape = [Is(steps), Any("batch"), Is(config.in_channels), Any("height"), Any("width")];
        let clean = call.need("clean", shape)?;
        let noise = call.need("noise", clean.dims().map(Is))?;
        let [_, batch, ..] = clean.dims();
        let timesteps = call
            .integers("timesteps", [Is(steps), Is(batch)], rungs)?
            .with_context(|| call.missing("timesteps"))?;
        let timesteps: Vec<i64> = timesteps.into_data().iter().collect();
        if let Some(loss) = call.option::<String>("loss")?
            && loss != LOSS
        {
            bail!("`loss` of the request is \"{loss}\"; known is \"{LOSS}\"");
        }
        Ok(Some(Self {
            ladder: DdpmLadder::new(schedule(call)?, rungs)?,
            method: Method::take(call)?,
            learning_rate: call.option("learning_rate")?.context("the request names no `learning_rate`")?,
            clean,
            noise,
            timesteps: timesteps.chunks(batch).map(<[i64]>::to_vec).collect(),
        }))
    }

    /// The network as it is trained: on a device with autodiff, and nothing dropped out.
    pub fn load(model: &StoredModel, device: &Device) -> Result<UNet2D> {
        let mut fields: serde_json::Map<String, serde_json::Value> =
            config::read(&model.config, &["UNet2DModel"])?;
        fields.insert("dropout".to_owned(), 0.into());
        let config = serde_json::Value::Object(fields).to_string();
        Ok(StoredModel { config, ..model.clone() }.load(&device.clone().autodiff())?)
    }

    /// Trains; the network without autodiff, and each loss before its step.
    pub fn run(self, network: UNet2D) -> (UNet2D, TensorData) {
        match &self.method {
            Method::Adam(config) => self.run_with(config.build(), network),
            Method::AdamW(config) => self.run_with(config.build(), network),
        }
    }

    fn run_with<O: Optimizer>(&self, optimizer: O, mut network: UNet2D) -> (UNet2D, TensorData) {
        let mut optimizer = NamedOptimizer::new(optimizer);
        let mut losses = Vec::with_capacity(self.timesteps.len());
        for (step, timesteps) in self.timesteps.iter().enumerate() {
            let of_step = |all: &Tensor<5>| all.clone().narrow(0, step, 1).squeeze_dim::<4>(0);
            let (clean, noise) = (of_step(&self.clean), of_step(&self.noise));
            let device = clean.device();
            let times: Vec<f64> = timesteps.iter().map(|&index| self.ladder.time(index as usize)).collect();
            let noisy = perturb(&self.ladder, clean, noise.clone(), &times);
            let told: Vec<f32> = timesteps.iter().map(|&index| index as f32).collect();
            let told = Tensor::from_data(TensorData::new(told, [timesteps.len()]), (&device, DType::F32));
            let loss = (network.forward(noisy, told, None) - noise).square().mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            losses.push(loss.into_scalar::<f32>());
            network = optimizer.step(self.learning_rate, network, gradients);
        }
        let count = losses.len();
        (network.valid(), TensorData::new(losses, [count]))
    }
}

fn schedule(call: &Call<'_>) -> Result<BetaSchedule> {
    let name = call.option::<String>("beta_schedule")?.unwrap_or_else(|| "linear".to_owned());
    let beta_start = call.option("beta_start")?.unwrap_or(1e-4);
    let beta_end = call.option("beta_end")?.unwrap_or(0.02);
    Ok(match name.as_str() {
        "linear" => BetaSchedule::Linear { beta_start, beta_end },
        "scaled_linear" => BetaSchedule::ScaledLinear { beta_start, beta_end },
        "squaredcos_cap_v2" => BetaSchedule::Cosine,
        _ => bail!(
            "`beta_schedule` of the request is \"{name}\"; known are linear, scaled_linear and squaredcos_cap_v2"
        ),
    })
}

/// An optimizer that requests name.
#[derive(Debug)]
pub(super) enum Method {
    Adam(AdamConfig),
    AdamW(AdamWConfig),
}

impl Method {
    pub(super) fn take(call: &Call<'_>) -> Result<Self> {
        let name = call.option::<String>("optimizer")?.unwrap_or_else(|| "AdamW".to_owned());
        let [beta1, beta2] = call.option("betas")?.unwrap_or([0.9, 0.999]);
        let epsilon = call.option("epsilon")?.unwrap_or(1e-8);
        let decay: Option<f64> = call.option("weight_decay")?;
        Ok(match name.as_str() {
            "Adam" => {
                let config = AdamConfig::new().with_beta1(beta1).with_beta2(beta2).with_epsilon(epsilon);
                Self::Adam(config.with_weight_decay(decay.unwrap_or(0.0)))
            }
            "AdamW" => {
                let config = AdamWConfig::new().with_beta1(beta1).with_beta2(beta2).with_epsilon(epsilon);
                Self::AdamW(config.with_weight_decay(decay.unwrap_or(1e-2)))
            }
            _ => bail!("`optimizer` of the request is \"{name}\"; known are Adam and AdamW"),
        })
    }
}
