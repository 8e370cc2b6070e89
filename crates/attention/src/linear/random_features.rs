//! Random features whose products are, on average, softmax's exponentials (Choromanski et al. 2021, "Rethinking Attention
//! with Performers": FAVOR+).
//!
//! ```text
//! E phi(q) phi(k)^T = e^(q k^T / sqrt(d))
//! phi(x)            = e^(W x' - |x'|^2 / 2) / sqrt(m)         x' = x / d^(1/4),   rows of W normally distributed
//! ```
//!
//! They are positive, so that a sum of them is nowhere near 0. Rows are orthogonal within blocks of d, which lowers the
//! variance: directions of a Gaussian matrix by Gram-Schmidt, and lengths of other Gaussian vectors. They are drawn anew now
//! and then, so that training does not fit itself to one draw.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal_values};
use kiln_backend::ops::Causality;

use super::feature_maps::{FLOOR, Features, Normaliser};

/// Configuration of [`RandomFeatures`].
#[derive(Config, Debug)]
pub struct RandomFeaturesConfig {
    /// d: channels of a head.
    pub head_dim: usize,
    /// m: number of features.
    pub features: usize,
}

/// Random features of all heads; see the [module](self). The draw is saved with the layer, and does not learn.
#[derive(Module, Debug)]
pub struct RandomFeatures {
    /// W, `[features, head_dim]`.
    pub projection: Param<Tensor<2>>,
}

impl RandomFeaturesConfig {
    /// A first draw on `device`, which `key` determines.
    #[must_use]
    pub fn init(&self, key: NoiseKey, device: &Device) -> RandomFeatures {
        let data = TensorData::new(draw(self.features, self.head_dim, key), [self.features, self.head_dim]);
        let projection = Tensor::from_data(data, (device, DType::F32));
        RandomFeatures { projection: Param::from_tensor(projection).set_require_grad(false) }
    }
}

impl RandomFeatures {
    /// The same with another draw, which `key` determines.
    #[must_use]
    pub fn redrawn(self, key: NoiseKey) -> Self {
        let [features, head_dim] = self.projection.val().dims();
        RandomFeaturesConfig { head_dim, features }.init(key, &self.projection.val().device())
    }

    /// The features of `query`, `[batch, heads, n, d]`, and `key`, `[batch, heads, m, d]`. They are scaled so that none is
    /// above 1; over the past alone, a scale by the largest key would tell of the future, so there only queries are.
    ///
    /// # Panics
    ///
    /// If heads have another number of channels.
    #[must_use]
    pub fn features(&self, query: Tensor<4>, key: Tensor<4>, causality: Causality) -> Features {
        let exponents = |x: Tensor<4>| {
            let x = x.cast(DType::F32);
            let x = x.clone().div_scalar((x.dims()[3] as f64).powf(0.25));
            let half_square = x.clone().square().sum_dim(3).div_scalar(2.0);
            x.matmul(self.projection.val().cast(DType::F32).transpose().unsqueeze()) - half_square
        };
        let (query, key) = (exponents(query), exponents(key));
        let query = query.clone() - query.detach().max_dim(3);
        let key = match causality {
            Causality::None => key.clone() - key.detach().max_dim(3).max_dim(2),
            Causality::Causal => key,
        };
        let scale = 1.0 / (self.projection.val().dims()[0] as f64).sqrt();
        Features {
            query: query.exp().mul_scalar(scale),
            key: key.exp().mul_scalar(scale),
            normaliser: Normaliser::Total { floor: FLOOR },
        }
    }
}

/// W, row after row.
fn draw(features: usize, d: usize, key: NoiseKey) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(features);
    let mut next = key;
    let mut gaussian = |n: usize| -> Vec<f64> {
        let values = normal_values(n, next).into_iter().map(f64::from).collect();
        next = next.at_sample(next.sample.wrapping_add(1));
        values
    };
    while rows.len() < features {
        let start = rows.len();
        for _ in 0..d.min(features - start) {
            let direction = loop {
                let mut row = gaussian(d);
                // Twice: what the first turn leaves by rounding, the second takes.
                for _ in 0..2 {
                    for other in &rows[start..] {
                        let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                        row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
                    }
                }
                let length = norm(&row);
                if length > 1e-6 {
                    break row.into_iter().map(|a| a / length).collect::<Vec<_>>();
                }
            };
            rows.push(direction);
        }
    }
    rows.into_iter()
        .flat_map(|row| {
            let length = norm(&gaussian(d));
            row.into_iter().map(move |a| (a * length) as f32)
        })
        .collect()
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|a| a * a).sum::<f64>().sqrt()
}
