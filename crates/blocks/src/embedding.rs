//! Time as a vector.
//!
//! ```text
//! sinusoidal   [cos(t w_i), sin(t w_i)],  w_i = 10000^(-i / (channels / 2 - shift))          Vaswani et al. 2017
//! Fourier      [sin(2 pi w_i log t), cos(2 pi w_i log t)],  w_i ~ N(0, 16^2), kept fixed     Song et al. 2021
//! embedding    W_2 silu(W_1 x + b_1) + b_2
//! ```

use std::f64::consts::{PI, TAU};

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use kiln_backend::ops::{Activation, activation};
use kiln_backend::watch;
use serde::{Deserialize, Serialize};

/// Which half of a sinusoidal embedding comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SineOrder {
    /// Sines, then cosines: the paper's order.
    SineFirst,
    /// Cosines, then sines (diffusers: `flip_sin_to_cos`).
    #[default]
    CosineFirst,
}

/// Configuration of a [`Sinusoidal`] embedding.
#[derive(Config, Debug)]
pub struct SinusoidalConfig {
    /// Width of the embedding; an odd one ends in a zero.
    pub channels: usize,
    /// Which half comes first.
    #[config(default = "SineOrder::CosineFirst")]
    pub order: SineOrder,
    /// Shortens the range of frequencies: 0 stops short of period 10,000, 1 reaches it.
    #[config(default = 0.0)]
    pub freq_shift: f64,
}

/// Sinusoidal time embedding, with no parameters (diffusers: `Timesteps`).
#[derive(Module, Debug)]
pub struct Sinusoidal {
    channels: usize,
    #[module(skip)]
    order: SineOrder,
    freq_shift: f64,
}

impl SinusoidalConfig {
    /// The embedding; it has no weights, so it needs no device.
    #[must_use]
    pub fn init(&self) -> Sinusoidal {
        Sinusoidal { channels: self.channels, order: self.order, freq_shift: self.freq_shift }
    }
}

impl Sinusoidal {
    /// Times `[batch]` to `[batch, channels]`, in f32 whatever the device's float type is: at f16 a time of 999 would lose
    /// its phase.
    #[must_use]
    pub fn forward(&self, times: Tensor<1>) -> Tensor<2> {
        let half = self.channels / 2;
        // In f32 as PyTorch does it: at time 999 one unit in the last place of a frequency is seen in the phase.
        let frequencies: Vec<f32> = (0..half)
            .map(|i| (-(10_000f64.ln() as f32) * i as f32 / (half as f64 - self.freq_shift) as f32).exp())
            .collect();
        let device = times.device();
        let frequencies = Tensor::<1>::from_data(TensorData::new(frequencies, [half]), (&device, DType::F32))
            .unsqueeze_dim(0);
        let (sine, cosine) = sin_cos(times.cast(DType::F32).unsqueeze_dim::<2>(1) * frequencies);
        let mut parts = match self.order {
            SineOrder::SineFirst => vec![sine, cosine],
            SineOrder::CosineFirst => vec![cosine, sine],
        };
        if self.channels % 2 == 1 {
            let batch = parts[0].dims()[0];
            parts.push(Tensor::zeros([batch, 1], (&device, DType::F32)));
        }
        Tensor::cat(parts, 1)
    }
}

/// Sine and cosine of `x`, to 1e-6 on a CPU and 3e-5 on a GPU (whose driver may merge the two subtractions).
///
/// GPUs promise little: Vulkan's own sine may be off by 2^-11, and by anything outside `-pi..pi`, while phases here reach
/// 1,000. So `2 pi` is taken off in two parts (Cody and Waite), the first of so few bits that its products are exact; a
/// quarter of the rest goes through Taylor's series; and the angle is doubled twice.
fn sin_cos(x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    const TAU_HIGH: f64 = 6.281_25;
    const TAU_LOW: f64 = TAU - TAU_HIGH;
    let turns = (x.clone() / TAU).round();
    let quarter = ((x - turns.clone() * TAU_HIGH) - turns * TAU_LOW) * 0.25;
    let square = quarter.clone() * quarter.clone();
    // 1 - a z / 2 (1 - b z ...): the factorials, highest first, as factors of one another.
    let series = |factors: [f64; 4]| {
        let last = square.clone() * -factors[0] + 1.0;
        factors[1..].iter().fold(last, |inner, factor| square.clone() * inner * -factor + 1.0)
    };
    let mut sine = quarter * series([1.0 / 72.0, 1.0 / 42.0, 1.0 / 20.0, 1.0 / 6.0]);
    let mut cosine = series([1.0 / 56.0, 1.0 / 30.0, 1.0 / 12.0, 1.0 / 2.0]);
    for _ in 0..2 {
        (sine, cosine) = (sine.clone() * cosine * 2.0, sine.clone() * sine * -2.0 + 1.0);
    }
    (sine, cosine)
}

