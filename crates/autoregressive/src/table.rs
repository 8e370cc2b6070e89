//! The two ends of the scale: a table with a number for every possible past, and no past at all.
//!
//! ```text
//! FullTable      p(x_i = 1 | x_<i) = theta_i[x_<i]          2^0 + 2^1 + ... + 2^(n-1) = 2^n - 1 numbers: any distribution at all
//! Independent    p(x_i | x_<i)     = p_i                    n numbers; given a class it is naive Bayes
//! ```

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::config;
use crate::given::Given;
use crate::{AutoregressiveError, AutoregressiveModel, Family, Order};

/// The most variables that a [`FullTable`] is made for: 16 million numbers.
pub const MOST_TABLED: usize = 24;

/// Every distribution over n binary variables, by its 2^n - 1 free numbers; see the [module](self).
#[derive(Module, Debug)]
pub struct FullTable {
    /// The logits of x_i = 1: at `2^i - 1 + past`, where the past's first variable is its lowest bit.
    logits: Param<Tensor<1>>,
    #[module(skip)]
    order: Order,
}

impl FullTable {
    /// The uniform distribution over n variables.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`] beyond [`MOST_TABLED`] variables, or for none.
    pub fn new(order: Order, device: &Device) -> Result<Self, AutoregressiveError> {
        let n = order.len();
        if n == 0 || n > MOST_TABLED {
            return config(
                "order",
                format!("a table of {n} variables has 2^{n} - 1 numbers; expected 1 to {MOST_TABLED}"),
            );
        }
        Ok(Self { logits: Initializer::Zeros.init([(1 << n) - 1], device), order })
    }

    /// The distribution of the samples `x`, `[batch, n]`, by counting: theta = (ones + a) / (all + 2 a), in which a, the number of
    /// ones and zeros seen before any sample, is above 0.
    ///
    /// # Errors
    /// As [`new`](Self::new), those of [`crate::check`], and [`AutoregressiveError::Config`] for another a.
    pub fn fit(x: &Tensor<2>, order: Order, a: f64) -> Result<Self, AutoregressiveError> {
        if !(a > 0.0 && a.is_finite()) {
            return config("a", format!("is {a}; expected a number above 0"));
        }
        let device = x.device();
        let mut table = Self::new(order, &device)?;
        crate::check(&table, x, None)?;
        let rows: Vec<f32> = x.to_data().iter().collect();
        let mut counts = vec![[0.0_f64; 2]; (1 << table.order.len()) - 1];
        for row in rows.chunks_exact(table.order.len()) {
            let mut past = 0;
            for (place, &variable) in table.order.variables().iter().enumerate() {
                let one = usize::from(row[variable] == 1.0);
                counts[(1 << place) - 1 + past][one] += 1.0;
                past |= one << place;
            }
        }
        let logits: Vec<f32> =
            counts.iter().map(|[zeros, ones]| ((ones + a) / (zeros + a)).ln() as f32).collect();
        let logits = TensorData::new(logits, [counts.len()]);
        table.logits = Param::from_tensor(Tensor::from_data(logits, &device));
        Ok(table)
    }
}

impl AutoregressiveModel for FullTable {
    fn family(&self) -> Family {
        Family::Bernoulli
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        0
    }

    fn parameters(&self, x: Tensor<2>, _given: Option<Tensor<2>>) -> Tensor<3> {
        let [batch, n] = x.dims();
        let device = x.device();
        let places = self.order.places();
        // Where the numbers of a variable begin, and what each variable before it adds.
        let starts: Vec<i64> = places.iter().map(|place| (1 << place) - 1).collect();
        let starts = Tensor::<1, Int>::from_data(TensorData::new(starts, [n]), &device);
        let bit = |to: usize, from: usize| if from < to { 1_i64 << from } else { 0 };
        let bits: Vec<i64> =
            places.iter().flat_map(|&to| places.iter().map(move |&from| bit(to, from))).collect();
        let bits = Tensor::<2, Int>::from_data(TensorData::new(bits, [n, n]), &device);
        let past =
            (x.int().unsqueeze_dim::<3>(1) * bits.unsqueeze_dim::<3>(0)).sum_dim(2).squeeze_dim::<2>(2);
        let at = past + starts.unsqueeze_dim::<2>(0);
        self.logits.val().select(0, at.reshape([batch * n])).reshape([batch, n, 1])
    }
}

/// Configuration of an [`Independent`].
#[derive(Config, Debug)]
pub struct IndependentConfig {
    /// How many variables.
    pub variables: usize,
    /// The distribution of a variable.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// Independent variables: given a class, naive Bayes; see the [module](self).
#[derive(Module, Debug)]
pub struct Independent {
    bias: Param<Tensor<2>>,
    given: Given,
    #[module(skip)]
    family: Family,
    #[module(skip)]
    order: Order,
}

impl IndependentConfig {
    /// The model on `device`, all of whose numbers are 0.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`] of the family.
    pub fn init(&self, device: &Device) -> Result<Independent, AutoregressiveError> {
        let Self { variables, family, given } = *self;
        family.check()?;
        Ok(Independent {
            bias: Initializer::Zeros.init([variables, family.width()], device),
            given: Given::new(given, variables * family.width(), device),
            family,
            order: Order::natural(variables),
        })
    }
}

impl AutoregressiveModel for Independent {
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
        let bias = self.bias.val().reshape([1, n * width]).expand([batch, n * width]);
        self.given.add(bias, given.as_ref()).reshape([batch, n, width])
    }
}
