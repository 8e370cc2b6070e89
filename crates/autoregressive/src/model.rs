//! What every model here can do.
//!
//! ```text
//! p(x) = prod_i p(x_i | x_<i),        log p(x) = sum_i log p(x_i | x_<i)
//! ```
//!
//! in which `<` is the model's [`Order`]. A network gives the numbers of all n conditionals in one pass over a known x; its
//! [`Family`] says what they mean. To draw, the conditionals are asked for one after the other, by a [`Decoder`].

use std::f64::consts::LN_2;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_backend::noise::NoiseKey;

use crate::{AutoregressiveError, Family, Order};

/// A product of conditionals; see the [module](self).
///
/// Samples are `[batch, variables]`, pictures `[channels, height, width]` flattened. `given` is what every conditional is told
/// besides, `[batch, given]`, mostly a class as one-hot: p(x | y).
pub trait AutoregressiveModel: Module {
    /// The distribution of a site.
    fn family(&self) -> Family;

    /// The order of the sites: the variables, or the pixels where a [`Family`] has several variables a site.
    fn order(&self) -> &Order;

    /// The number of numbers that a sample is given with; 0 for none.
    fn given(&self) -> usize;

    /// The parameters of each site's conditional, `[batch, sites, width]`: those of site i depend on x at sites before i in the
    /// order only. `x` is not checked.
    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3>;

    /// What training minimises, one number: the mean of -log p in nats, or where a model learns many orders at once an
    /// estimate of it, drawn by `key`. `x` is not checked.
    fn loss(&self, x: Tensor<2>, given: Option<Tensor<2>>, key: NoiseKey) -> Tensor<1> {
        let _ = key;
        let batch = x.dims()[0];
        let each = self.family().log_prob(self.parameters(x.clone(), given), x);
        each.sum().div_scalar(batch as f64).neg()
    }

    /// The conditionals one by one. Where a model keeps nothing of what it has seen, each costs a pass over all.
    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        Box::new(Replay::new(self, batch, given))
    }

    /// The number of sites.
    fn sites(&self) -> usize {
        self.order().len()
    }

    /// The number of variables.
    fn variables(&self) -> usize {
        self.sites() * self.family().channels()
    }

    /// log p of each site given those before it, `[batch, sites]` in nats.
    ///
    /// # Errors
    /// Those of [`check`].
    fn conditionals(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Result<Tensor<2>, AutoregressiveError> {
        check(self, &x, given.as_ref())?;
        Ok(self.family().log_prob(self.parameters(x.clone(), given), x))
    }

    /// log p of each sample, `[batch]` in nats.
    ///
    /// # Errors
    /// Those of [`check`].
    fn log_prob(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Result<Tensor<1>, AutoregressiveError> {
        Ok(self.conditionals(x, given)?.sum_dim(1).squeeze_dim(1))
    }

    /// New samples, `[count, variables]`: row `i` is a function of the key at sample `key.sample + i`.
    ///
    /// # Errors
    /// [`AutoregressiveError::Given`].
    fn sample(
        &self,
        count: usize,
        given: Option<Tensor<2>>,
        key: NoiseKey,
    ) -> Result<Tensor<2>, AutoregressiveError> {
        check_given(self, given.as_ref())?;
        let mut decoder = self.decoder(count, given);
        Ok(drive(self, decoder.as_mut(), None, count, key))
    }

    /// Samples that agree with `x` at the sites that are `known`, the others drawn given what is known before them in the order:
    /// draws from p(rest | known) if all that is known comes first.
    ///
    /// # Errors
    /// [`AutoregressiveError::Length`], [`AutoregressiveError::Given`].
    fn complete(
        &self,
        x: Tensor<2>,
        known: &[bool],
        given: Option<Tensor<2>>,
        key: NoiseKey,
    ) -> Result<Tensor<2>, AutoregressiveError> {
        check_given(self, given.as_ref())?;
        for (found, expected) in [(x.dims()[1], self.variables()), (known.len(), self.sites())] {
            if found != expected {
                return Err(AutoregressiveError::Length { found, expected });
            }
        }
        let count = x.dims()[0];
        let mut decoder = self.decoder(count, given);
        Ok(drive(self, decoder.as_mut(), Some((x, known)), count, key))
    }
}

/// The conditionals of one batch, one after the other.
pub trait Decoder {
    /// The parameters of the next site's conditional, `[batch, width]`.
    fn next(&mut self) -> Tensor<2>;

    /// What that site is, `[batch, channels]`.
    fn push(&mut self, value: Tensor<2>);
}

/// The least that a decoder can do: the whole pass again for each site.
#[derive(Debug)]
pub struct Replay<'a, M> {
    model: &'a M,
    /// `[batch, channels, sites]`.
    x: Tensor<3>,
    given: Option<Tensor<2>>,
    place: usize,
}

