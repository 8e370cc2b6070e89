//! The distribution of one site given those before it: what a network's numbers mean.
//!
//! ```text
//! Bernoulli          p(1) = sigmoid(l)
//! Categorical        p(v) = softmax(l)_v
//! GaussianMixture    p(v) = sum_k softmax(a)_k N(v; mu_k, exp(s_k)^2)                                     (RNADE)
//! LogisticMixture    P(v) = sum_k softmax(a)_k [F_k(v + 1/2) - F_k(v - 1/2)],  F_k(v) = sigmoid((v - mu_k) / exp(s_k))
//! ```
//!
//! The last (Salimans et al. 2017, "PixelCNN++") is over levels put evenly on [-1, 1], with F = 0 below the lowest and 1 above the
//! highest; in colour the mean of green moves with red, that of blue with red and green, and the three share their component.
//! With p and m the two arguments of the sigmoid and d = p - m, which does not depend on v,
//!
//! ```text
//! log (sigmoid(p) - sigmoid(m)) = log sigmoid(p) + log sigmoid(-m) + log (1 - e^-d),    1 - e^-d = tanh(d / 2) (1 + e^-d)
//! ```
//!
//! loses no digit, however far in the tail v is.

use std::f64::consts::TAU;
use std::fmt;

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid, softmax};
use burn::tensor::{Int, Tensor};
use kiln_backend::noise::{NoiseKey, normal, uniform};
use serde::{Deserialize, Serialize};

use crate::AutoregressiveError;
use crate::error::config;

/// Which distribution a site has, given those before it; see the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Family {
    /// 0 or 1; one logit.
    Bernoulli,
    /// 0, 1, ..., levels - 1; a logit each.
    Categorical {
        /// How many values there are.
        levels: usize,
    },
    /// A real number; for each component a logit, then the means, then the logarithms of the standard deviations.
    GaussianMixture {
        /// How many normal distributions are mixed.
        components: usize,
    },
    /// 0, 1, ..., levels - 1 in each channel; for each component a logit, then for each channel the means and the logarithms of
    /// the scales, then in colour the three weights by which means move.
    LogisticMixture {
        /// How many values there are in a channel.
        levels: usize,
        /// How many logistic distributions are mixed.
        components: usize,
        /// 1, or 3 for colour.
        channels: usize,
    },
}

/// What a variable may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// 0, 1, ..., this - 1.
    Levels(usize),
    /// Any finite number.
    Real,
}

impl Values {
    /// Whether a value is one of these.
    #[must_use]
    pub fn contain(self, value: f32) -> bool {
        match self {
            Self::Levels(levels) => value >= 0.0 && value.fract() == 0.0 && value < levels as f32,
            Self::Real => value.is_finite(),
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Levels(2) => write!(f, "0 or 1"),
            Self::Levels(levels) => write!(f, "0, 1, ..., {}", levels.saturating_sub(1)),
            Self::Real => write!(f, "a finite number"),
        }
    }
}

/// The logarithm of the least scale of a logistic: 1 / 1097 of the range, far less than one of 256 levels.
const LEAST_LOG_SCALE: f64 = -7.0;

impl Family {
    /// Whether its numbers make a distribution.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`] with the field.
    pub fn check(self) -> Result<(), AutoregressiveError> {
        match self {
            Self::Categorical { levels } | Self::LogisticMixture { levels, .. } if levels < 2 => {
                config("levels", format!("is {levels}, and there must be 2 values at least"))
            }
            Self::GaussianMixture { components: 0 } | Self::LogisticMixture { components: 0, .. } => {
                config("components", "is 0, and one distribution must be there")
            }
            Self::LogisticMixture { channels, .. } if channels != 1 && channels != 3 => {
                config("channels", format!("is {channels}; expected 1, or 3 for colour"))
            }
            _ => Ok(()),
        }
    }

