//! An autoencoder made autoregressive by masks (Germain et al. 2015, "MADE").
//!
//! ```text
//! h_l = relu(b + (W_l * M_l) h_{l-1}),      numbers = c + (V * M_V) h_L + (A * M_A) x
//! M_l[k, j] = degree_k >= degree_j,         M_V[i, k] = place_i > degree_k,         M_A[i, j] = place_i > place_j
//! ```
//!
//! An input's degree is its place in the order, counted from 1, and a hidden unit of degree m sees inputs of places up to m only: so
//! no path leads from a variable to itself or to one before it, whatever the degrees are. A plain autoencoder has all masks at 1: its
//! outputs see what they are to predict, and their product is no distribution.
//!
//! Masks are a [`Wiring`], of which a model may have many and learn under each in turn (order-agnostic and connectivity-agnostic
//! training); under each of them it is another right model, and together they are an [`ensemble`](crate::ensemble).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, uniform_values};
use serde::{Deserialize, Serialize};

use crate::error::config;
use crate::given::Given;
use crate::masks::{before, times_width, up_to};
use crate::{AutoregressiveError, AutoregressiveModel, Family, Order};

/// An order of the variables, and the degrees of the hidden units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The order.
    pub order: Order,
    /// The seed by which degrees are drawn; without it they are spread evenly.
    pub degrees: Option<u64>,
}

impl Wiring {
    /// Evenly spread degrees.
    #[must_use]
    pub fn even(order: Order) -> Self {
        Self { order, degrees: None }
    }

    /// `count` wirings of `n` variables, each of an order and degrees of its own.
    #[must_use]
    pub fn agnostic(n: usize, count: usize, seed: u64) -> Vec<Self> {
        let seeds = (0..count as u64).map(|i| seed.wrapping_add(i));
        seeds.map(|seed| Self { order: Order::shuffled(n, seed), degrees: Some(seed) }).collect()
    }

    /// The degrees of each hidden layer: from the least of the layer before, so that every unit sees something, to n - 1.
    fn hidden(&self, widths: &[usize]) -> Vec<Vec<usize>> {
        let most = self.order.len() - 1;
        let mut least = 1;
        let layers = widths.iter().zip(1..).map(|(&width, layer)| {
            let span = most - least + 1;
            let degrees: Vec<usize> = match self.degrees {
                // As many of one as of the other, the least and the largest among them.
                None => (0..width).map(|unit| least + unit * span / width).collect(),
                Some(seed) => {
                    let uniforms = uniform_values(width, NoiseKey::new(seed).at_step(layer));
                    uniforms.into_iter().map(|u| least + (f64::from(u) * span as f64) as usize).collect()
                }
            };
            least = degrees.iter().copied().min().unwrap_or(least);
            degrees
        });
        layers.collect()
    }
}

/// Configuration of a [`Made`].
#[derive(Config, Debug)]
pub struct MadeConfig {
    /// The wirings that it is trained under; the first is the one it is read under.
    pub wirings: Vec<Wiring>,
    /// The hidden layers' widths.
    pub hidden: Vec<usize>,
    /// The distribution of a variable.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// Whether inputs reach outputs also past the hidden layers.
    #[config(default = "DirectLinks::None")]
    pub direct: DirectLinks,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// Whether a [`Made`]'s inputs reach its outputs also past the hidden layers: what an FVSBN is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectLinks {
    /// They do not.
    None,
    /// They do.
    Masked,
}

/// A masked autoencoder; see the [module](self).
#[derive(Module, Debug)]
pub struct Made {
    layers: Vec<Linear>,
    output: Linear,
    direct: Option<Linear>,
    given_hidden: Given,
    given_output: Given,
    #[module(skip)]
    wirings: Vec<Wiring>,
    #[module(skip)]
    family: Family,
}