/// Configuration of a [`FourierProjection`].
#[derive(Config, Debug)]
pub struct FourierProjectionConfig {
    /// Number of frequencies; the embedding is twice as wide.
    pub frequencies: usize,
    /// Standard deviation of the frequencies.
    #[config(default = 16.0)]
    pub scale: f64,
}

/// Random Fourier features of the logarithm of a noise level (diffusers: `GaussianFourierProjection`).
#[derive(Module, Debug)]
pub struct FourierProjection {
    /// Frequencies, `[frequencies]`; not trained.
    weight: Param<Tensor<1>>,
}

impl FourierProjectionConfig {
    /// Frequencies drawn on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> FourierProjection {
        let (frequencies, scale) = (self.frequencies, self.scale);
        let weight = Param::uninitialized(
            ParamId::new(),
            move |device: &Device, _| {
                Tensor::random([frequencies], Distribution::Normal(0.0, scale), device)
                    .set_require_grad(false)
            },
            device.clone(),
            false,
            [frequencies].into(),
        );
        FourierProjection { weight }
    }
}

impl FourierProjection {
    /// Noise levels `[batch]`, above 0, to `[batch, 2 * frequencies]`, sines first.
    #[must_use]
    pub fn forward(&self, levels: Tensor<1>) -> Tensor<2> {
        let levels = levels.cast(DType::F32).log().unsqueeze_dim::<2>(1);
        let phase = levels * self.weight.val().cast(DType::F32).unsqueeze_dim(0) * 2.0 * PI;
        let (sine, cosine) = sin_cos(phase);
        Tensor::cat(vec![sine, cosine], 1)
    }
}

/// Configuration of a [`TimestepEmbedding`].
#[derive(Config, Debug)]
pub struct TimestepEmbeddingConfig {
    /// Width of the input.
    pub in_channels: usize,
    /// Width of the output.
    pub channels: usize,
    /// Width of a condition that is added to the input, if there is one.
    pub condition_channels: Option<usize>,
    /// Between the layers.
    #[config(default = "Activation::Silu")]
    pub activation: Activation,
    /// After the layers.
    #[config(default = "Activation::Identity")]
    pub last_activation: Activation,
}

/// Two linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    cond_proj: Option<Linear>,
    linear_2: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    last_activation: Activation,
}

impl TimestepEmbeddingConfig {
    /// The layers with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> TimestepEmbedding {
        TimestepEmbedding {
            linear_1: LinearConfig::new(self.in_channels, self.channels).init(device),
            cond_proj: self
                .condition_channels
                .map(|width| LinearConfig::new(width, self.in_channels).with_bias(false).init(device)),
            linear_2: LinearConfig::new(self.channels, self.channels).init(device),
            activation: self.activation,
            last_activation: self.last_activation,
        }
    }
}

impl TimestepEmbedding {
    /// `[batch, in_channels]` to `[batch, channels]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.forward_with(x, None)
    }

    /// As [`forward`](Self::forward), with a condition, `[batch, condition_channels]`: the guidance scale of a distilled
    /// network, say. A layer that was made for one also goes without.
    ///
    /// # Panics
    ///
    /// If there is a condition and the layer was made for none.
    #[must_use]
    pub fn forward_with(&self, x: Tensor<2>, condition: Option<Tensor<2>>) -> Tensor<2> {
        let x = match (&self.cond_proj, condition) {
            (Some(proj), Some(condition)) => x + proj.forward(condition),
            (_, None) => x,
            (None, Some(_)) => panic!("this time embedding takes no condition"),
        };
        let h = activation(self.linear_1.forward(x), self.activation);
        let y = activation(self.linear_2.forward(h), self.last_activation);
        watch::block(&self.linear_2.weight, &y);
        y
    }
}
