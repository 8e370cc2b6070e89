//! A recurrent network over the variables: an LSTM, whose state is all that it knows of what came before.
//!
//! ```text
//! s_i, c_i = LSTM(W [x_{i-1}, i = 1] + U s_{i-1} + V y + b, c_{i-1}),      numbers of p(x_i | x_<i) = A s_i + a
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{after, first, one_late};
use crate::error::config;
use crate::given::Given;
use crate::lstm::lstm;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// Configuration of a [`Recurrent`].
#[derive(Config, Debug)]
pub struct RecurrentConfig {
    /// The order of the variables, and by it their number.
    pub order: Order,
    /// Width of the state.
    pub hidden: usize,
    /// Layers, each reading the states of the one below.
    #[config(default = 1)]
    pub layers: usize,
    /// The distribution of a variable.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// LSTMs; see the [module](self).
#[derive(Module, Debug)]
pub struct Recurrent {
    layers: Vec<Layer>,
    given: Given,
    output: Linear,
    #[module(skip)]
    family: Family,
    #[module(skip)]
    order: Order,
}

#[derive(Module, Debug)]
struct Layer {
    input: Linear,
    state: Linear,
}

/// A layer's state and cell; none before the first variable.
type Memory = Option<[Tensor<2>; 2]>;

impl RecurrentConfig {
    /// The model on `device`, as PyTorch starts linear layers.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<Recurrent, AutoregressiveError> {
        self.family.check()?;
        let Self { hidden, layers, given, .. } = *self;
        if hidden == 0 || layers == 0 {
            return config(if hidden == 0 { "hidden" } else { "layers" }, "is 0");
        }
        let layer = |index| Layer {
            input: LinearConfig::new(if index == 0 { 2 } else { hidden }, 4 * hidden).init(device),
            state: LinearConfig::new(hidden, 4 * hidden).with_bias(false).init(device),
        };
        Ok(Recurrent {
            layers: (0..layers).map(layer).collect(),
            given: Given::new(given, 4 * hidden, device),
            output: LinearConfig::new(hidden, self.family.width()).init(device),
            family: self.family,
            order: self.order.clone(),
        })
    }
}

impl Layer {
    /// The new state, and with its cell what is kept.
    fn step(&self, gates: Tensor<2>, memory: &mut Memory) -> Tensor<2> {
        let (gates, cell) = match memory.take() {
            Some([state, cell]) => (gates + self.state.forward(state), Some(cell)),
            None => (gates, None),
        };
        let new = lstm(&gates, cell);
        let state = new[0].clone();
        *memory = Some(new);
        state
    }
}

impl AutoregressiveModel for Recurrent {
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
        let x = one_late(self.order.by_place(self.family.input(x), 1));
        // Place by place from the start: the gradient of a slice is as large as what it was cut from, so that one tensor with the
        // gates of all places would cost the square of their number.
        let mut steps: Vec<Tensor<2>> = x.split(1, 1).into_iter().map(|x| x.squeeze_dim(1)).collect();
        for (index, layer) in self.layers.iter().enumerate() {
            let given = self.given.of(given.as_ref()).filter(|_| index == 0);
            let mut memory = Memory::None;
            let step = |h| {
                let gates = layer.input.forward(h);
                let gates = match &given {
                    Some(given) => gates + given.clone(),
                    None => gates,
                };
                layer.step(gates, &mut memory)
            };
            steps = steps.into_iter().map(step).collect();
        }
        let h: Tensor<3> = Tensor::stack(steps, 1);
        self.order.by_variable(self.output.forward(h), 1)
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let like = self.output.weight.val();
        Box::new(RecurrentDecoder {
            network: self,
            memories: vec![None; self.layers.len()],
            given: self.given.of(given.as_ref()),
            read: first(batch, &like),
            numbers: None,
        })
    }
}

/// A step of the states for each variable.
struct RecurrentDecoder<'a> {
    network: &'a Recurrent,
    memories: Vec<Memory>,
    given: Option<Tensor<2>>,
    /// What is read at this place.
    read: Tensor<2>,
    /// What it led to, if it was asked for.
    numbers: Option<Tensor<2>>,
}

impl Decoder for RecurrentDecoder<'_> {
    fn next(&mut self) -> Tensor<2> {
        let mut h = self.read.clone();
        for (index, (layer, memory)) in self.network.layers.iter().zip(&mut self.memories).enumerate() {
            let mut gates = layer.input.forward(h);
            if let Some(given) = self.given.clone().filter(|_| index == 0) {
                gates = gates + given;
            }
            h = layer.step(gates, memory);
        }
        let numbers = self.network.output.forward(h);
        self.numbers = Some(numbers.clone());
        numbers
    }

    fn push(&mut self, value: Tensor<2>) {
        if self.numbers.take().is_none() {
            // Known, and not asked for: the states move on all the same.
            self.next();
            self.numbers = None;
        }
        self.read = after(&self.network.family.input(value));
    }
}