    /// The number of numbers that say which distribution of the family it is.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::Bernoulli => 1,
            Self::Categorical { levels } => levels,
            Self::GaussianMixture { components } => 3 * components,
            Self::LogisticMixture { components, channels, .. } => {
                components * (1 + 2 * channels + channels * (channels - 1) / 2)
            }
        }
    }

    /// The number of variables of a site.
    #[must_use]
    pub fn channels(self) -> usize {
        match self {
            Self::LogisticMixture { channels, .. } => channels,
            Self::Bernoulli | Self::Categorical { .. } | Self::GaussianMixture { .. } => 1,
        }
    }

    /// What a variable may be.
    #[must_use]
    pub fn values(self) -> Values {
        match self {
            Self::Bernoulli => Values::Levels(2),
            Self::Categorical { levels } | Self::LogisticMixture { levels, .. } => Values::Levels(levels),
            Self::GaussianMixture { .. } => Values::Real,
        }
    }

    /// The values as a network is shown them: levels on [0, 1], those of a logistic mixture on [-1, 1], real numbers as they are.
    #[must_use]
    pub fn input<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Bernoulli | Self::GaussianMixture { .. } => x,
            Self::Categorical { levels } => x.div_scalar((levels - 1) as f64),
            Self::LogisticMixture { levels, .. } => x.mul_scalar(2.0 / (levels - 1) as f64).sub_scalar(1.0),
        }
    }

    /// log p of each site in nats, `[batch, sites]`.
    ///
    /// # Shapes
    /// - `parameters`: `[batch, sites, width]`; `x`: `[batch, channels x sites]`, channel by channel.
    #[must_use]
    pub fn log_prob(self, parameters: Tensor<3>, x: Tensor<2>) -> Tensor<2> {
        let [batch, sites, width] = parameters.dims();
        match self {
            Self::Bernoulli => {
                let logits = parameters.reshape([batch, sites]);
                x * logits.clone() - softplus(logits)
            }
            Self::Categorical { .. } => {
                let index: Tensor<3, Int> = x.int().unsqueeze_dim(2);
                log_softmax(parameters, 2).gather(2, index).reshape([batch, sites])
            }
            Self::GaussianMixture { components } => {
                let [logits, means, log_stds] = thirds(&parameters, components);
                let distance = (x.unsqueeze_dim::<3>(2) - means) * log_stds.clone().neg().exp();
                let each = distance.square().mul_scalar(-0.5) - log_stds - 0.5 * TAU.ln();
                log_sum_exp(log_softmax(logits, 2) + each)
            }
            Self::LogisticMixture { levels, components, channels } => {
                let x = self.input(x).reshape([batch, channels, sites]);
                let parts = Logistics::new(&parameters, components, channels);
                let mut total = log_softmax(parts.logits.clone(), 2);
                let channel = |c: usize| x.clone().narrow(1, c, 1).reshape([batch, sites, 1]);
                for c in 0..channels {
                    let before: Vec<_> = (0..c).map(channel).collect();
                    total = total
                        + log_bin(channel(c), parts.mean(c, &before), parts.log_scales[c].clone(), levels);
                }
                debug_assert_eq!(width, self.width());
                log_sum_exp(total)
            }
        }
    }

    /// A value for one site of each sample, `[batch, channels]`, from `parameters`, `[batch, width]`: those of row `i` are
    /// a function of the key at sample `key.sample + i`.
    ///
    /// # Panics
    /// If the family has no such number of parameters.
    #[must_use]
    pub fn draw(self, parameters: Tensor<2>, key: NoiseKey) -> Tensor<2> {
        let ([batch, width], device) = (parameters.dims(), parameters.device());
        assert_eq!(width, self.width(), "the number of a site's parameters");
        let numbers = uniform([batch, 1 + self.channels()], key, &device).cast(parameters.dtype());
        let first = numbers.clone().narrow(1, 0, 1);
        match self {
            Self::Bernoulli => first.lower(sigmoid(parameters)).float(),
            Self::Categorical { .. } => choose(parameters, first).float(),
            Self::GaussianMixture { components } => {
                let [logits, means, log_stds] = thirds(&parameters.unsqueeze_dim::<3>(1), components);
                let chosen = choose(logits.squeeze_dim(1), first);
                let [mean, log_std] =
                    [means, log_stds].map(|x| x.squeeze_dim::<2>(1).gather(1, chosen.clone()));
                // The uniforms of this key are spent; normals of the same words would go along with them.
                let spread: Tensor<2> = normal([batch, 1], key.at_step(key.step | 1 << 63), &device);
                mean + log_std.exp() * spread.cast(numbers.dtype())
            }
            Self::LogisticMixture { levels, components, channels } => {
                let parts = Logistics::new(&parameters.unsqueeze_dim::<3>(1), components, channels);
                let chosen = choose(parts.logits.clone().squeeze_dim(1), first).unsqueeze_dim::<3>(1);
                let mut values: Vec<Tensor<3>> = Vec::with_capacity(channels);
                for c in 0..channels {
                    let mean = parts.mean(c, &values).gather(2, chosen.clone());
                    let scale = parts.log_scales[c].clone().exp().gather(2, chosen.clone());
                    // Away from 0 and 1, where the logit is infinite.
                    let u = numbers.clone().narrow(1, 1 + c, 1).clamp(1e-5, 1.0 - 1e-5).unsqueeze_dim::<3>(1);
                    let logit = u.clone().log() - u.neg().add_scalar(1.0).log();
                    values.push((mean + scale * logit).clamp(-1.0, 1.0));
                }
                let last = (levels - 1) as f64;
                let values = Tensor::cat(values, 2).reshape([batch, channels]);
                values.add_scalar(1.0).mul_scalar(0.5 * last).round().clamp(0.0, last)
            }
        }
    }
}

