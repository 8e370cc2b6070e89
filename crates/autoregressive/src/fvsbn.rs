//! A chain of logistic regressions: the fully visible sigmoid belief network (Neal 1992; Frey et al. 1996).
//!
//! ```text
//! p(x_i = 1 | x_<i) = sigmoid(b_i + sum_{j < i} W_ij x_j)          n + n (n - 1) / 2 numbers for the table's 2^n - 1
//! ```

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::given::Given;
use crate::masks::{before, times_width};
use crate::{AutoregressiveError, AutoregressiveModel, Family, Order};

/// Configuration of an [`Fvsbn`].
#[derive(Config, Debug)]
pub struct FvsbnConfig {
    /// The order of the variables, and by it their number.
    pub order: Order,
    /// The distribution of a variable.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// A regression for each variable on those before it; see the [module](self).
#[derive(Module, Debug)]
pub struct Fvsbn {
    /// `[n, n width]`, of which those from a variable to itself or an earlier one are left out.
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    given: Given,
    #[module(skip)]
    family: Family,
    #[module(skip)]
    order: Order,
}

impl FvsbnConfig {
    /// The model on `device`, all of whose numbers are 0: the loss of the logistic chain is convex, and needs no other start.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`] of the family.
    pub fn init(&self, device: &Device) -> Result<Fvsbn, AutoregressiveError> {
        self.family.check()?;
        let (n, outputs) = (self.order.len(), self.order.len() * self.family.width());
        Ok(Fvsbn {
            weight: Initializer::Zeros.init([n, outputs], device),
            bias: Initializer::Zeros.init([outputs], device),
            given: Given::new(self.given, outputs, device),
            family: self.family,
            order: self.order.clone(),
        })
    }

    /// The number of numbers that are learnt; those of the mask are none.
    #[must_use]
    pub fn free_parameters(&self) -> usize {
        let n = self.order.len();
        self.family.width() * (n + n * n.saturating_sub(1) / 2 + self.given * n)
    }
}

impl AutoregressiveModel for Fvsbn {
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
        let ([batch, n], width) = (x.dims(), self.family.width());
        let (places, device) = (self.order.places(), x.device());
        let mask = before(places, &times_width(places, width), &device);
        let weight = self.weight.val() * mask;
        let y = self.family.input(x).matmul(weight) + self.bias.val().unsqueeze_dim::<2>(0);
        self.given.add(y, given.as_ref()).reshape([batch, n, width])
    }
}
