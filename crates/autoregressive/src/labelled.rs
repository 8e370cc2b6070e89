//! A class as one more variable, the first of all: p(x, y) = p(y) p(x | y), and by Bayes a classifier.
//!
//! ```text
//! p(y | x) = p(y) p(x | y) / sum_k p(k) p(x | k),        p(y) = softmax(prior)_y
//! ```

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use kiln_backend::noise::NoiseKey;

use crate::error::config;
use crate::{AutoregressiveError, AutoregressiveModel, Family};

/// A model of samples and their classes; see the [module](self).
#[derive(Module, Debug)]
pub struct Labelled<M: Module> {
    prior: Param<Tensor<1>>,
    model: M,
}

impl<M: AutoregressiveModel> Labelled<M> {
    /// A model that is given with a class as one-hot, and all classes as likely as each other.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`] for a model that is given with nothing.
    pub fn new(model: M, device: &Device) -> Result<Self, AutoregressiveError> {
        match model.given() {
            0 => {
                config("given", "is 0; a model of classes is given with as many numbers as there are classes")
            }
            classes => Ok(Self { prior: Initializer::Zeros.init([classes], device), model }),
        }
    }

    /// p(x | y).
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.prior.dims()[0]
    }

    /// log p(y) of each class, `[classes]`.
    fn log_prior(&self) -> Tensor<1> {
        log_softmax(self.prior.val(), 0)
    }

    /// What training minimises: the mean of -log p(x, y) in nats, as [`AutoregressiveModel::loss`] has it.
    #[must_use]
    pub fn loss(&self, x: Tensor<2>, labels: Tensor<1, Int>, key: NoiseKey) -> Tensor<1> {
        let of_class = self.log_prior().select(0, labels.clone()).mean();
        self.model.loss(x, Some(self.one_hot(labels)), key) - of_class
    }

    fn one_hot(&self, labels: Tensor<1, Int>) -> Tensor<2> {
        labels.one_hot::<2>(self.classes()).float().cast(self.prior.val().dtype())
    }

    /// log p(x, y) of each sample under every class, `[batch, classes]` in nats.
    ///
    /// # Errors
    /// Those of [`crate::check`].
    pub fn log_joint(&self, x: &Tensor<2>) -> Result<Tensor<2>, AutoregressiveError> {
        let (batch, device) = (x.dims()[0], x.device());
        let prior = self.log_prior();
        let each = (0..self.classes()).map(|class| {
            let labels = Tensor::<1, Int>::full([batch], class as i64, &device);
            let of_class = prior.clone().narrow(0, class, 1);
            Ok(self.model.log_prob(x.clone(), Some(self.one_hot(labels)))? + of_class)
        });
        Ok(Tensor::stack(each.collect::<Result<_, AutoregressiveError>>()?, 1))
    }

    /// log p(y | x), `[batch, classes]` in nats.
    ///
    /// # Errors
    /// Those of [`crate::check`].
    pub fn classify(&self, x: &Tensor<2>) -> Result<Tensor<2>, AutoregressiveError> {
        Ok(log_softmax(self.log_joint(x)?, 1))
    }

    /// New samples with their classes, `[count, variables]` and `[count]`.
    ///
    /// # Errors
    /// None of its own.
    pub fn sample(
        &self,
        count: usize,
        key: NoiseKey,
    ) -> Result<(Tensor<2>, Tensor<1, Int>), AutoregressiveError> {
        let logits = self.prior.val().unsqueeze_dim::<2>(0).repeat_dim(0, count);
        // The sites' draws are steps from 0 on.
        let of_class = key.at_step(u64::MAX >> 2);
        let labels = Family::Categorical { levels: self.classes() }.draw(logits, of_class);
        let labels: Tensor<1, Int> = labels.int().squeeze_dim(1);
        let x = self.model.sample(count, Some(self.one_hot(labels.clone())), key)?;
        Ok((x, labels))
    }
}
