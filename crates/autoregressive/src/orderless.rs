//! One network for all orders: orderless NADE (Uria et al. 2014, "A Deep and Tractable Density Estimator").
//!
//! ```text
//! numbers of p(x_i | x_seen) = net([x * m, m])_i,    m_j = 1 where x_j is seen
//! loss = E over m:  n / (number not seen) * sum over i not seen of -log p(x_i | x_seen)
//! ```
//!
//! where the number seen is uniform on 0 .. n - 1 and which they are is too. That is the mean over all n! orders of -log p(x). A
//! single order costs a pass a variable; several orders of one network make an [`ensemble`](crate::ensemble).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, uniform, uniform_values};

use crate::error::config;
use crate::given::Given;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// Configuration of an [`OrderlessNade`].
#[derive(Config, Debug)]
pub struct OrderlessNadeConfig {
    /// The order that the model begins with.
    pub order: Order,
    /// The hidden layers' widths.
    pub hidden: Vec<usize>,
    /// The distribution of a variable.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// A network that is told which variables it sees; see the [module](self).
#[derive(Module, Debug)]
pub struct OrderlessNade {
    layers: Vec<Linear>,
    output: Linear,
    given: Given,
    #[module(skip)]
    family: Family,
    #[module(skip)]
    order: Order,
}

impl OrderlessNadeConfig {
    /// The model on `device`, as PyTorch starts linear layers.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<OrderlessNade, AutoregressiveError> {
        self.family.check()?;
        let n = self.order.len();
        let (Some(&first), Some(&last)) = (self.hidden.first(), self.hidden.last()) else {
            return config("hidden", "is empty; expected the width of one hidden layer at least");
        };
        if self.hidden.contains(&0) {
            return config("hidden", "has a layer of no units");
        }
        let inputs = std::iter::once(2 * n).chain(self.hidden.iter().copied());
        let layers = inputs.zip(&self.hidden);
        Ok(OrderlessNade {
            layers: layers.map(|(from, &to)| LinearConfig::new(from, to).init(device)).collect(),
            output: LinearConfig::new(last, n * self.family.width()).init(device),
            given: Given::new(self.given, first, device),
            family: self.family,
            order: self.order.clone(),
        })
    }
}

impl OrderlessNade {
    /// The same network in another order.
    ///
    /// # Errors
    /// [`AutoregressiveError::Length`] for an order of other variables.
    pub fn with_order(self, order: Order) -> Result<Self, AutoregressiveError> {
        let (found, expected) = (order.len(), self.order.len());
        if found == expected {
            Ok(Self { order, ..self })
        } else {
            Err(AutoregressiveError::Length { found, expected })
        }
    }

    /// The numbers of every variable's distribution, `[batch, n, width]`, as far as it follows from `x` where `seen` is 1.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>, seen: Tensor<2>, given: Option<&Tensor<2>>) -> Tensor<3> {
        let [batch, n] = x.dims();
        let input = Tensor::cat(vec![self.family.input(x) * seen.clone(), seen], 1);
        let mut h = self.given.add(self.layers[0].forward(input), given);
        for layer in &self.layers[1..] {
            h = layer.forward(relu(h));
        }
        self.output.forward(relu(h)).reshape([batch, n, self.family.width()])
    }
}

/// Rows of one pass in [`OrderlessNade::parameters`].
const ROWS: usize = 4096;

impl AutoregressiveModel for OrderlessNade {
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
        let ([batch, n], device) = (x.dims(), x.device());
        let (width, places) = (self.family.width(), self.order.places());
        let at_once = (ROWS / batch.max(1)).clamp(1, n);
        let sites: Vec<usize> = (0..n).collect();
        let passes = sites.chunks(at_once).map(|sites| {
            let rows = sites.len() * batch;
            let repeat = |x: Tensor<2>| {
                let [_, columns] = x.dims();
                x.unsqueeze_dim::<3>(0).expand([sites.len(), batch, columns]).reshape([rows, columns])
            };
            let seen = crate::masks::before(
                places,
                &sites.iter().map(|&site| places[site]).collect::<Vec<_>>(),
                &device,
            );
            let seen =
                seen.transpose().unsqueeze_dim::<3>(1).expand([sites.len(), batch, n]).reshape([rows, n]);
            let all = self.forward(repeat(x.clone()), seen, given.clone().map(repeat).as_ref());
            let all = all.reshape([sites.len(), batch, n * width]);
            let own = sites
                .iter()
                .enumerate()
                .map(|(i, &site)| all.clone().narrow(0, i, 1).narrow(2, site * width, width).swap_dims(0, 1));
            Tensor::cat(own.collect(), 1)
        });
        Tensor::cat(passes.collect(), 1)
    }

    fn loss(&self, x: Tensor<2>, given: Option<Tensor<2>>, key: NoiseKey) -> Tensor<1> {
        let ([batch, n], device) = (x.dims(), x.device());
        let counts = uniform_values(batch, key.at_step(key.step | 1 << 62));
        let counts: Vec<usize> = counts.into_iter().map(|u| (f64::from(u) * n as f64) as usize).collect();
        // A variable is seen if it is among the first of a shuffle: the rank of its uniform is below the count.
        let keys: Tensor<2> = uniform([batch, n], key, &device);
        let ranks = keys.argsort(1).argsort(1);
        let column = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [batch, 1]), &device);
        let seen = ranks
            .float()
            .lower(column(counts.iter().map(|&count| count as f32).collect()).expand([batch, n]));
        let seen = seen.float().cast(x.dtype());
        let weights = counts.iter().map(|&count| n as f32 / (n - count) as f32);
        let hidden = seen.clone().neg().add_scalar(1.0) * column(weights.collect());
        let each = self.family.log_prob(self.forward(x.clone(), seen, given.as_ref()), x);
        (each * hidden).sum().div_scalar(batch as f64).neg()
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let x = Tensor::zeros([batch, self.order.len()], &crate::model::device(self));
        Box::new(OrderlessDecoder { nade: self, seen: x.clone(), x, given, place: 0 })
    }
}

/// One pass for one variable.
struct OrderlessDecoder<'a> {
    nade: &'a OrderlessNade,
    x: Tensor<2>,
    seen: Tensor<2>,
    given: Option<Tensor<2>>,
    place: usize,
}

impl Decoder for OrderlessDecoder<'_> {
    fn next(&mut self) -> Tensor<2> {
        let site = self.nade.order.variables()[self.place];
        let all = self.nade.forward(self.x.clone(), self.seen.clone(), self.given.as_ref());
        all.narrow(1, site, 1).squeeze_dim(1)
    }

    fn push(&mut self, value: Tensor<2>) {
        let site = self.nade.order.variables()[self.place];
        let at = [0..value.dims()[0], site..site + 1];
        self.seen = self.seen.clone().slice_assign(at.clone(), value.ones_like());
        self.x = self.x.clone().slice_assign(at, value);
        self.place += 1;
    }
}