/// The numbers of a mixture of logistics, apart.
struct Logistics {
    logits: Tensor<3>,
    means: Vec<Tensor<3>>,
    log_scales: Vec<Tensor<3>>,
    /// Green by red, blue by red, blue by green.
    weights: Vec<Tensor<3>>,
}

impl Logistics {
    fn new(parameters: &Tensor<3>, components: usize, channels: usize) -> Self {
        let part = |i: usize| parameters.clone().narrow(2, i * components, components);
        let pairs = channels * (channels - 1) / 2;
        Self {
            logits: part(0),
            means: (0..channels).map(|c| part(1 + 2 * c)).collect(),
            log_scales: (0..channels).map(|c| part(2 + 2 * c).clamp_min(LEAST_LOG_SCALE)).collect(),
            weights: (0..pairs).map(|pair| part(1 + 2 * channels + pair).tanh()).collect(),
        }
    }

    /// The means of channel `c`, whose earlier channels are `before`, `[batch, sites, 1]` each.
    fn mean(&self, c: usize, before: &[Tensor<3>]) -> Tensor<3> {
        let first = c * c.saturating_sub(1) / 2;
        let moves = before.iter().zip(&self.weights[first..]);
        moves.fold(self.means[c].clone(), |mean, (value, weight)| mean + value.clone() * weight.clone())
    }
}

/// log of what a logistic has in the bin of `x`, where the outermost bins reach to infinity.
fn log_bin(x: Tensor<3>, mean: Tensor<3>, log_scale: Tensor<3>, levels: usize) -> Tensor<3> {
    let half = 1.0 / (levels - 1) as f64;
    let inverse = log_scale.neg().exp();
    let above = (x.clone() + half - mean.clone()) * inverse.clone();
    let below = (x.clone() - half - mean) * inverse.clone();
    let width = inverse.mul_scalar(2.0 * half);
    let between = softplus(width.clone().neg()) + width.mul_scalar(0.5).tanh().log();
    // log sigmoid(above), log sigmoid(-below): at the ends one of them is the whole.
    let (up_to, from) = (softplus(above.neg()).neg(), softplus(below).neg());
    let components = up_to.dims()[2];
    let lowest = x.clone().lower_elem(half - 1.0).repeat_dim(2, components);
    let highest = x.greater_elem(1.0 - half).repeat_dim(2, components);
    let middle = up_to.clone() + from.clone() + between;
    middle.mask_where(lowest, up_to).mask_where(highest, from)
}

/// The first index whose cumulated probability is above `u`, `[batch, 1]`.
fn choose(logits: Tensor<2>, u: Tensor<2>) -> Tensor<2, Int> {
    let last = logits.dims()[1] as i64 - 1;
    // Rounding may leave the sum below u: then it is the last.
    softmax(logits, 1).cumsum(1).lower_equal(u).int().sum_dim(1).clamp_max(last)
}

/// log (1 + e^x), with no overflow. By an operation whose derivative is known at 0 too: where weights start at 0, every logit is.
fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    log_sigmoid(x.neg()).neg()
}

/// log sum exp over the last axis, which goes.
fn log_sum_exp(x: Tensor<3>) -> Tensor<2> {
    let [batch, sites, _] = x.dims();
    let most = x.clone().max_dim(2).detach();
    ((x - most.clone()).exp().sum_dim(2).log() + most).reshape([batch, sites])
}

fn thirds(parameters: &Tensor<3>, components: usize) -> [Tensor<3>; 3] {
    [0, 1, 2].map(|i| parameters.clone().narrow(2, i * components, components))
}
