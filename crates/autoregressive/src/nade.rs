//! The neural autoregressive distribution estimator (Larochelle & Murray 2011), and for real values RNADE (Uria et al. 2013).
//!
//! ```text
//! a_1 = c,    h_i = act(a_i),    numbers of p(x_i | x_<i) = V_i h_i + b_i,    a_{i+1} = a_i + W_i x_i
//! ```
//!
//! All hidden layers share W, so that each is the last one and one product more: a sample costs O(n d), to score it and to draw it.
//! RNADE has rectified units, h_i = max(0, rho_i a_i), with rho_i learnt since a_i grows with i, and a mixture of normal
//! distributions for each x_i.
//!
//! A pass over known x does what is the same in another order: the variables come in blocks of T; a_i is what the blocks before
//! i's add, and what in its own block stands before it. Both are matrix products, O(n T d) in place of O(n d) but for all i at once.

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::config;
use crate::given::Given;
use crate::masks::before;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// What the hidden units of a [`Nade`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NadeUnits {
    /// sigmoid(a), as NADE's.
    Sigmoid,
    /// max(0, rho_i a), as RNADE's.
    Rectified,
}

/// Configuration of a [`Nade`].
#[derive(Config, Debug)]
pub struct NadeConfig {
    /// The order of the variables, and by it their number.
    pub order: Order,
    /// d: hidden units.
    pub hidden: usize,
    /// The distribution of a variable; RNADE's is a mixture of normal ones.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// What the hidden units are.
    #[config(default = "NadeUnits::Sigmoid")]
    pub units: NadeUnits,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// A chain of hidden layers that share their weights; see the [module](self).
#[derive(Module, Debug)]
pub struct Nade {
    /// W and c, from all n variables.
    encoder: Linear,
    /// V, `[n, d, width]`, by variable.
    decoder: Param<Tensor<3>>,
    /// b, `[n, width]`.
    bias: Param<Tensor<2>>,
    /// rho, `[n]`, by variable.
    scale: Option<Param<Tensor<1>>>,
    given: Given,
    #[module(skip)]
    family: Family,
    #[module(skip)]
    order: Order,
}

impl NadeConfig {
    /// RNADE: rectified units and a mixture of so many normal distributions.
    #[must_use]
    pub fn real(order: Order, hidden: usize, components: usize) -> Self {
        Self::new(order, hidden)
            .with_family(Family::GaussianMixture { components })
            .with_units(NadeUnits::Rectified)
    }

    /// The model on `device`: W as PyTorch starts a linear layer, V uniform within 1 / sqrt(d).
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<Nade, AutoregressiveError> {
        self.family.check()?;
        if self.hidden == 0 {
            return config("hidden", "is 0, and with no hidden unit nothing is seen");
        }
        let (n, d, width) = (self.order.len(), self.hidden, self.family.width());
        let bound = 1.0 / (d as f64).sqrt();
        let scale = match self.units {
            NadeUnits::Sigmoid => None,
            // 1 / (number of terms of a_i).
            NadeUnits::Rectified => {
                let scales: Vec<f32> =
                    self.order.places().iter().map(|place| 1.0 / (1 + place) as f32).collect();
                Some(Param::from_data(scales.as_slice(), device))
            }
        };
        Ok(Nade {
            encoder: LinearConfig::new(n, d).init(device),
            decoder: Initializer::Uniform { min: -bound, max: bound }.init([n, d, width], device),
            bias: Initializer::Zeros.init([n, width], device),
            scale,
            given: Given::new(self.given, d, device),
            family: self.family,
            order: self.order.clone(),
        })
    }
}

impl Nade {
    /// c and what is given: a of the first variable, `[batch or 1, d]`.
    fn start(&self, given: Option<&Tensor<2>>) -> Tensor<2> {
        let [_, d] = self.encoder.weight.dims();
        let bias = self.encoder.bias.as_ref().map(Param::val);
        let bias = bias.unwrap_or_else(|| Tensor::zeros([d], &self.encoder.weight.device()));
        let bias = bias.unsqueeze_dim::<2>(0);
        match self.given.of(given) {
            Some(given) => bias + given,
            None => bias,
        }
    }

