//! What an encoder says of a picture: a normal distribution of latents whose channels and pixels are independent.
//!
//! `z = mean + exp(log_variance / 2) noise` (Kingma and Welling 2014, "Auto-Encoding Variational Bayes").

use burn::tensor::Tensor;

/// A normal distribution with a mean and a variance for each element; all are `[batch, latent_channels, height, width]`.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    /// The mean.
    pub mean: Tensor<4>,
    /// The logarithm of the variance, within -30..20.
    pub log_variance: Tensor<4>,
}

impl DiagonalGaussian {
    /// From an encoder's result, `[batch, 2 * latent_channels, height, width]`: mean, then logarithm of the variance, which is
    /// clamped to -30..20.
    ///
    /// # Panics
    ///
    /// If the channels are odd.
    #[must_use]
    pub fn from_moments(moments: Tensor<4>) -> Self {
        let channels = moments.dims()[1];
        assert!(channels.is_multiple_of(2), "{channels} channels are no means with as many variances");
        let half = channels / 2;
        Self {
            mean: moments.clone().narrow(1, 0, half),
            log_variance: moments.narrow(1, half, half).clamp(-30.0, 20.0),
        }
    }

    /// The latent that the standard normal `noise` gives.
    #[must_use]
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        self.mean.clone() + (self.log_variance.clone() * 0.5).exp() * noise
    }

    /// The likeliest latent: the mean.
    #[must_use]
    pub fn mode(&self) -> Tensor<4> {
        self.mean.clone()
    }

    /// How far it is from the standard normal, the Kullback-Leibler divergence in nats, `[batch]`:
    /// `sum (mean² + variance - 1 - log_variance) / 2`.
    #[must_use]
    pub fn divergence(&self) -> Tensor<1> {
        let each = self.mean.clone().powi_scalar(2) + self.log_variance.clone().exp()
            - 1.0
            - self.log_variance.clone();
        each.flatten::<2>(1, 3).sum_dim(1).squeeze_dim::<1>(1) * 0.5
    }
}