impl MadeConfig {
    /// The model on `device`, as PyTorch starts linear layers.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`], [`AutoregressiveError::Length`] for wirings of different lengths.
    pub fn init(&self, device: &Device) -> Result<Made, AutoregressiveError> {
        self.family.check()?;
        let Some(n) = self.wirings.first().map(|wiring| wiring.order.len()) else {
            return config("wirings", "is empty; expected one order at least");
        };
        if let Some(other) = self.wirings.iter().find(|wiring| wiring.order.len() != n) {
            return Err(AutoregressiveError::Length { found: other.order.len(), expected: n });
        }
        if n < 2 {
            return config(
                "wirings",
                format!("is of {n} variables; hidden units stand between two at least"),
            );
        }
        let (Some(&first), Some(&last)) = (self.hidden.first(), self.hidden.last()) else {
            return config("hidden", "is empty; expected the width of one hidden layer at least");
        };
        if self.hidden.contains(&0) {
            return config("hidden", "has a layer of no units");
        }
        let outputs = n * self.family.width();
        let inputs = std::iter::once(n).chain(self.hidden.iter().copied());
        let direct = || LinearConfig::new(n, outputs).with_bias(false).init(device);
        Ok(Made {
            layers: inputs
                .zip(&self.hidden)
                .map(|(from, &to)| LinearConfig::new(from, to).init(device))
                .collect(),
            output: LinearConfig::new(last, outputs).init(device),
            direct: (self.direct == DirectLinks::Masked).then(direct),
            given_hidden: Given::new(self.given, first, device),
            given_output: Given::new(self.given, outputs, device),
            wirings: self.wirings.clone(),
            family: self.family,
        })
    }
}

impl Made {
    /// The wirings that it has; the first is the one it is read under.
    #[must_use]
    pub fn wirings(&self) -> &[Wiring] {
        &self.wirings
    }

    /// The same weights, read under another wiring.
    ///
    /// # Errors
    /// [`AutoregressiveError::Length`] for an order of other variables.
    pub fn with_wiring(self, wiring: Wiring) -> Result<Self, AutoregressiveError> {
        let (found, expected) = (wiring.order.len(), self.order().len());
        if found != expected {
            return Err(AutoregressiveError::Length { found, expected });
        }
        let mut wirings = self.wirings.clone();
        wirings.retain(|other| *other != wiring);
        wirings.insert(0, wiring);
        Ok(Self { wirings, ..self })
    }

    fn forward(&self, x: Tensor<2>, given: Option<&Tensor<2>>, wiring: &Wiring) -> Tensor<3> {
        let ([batch, n], width, device) = (x.dims(), self.family.width(), x.device());
        // Degrees of inputs count from 1, places from 0.
        let inputs: Vec<usize> = wiring.order.places().iter().map(|place| place + 1).collect();
        let outputs = times_width(&inputs, width);
        let widths: Vec<usize> = self.layers.iter().map(|layer| layer.weight.dims()[1]).collect();
        let x = self.family.input(x);
        let (mut h, mut degrees) = (x.clone(), inputs.clone());
        for (index, (layer, next)) in self.layers.iter().zip(wiring.hidden(&widths)).enumerate() {
            h = masked(layer, h, up_to(&degrees, &next, &device));
            h = relu(if index == 0 { self.given_hidden.add(h, given) } else { h });
            degrees = next;
        }
        let mut y = masked(&self.output, h, before(&degrees, &outputs, &device));
        if let Some(direct) = &self.direct {
            y = y + masked(direct, x, before(&inputs, &outputs, &device));
        }
        self.given_output.add(y, given).reshape([batch, n, width])
    }
}

/// A linear layer some of whose weights are left out.
fn masked(layer: &Linear, x: Tensor<2>, mask: Tensor<2>) -> Tensor<2> {
    let y = x.matmul(layer.weight.val() * mask);
    match &layer.bias {
        Some(bias) => y + bias.val().unsqueeze_dim::<2>(0),
        None => y,
    }
}

impl AutoregressiveModel for Made {
    fn family(&self) -> Family {
        self.family
    }

    fn order(&self) -> &Order {
        &self.wirings[0].order
    }

    fn given(&self) -> usize {
        self.given_hidden.width()
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        self.forward(x, given.as_ref(), &self.wirings[0])
    }

    /// Under one of the wirings, by chance.
    fn loss(&self, x: Tensor<2>, given: Option<Tensor<2>>, key: NoiseKey) -> Tensor<1> {
        let count = self.wirings.len();
        let chosen = (f64::from(uniform_values(1, key)[0]) * count as f64) as usize;
        let batch = x.dims()[0];
        let numbers = self.forward(x.clone(), given.as_ref(), &self.wirings[chosen]);
        self.family.log_prob(numbers, x).sum().div_scalar(batch as f64).neg()
    }
}
