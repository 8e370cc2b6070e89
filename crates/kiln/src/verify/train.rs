//! A few steps of training, before the outputs are taken: the loss of each, and the network that comes out.
//!
//! ```text
//! step i   loss = mean (network(x_t, t) - noise)²,   x_t = sqrt(alpha_bar_t) clean[i] + sqrt(1 - alpha_bar_t) noise[i],   t = timesteps[i]
//! ```
//!
//! DDPM's forward process and loss; the request names schedule and optimizer. The rate is constant, and nothing is dropped out.

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::{GradientsParams, LearningRate, Optimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln::checkpoint::{StoredModel, config};
use kiln::denoisers::{UNet2D, UNet2DConfig};
use kiln::diffusion::{BetaSchedule, DdpmLadder, perturb};
use kiln::optim::{AdamW, AdamWConfig, AdamWState, NamedOptimizer};

use super::call::{Call, Side};

/// The loss that is understood, in the words of the request.
const LOSS: &str = "mse of the noise";

/// What a request asks for, with the batches of its steps.
#[derive(Debug)]
pub struct Training {
    ladder: DdpmLadder,
    optimizer: Adam,
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
        let rungs = call.option("num_train_timesteps")?.unwrap_or(1000);
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
            optimizer: Adam::take(call)?,
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
    pub fn run(self, mut network: UNet2D) -> (UNet2D, TensorData) {
        let mut optimizer = NamedOptimizer::new(self.optimizer);
        let mut losses = Vec::with_capacity(self.timesteps.len());
        for (step, timesteps) in self.timesteps.iter().enumerate() {
            let of_step = |all: &Tensor<5>| all.clone().slice([step..step + 1]).squeeze_dim::<4>(0);
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

/// AdamW, or Adam as PyTorch has it: there the decay is a part of the gradient, `g + lambda p`, and so of its moments.
#[derive(Clone, Debug)]
struct Adam {
    step: AdamW,
    decay_in_gradient: f64,
}

impl Adam {
    fn take(call: &Call<'_>) -> Result<Self> {
        let name = call.option::<String>("optimizer")?.unwrap_or_else(|| "AdamW".to_owned());
        let [beta1, beta2] = call.option("betas")?.unwrap_or([0.9, 0.999]);
        let epsilon = call.option("epsilon")?.unwrap_or(1e-8);
        let decay: Option<f64> = call.option("weight_decay")?;
        let (outside, inside) = match name.as_str() {
            "AdamW" => (decay.unwrap_or(1e-2), 0.0),
            "Adam" => (0.0, decay.unwrap_or(0.0)),
            _ => bail!("`optimizer` of the request is \"{name}\"; known are Adam and AdamW"),
        };
        let step = AdamWConfig::new()
            .with_beta1(beta1)
            .with_beta2(beta2)
            .with_epsilon(epsilon)
            .with_weight_decay(outside)
            .build();
        Ok(Self { step, decay_in_gradient: inside })
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let gradient = match self.decay_in_gradient {
            0.0 => gradient,
            decay => gradient + tensor.clone() * decay,
        };
        self.step.step(rate, tensor, gradient, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamW::to_device(state, device)
    }
}
