//! What a sample is given with, mostly a class as one-hot: added to what a layer gives.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// A linear map of what is given; of nothing, where nothing is.
#[derive(Module, Debug)]
pub(crate) struct Given {
    linear: Option<Linear>,
}

impl Given {
    /// From `given` numbers to `outputs`.
    pub(crate) fn new(given: usize, outputs: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(given, outputs).with_bias(false).init(device);
        Self { linear: (given > 0).then(linear) }
    }

    /// The number of numbers that it takes.
    pub(crate) fn width(&self) -> usize {
        self.linear.as_ref().map_or(0, |linear| linear.weight.dims()[0])
    }

    /// `x`, `[batch, outputs]`, and what is given.
    pub(crate) fn add(&self, x: Tensor<2>, given: Option<&Tensor<2>>) -> Tensor<2> {
        match self.of(given) {
            Some(y) => x + y,
            None => x,
        }
    }

    /// The map of what is given alone, `[batch, outputs]`.
    pub(crate) fn of(&self, given: Option<&Tensor<2>>) -> Option<Tensor<2>> {
        self.linear.as_ref().zip(given).map(|(linear, given)| linear.forward(given.clone()))
    }
}
