//! Random vectors that turn a trace into a mean: `E v' J v = tr J` for any v with `E v v' = I` (Hutchinson 1989).

use burn::tensor::Tensor;
use kiln_backend::noise::{NoiseKey, normal, uniform};
use serde::{Deserialize, Serialize};

/// The law of a random vector v with `E v v' = I`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// -1 or 1, each with probability 1/2: the least variance, `2 sum_{i != j} J_ij²` for a symmetric J, so none for a diagonal one.
    #[default]
    Rademacher,
    /// Standard normal; its variance is `2 sum_ij J_ij²`.
    Gaussian,
}

impl Probe {
    /// A vector for each row, that of row `i` a function of (seed, `sample + i`, step) alone.
    ///
    /// # Shapes
    /// - as `like`: `[batch, ...]`, in its float type, without autodiff.
    #[must_use]
    pub fn draw<const D: usize>(self, like: &Tensor<D>, key: NoiseKey) -> Tensor<D> {
        let (shape, device) = (like.dims(), like.device().without_autodiff());
        let values = match self {
            Self::Rademacher => {
                let low = uniform::<D>(shape, key, &device).lower_elem(0.5);
                Tensor::<D>::ones(shape, &device).mask_fill(low, -1.0)
            }
            Self::Gaussian => normal(shape, key, &device),
        };
        values.cast(like.dtype())
    }
}
