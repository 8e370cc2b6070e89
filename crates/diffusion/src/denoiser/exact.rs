//! The exact denoiser of data that is a mixture of Gaussians: what a perfect network would say.
//!
//! For data `sum_k w_k N(m_k, s_k²)` in every coordinate, `x_t` given component k is `N(alpha m_k, v_k)` with
//! `v_k = alpha² s_k² + sigma²`, and with `r_k(x)` the component's posterior probability
//!
//! ```text
//! E[eps | x] = sigma sum_k r_k (x - alpha m_k) / v_k
//! E[x_0 | x] = sum_k r_k (m_k + alpha s_k² (x - alpha m_k) / v_k)
//! ```
//!
//! Both follow from the normal posterior (Bishop 2006, equation 2.116). Orders of convergence are measured against it.

use burn::tensor::Tensor;

use super::{Denoiser, Estimate};
use crate::blend::column;
use crate::error::require;
use crate::{DiffusionError, Law, Process};

/// Independent coordinates, each a mixture of Gaussians of known weight, mean and standard deviation.
#[derive(Clone, Debug)]
pub struct GaussianMixture<'a> {
    process: &'a dyn Process,
    components: Vec<(f64, f64, f64)>,
}

impl<'a> GaussianMixture<'a> {
    /// A mixture of `(weight, mean, standard deviation)`; weights are scaled to add to 1.
    ///
    /// # Errors
    /// If there is no component, a weight is not above 0, or a standard deviation is below 0.
    pub fn new(process: &'a dyn Process, components: Vec<(f64, f64, f64)>) -> Result<Self, DiffusionError> {
        require("the number of components", "at least 1", components.len() as f64, !components.is_empty())?;
        for &(weight, mean, std) in &components {
            require("a component's weight", "above 0", weight, weight > 0.0)?;
            require("a component's mean", "finite", mean, true)?;
            require("a component's standard deviation", "at least 0", std, std >= 0.0)?;
        }
        let total: f64 = components.iter().map(|component| component.0).sum();
        let components =
            components.into_iter().map(|(weight, mean, std)| (weight / total, mean, std)).collect();
        Ok(Self { process, components })
    }

    /// One Gaussian.
    ///
    /// # Errors
    /// If the standard deviation is below 0.
    pub fn single(process: &'a dyn Process, mean: f64, std: f64) -> Result<Self, DiffusionError> {
        Self::new(process, vec![(1.0, mean, std)])
    }
}

impl<const D: usize> Denoiser<D> for GaussianMixture<'_> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        self.denoise_each(x.clone(), &vec![t; x.dims()[0]])
    }

    fn denoise_each(&self, x: Tensor<D>, times: &[f64]) -> Estimate<D> {
        let laws: Vec<_> = times.iter().map(|&t| self.process.law(t)).collect();
        // One number a sample, of its law.
        let each = |value: &dyn Fn(&Law) -> f64| column(&laws.iter().map(value).collect::<Vec<_>>(), &x);
        let variance =
            |law: &Law, std: f64| ((law.alpha * std).powi(2) + law.sigma.powi(2)).max(f64::MIN_POSITIVE);
        let distances: Vec<_> =
            self.components.iter().map(|&(_, mean, _)| x.clone() - each(&|law| law.alpha * mean)).collect();
        // Log-probabilities, then a softmax over components.
        let logits: Vec<_> = std::iter::zip(&self.components, &distances)
            .map(|(&(weight, _, std), distance)| {
                distance.clone().square() * each(&|law| -0.5 / variance(law, std))
                    + each(&|law| weight.ln() - 0.5 * variance(law, std).ln())
            })
            .collect();
        let highest =
            logits.iter().skip(1).fold(logits[0].clone(), |high, logit| high.max_pair(logit.clone()));
        let scores: Vec<_> = logits.into_iter().map(|logit| (logit - highest.clone()).exp()).collect();
        let total = scores.iter().skip(1).fold(scores[0].clone(), |sum, score| sum + score.clone());

        let (mut data, mut noise) = (x.zeros_like(), x.zeros_like());
        for ((&(_, mean, std), distance), score) in
            std::iter::zip(std::iter::zip(&self.components, distances), scores)
        {
            let responsibility = score / total.clone();
            let pull = distance * each(&|law| 1.0 / variance(law, std));
            data = data
                + responsibility.clone()
                    * (pull.clone() * each(&|law| law.alpha * std * std)).add_scalar(mean);
            noise = noise + responsibility * pull * each(&|law| law.sigma);
        }
        Estimate { data, noise }
    }
}