impl<'a, M: AutoregressiveModel> Replay<'a, M> {
    /// Before the first site of `batch` samples.
    #[must_use]
    pub fn new(model: &'a M, batch: usize, given: Option<Tensor<2>>) -> Self {
        let x = Tensor::zeros([batch, model.family().channels(), model.sites()], &device(model));
        Self { model, x, given, place: 0 }
    }
}

impl<M: AutoregressiveModel> Decoder for Replay<'_, M> {
    fn next(&mut self) -> Tensor<2> {
        let site = self.model.order().variables()[self.place];
        let x: Tensor<2> = self.x.clone().flatten(1, 2);
        self.model.parameters(x, self.given.clone()).narrow(1, site, 1).squeeze_dim(1)
    }

    fn push(&mut self, value: Tensor<2>) {
        let site = self.model.order().variables()[self.place];
        let [batch, channels, _] = self.x.dims();
        let (all, value) = (self.x.clone(), value.unsqueeze_dim::<3>(2));
        self.x = all.slice_assign([0..batch, 0..channels, site..site + 1], value);
        self.place += 1;
    }
}

/// Goes through the sites in order: what is known is pushed, what is not is drawn.
fn drive<M: AutoregressiveModel>(
    model: &M,
    decoder: &mut dyn Decoder,
    known: Option<(Tensor<2>, &[bool])>,
    count: usize,
    key: NoiseKey,
) -> Tensor<2> {
    let (family, order) = (model.family(), model.order());
    let (channels, sites) = (family.channels(), order.len());
    let known = known.map(|(x, known)| (x.reshape([count, channels, sites]), known));
    let mut values: Vec<Tensor<3>> = Vec::with_capacity(sites);
    for (place, &site) in order.variables().iter().enumerate() {
        let value = match &known {
            Some((x, known)) if known[site] => x.clone().narrow(2, site, 1).squeeze_dim(2),
            _ => family.draw(decoder.next(), key.at_step(place as u64)),
        };
        decoder.push(value.clone());
        values.push(value.unsqueeze_dim(2));
    }
    // They lie in the order of drawing.
    let values = order.places().iter().map(|&place| values[place].clone()).collect();
    Tensor::cat(values, 2).flatten(1, 2)
}

/// Whether samples are such as the model is of: every value is looked at, on the host.
///
/// # Errors
/// [`AutoregressiveError::Length`], [`AutoregressiveError::Value`], [`AutoregressiveError::Given`].
pub fn check<M: AutoregressiveModel>(
    model: &M,
    x: &Tensor<2>,
    given: Option<&Tensor<2>>,
) -> Result<(), AutoregressiveError> {
    let (found, expected) = (x.dims()[1], model.variables());
    if found != expected {
        return Err(AutoregressiveError::Length { found, expected });
    }
    check_given(model, given)?;
    let values = model.family().values();
    let data = x.to_data();
    match data.iter::<f32>().position(|value| !values.contain(value)) {
        None => Ok(()),
        Some(at) => {
            let value = data.iter::<f32>().nth(at).unwrap_or(f32::NAN);
            let (row, variable) = (at / expected, at % expected);
            Err(AutoregressiveError::Value { row, variable, value, expected: values })
        }
    }
}

fn check_given<M: AutoregressiveModel>(
    model: &M,
    given: Option<&Tensor<2>>,
) -> Result<(), AutoregressiveError> {
    let (found, expected) = (given.map_or(0, |given| given.dims()[1]), model.given());
    if found == expected { Ok(()) } else { Err(AutoregressiveError::Given { found, expected }) }
}

/// log p under several models, each as good as the others: log (1/m sum_j p_j(x)), from their `[batch]` each. So one network that
/// knows many orders makes an ensemble.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn ensemble(log_probs: &[Tensor<1>]) -> Tensor<1> {
    let each: Tensor<2> = Tensor::stack(log_probs.to_vec(), 0);
    let most = each.clone().max_dim(0);
    let mean = (each - most.clone()).exp().mean_dim(0).log() + most;
    mean.squeeze_dim(0)
}

/// Nats of a sample as bits a variable.
#[must_use]
pub fn bits_per_dimension(nats: f64, variables: usize) -> f64 {
    nats / (LN_2 * variables as f64)
}

/// The device of a model, which has parameters.
pub(crate) fn device<M: Module>(model: &M) -> Device {
    model.devices().into_iter().next().unwrap_or_default()
}
