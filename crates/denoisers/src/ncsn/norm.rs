//! Instance norm++ (Song and Ermon 2019, appendix A.1): instance norm, which forgets the mean of each channel, and beside it
//! what the means were in comparison with each other.
//!
//! ```text
//! y_c = gamma_c ((x_c - mu_c) / sqrt(var_c + 1e-5) + alpha_c (mu_c - m) / sqrt(v + 1e-5)) + beta_c
//! ```
//!
//! `mu_c` and `var_c` are mean and variance of a channel's pixels, `m` and `v` mean and (unbiased) variance of the `mu_c` over
//! the channels.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};

const EPSILON: f64 = 1e-5;

/// With factors of its own.
#[derive(Module, Debug)]
pub(super) struct InstanceNormPlus {
    alpha: Param<Tensor<1>>,
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
}

/// With factors from a table of levels, `[levels, 3 channels]`: gamma, alpha, beta.
#[derive(Module, Debug)]
pub(super) struct ConditionalInstanceNormPlus {
    embed: Embedding,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen in a network")]
pub(super) enum Norm {
    Own(InstanceNormPlus),
    OfLevel(ConditionalInstanceNormPlus),
}

/// How the norms of a network are made: with a table of so many levels, or without.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormKind {
    pub levels: Option<usize>,
}

impl NormKind {
    pub(super) fn init(self, channels: usize, device: &Device) -> Norm {
        let filled = |value: f32| Param::from_tensor(Tensor::full([channels], value, device));
        match self.levels {
            None => Norm::Own(InstanceNormPlus { alpha: filled(1.0), gamma: filled(1.0), beta: filled(0.0) }),
            Some(levels) => {
                let mut embed = EmbeddingConfig::new(levels, 3 * channels).init(device);
                let factors = Tensor::<2>::ones([levels, 2 * channels], device);
                let shifts = Tensor::zeros([levels, channels], device);
                embed.weight = Param::from_tensor(Tensor::cat(vec![factors, shifts], 1));
                Norm::OfLevel(ConditionalInstanceNormPlus { embed })
            }
        }
    }
}

impl Norm {
    /// `x` is `[batch, channels, height, width]`, `levels` `[batch]`.
    pub(super) fn forward(&self, x: Tensor<4>, levels: &Tensor<1, Int>) -> Tensor<4> {
        let channels = x.dims()[1];
        let means = x.clone().mean_dim(2).mean_dim(3);
        let centred = x - means.clone();
        let variances = centred.clone().square().mean_dim(2).mean_dim(3);
        let beside = means.clone() - means.mean_dim(1);
        let variance = beside.clone().square().sum_dim(1) / (channels as f64 - 1.0);
        let beside = beside / (variance + EPSILON).sqrt();
        let [gamma, alpha, beta]: [Tensor<4>; 3] = match self {
            Self::Own(own) => {
                [&own.gamma, &own.alpha, &own.beta].map(|p| p.val().reshape([1, channels, 1, 1]))
            }
            Self::OfLevel(table) => {
                let rows: Tensor<3> = table.embed.forward(levels.clone().unsqueeze_dim(1));
                let batch = levels.dims()[0];
                [0, 1, 2]
                    .map(|i| rows.clone().narrow(2, i * channels, channels).reshape([batch, channels, 1, 1]))
            }
        };
        // The small tensors are joined first: two passes over the pixels remain.
        centred * (gamma.clone() / (variances + EPSILON).sqrt()) + (gamma * alpha * beside + beta)
    }
}