    /// act(rho a).
    fn activate<const D: usize>(&self, a: Tensor<D>, scale: Option<Tensor<D>>) -> Tensor<D> {
        match scale {
            None => sigmoid(a),
            Some(scale) => relu(a * scale),
        }
    }

    /// a of every variable, `[n, batch, d]` by places, from x in order, `[batch, n]`.
    fn accumulate(&self, x: Tensor<2>, weight: Tensor<2>, start: Tensor<2>) -> Tensor<3> {
        let ([batch, n], [_, d], device) = (x.dims(), weight.dims(), x.device());
        let block = (n as f64).sqrt().ceil() as usize;
        let blocks = n.div_ceil(block);
        let short = blocks * block - n;
        let x = x.pad((0, short, 0, 0), 0.0).reshape([batch, blocks, block]).swap_dims(0, 1);
        let weight = weight.pad((0, 0, 0, short), 0.0).reshape([blocks, block, d]);
        // What each block adds, and the sum of those before it.
        let sums = x.clone().matmul(weight.clone());
        let earlier = sums.clone().cumsum(0) - sums + start.unsqueeze_dim::<3>(0);
        // In a block: x for each of its variables, with that one and all after it hidden.
        let places: Vec<usize> = (0..block).collect();
        let seen = before(&places, &places, &device).transpose().reshape([1, block, 1, block]);
        let x = x.unsqueeze_dim::<4>(1) * seen;
        let within = x.reshape([blocks, block * batch, block]).matmul(weight);
        let a = within.reshape([blocks, block, batch, d]) + earlier.unsqueeze_dim::<4>(1);
        a.reshape([blocks * block, batch, d]).narrow(0, 0, n)
    }

    /// The numbers of all conditionals, by places, `[n, batch, width]`.
    fn numbers(&self, a: Tensor<3>) -> Tensor<3> {
        let ([n, _, _], order) = (a.dims(), &self.order);
        let scale = self.scale.as_ref().map(|scale| order.by_place(scale.val(), 0).reshape([n, 1, 1]));
        let h = self.activate(a, scale);
        h.matmul(order.by_place(self.decoder.val(), 0))
            + order.by_place(self.bias.val(), 0).unsqueeze_dim::<3>(1)
    }
}

impl AutoregressiveModel for Nade {
    fn family(&self) -> Family {
        self.family
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.given.width()
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        let x = self.order.by_place(self.family.input(x), 1);
        let weight = self.order.by_place(self.encoder.weight.val(), 0);
        let a = self.accumulate(x, weight, self.start(given.as_ref()));
        let numbers = self.numbers(a).swap_dims(0, 1);
        self.order.by_variable(numbers, 1)
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let d = self.encoder.weight.dims()[1];
        let a = self.start(given.as_ref()).expand([batch, d]);
        Box::new(NadeDecoder { nade: self, a, place: 0 })
    }
}

/// The recursion itself: O(d) a variable.
struct NadeDecoder<'a> {
    nade: &'a Nade,
    a: Tensor<2>,
    place: usize,
}

impl NadeDecoder<'_> {
    fn variable(&self) -> usize {
        self.nade.order.variables()[self.place]
    }
}

impl Decoder for NadeDecoder<'_> {
    fn next(&mut self) -> Tensor<2> {
        let (nade, i) = (self.nade, self.variable());
        let scale = nade.scale.as_ref().map(|scale| scale.val().narrow(0, i, 1).unsqueeze_dim::<2>(0));
        let h = nade.activate(self.a.clone(), scale);
        h.matmul(nade.decoder.val().narrow(0, i, 1).squeeze_dim(0)) + nade.bias.val().narrow(0, i, 1)
    }

    fn push(&mut self, value: Tensor<2>) {
        let weight = self.nade.encoder.weight.val().narrow(0, self.variable(), 1);
        self.a = self.a.clone() + self.nade.family.input(value) * weight;
        self.place += 1;
    }
}
