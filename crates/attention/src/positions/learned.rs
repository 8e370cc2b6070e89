//! A vector for each place, learned (Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", section 3.1).
//!
//! ```text
//! x_i -> x_i + w_i        i < places
//! ```

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// Configuration of [`LearnedPositions`].
#[derive(Config, Debug)]
pub struct LearnedPositionsConfig {
    /// Number of places.
    pub places: usize,
    /// Channels of a token.
    pub width: usize,
    /// Standard deviation at the start.
    #[config(default = 0.02)]
    pub std: f64,
}

/// A vector for each place; see the [module](self).
#[derive(Module, Debug)]
pub struct LearnedPositions {
    /// `[places, width]`.
    pub weight: Param<Tensor<2>>,
}

impl LearnedPositionsConfig {
    /// The table, normally distributed, on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> LearnedPositions {
        let initializer = Initializer::Normal { mean: 0.0, std: self.std };
        LearnedPositions { weight: initializer.init([self.places, self.width], device) }
    }
}

impl LearnedPositions {
    /// `x`, `[batch, n, width]`, whose first token stands at `first`, with its places added.
    ///
    /// # Panics
    ///
    /// If there are fewer places than that.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, first: usize) -> Tensor<3> {
        let n = x.dims()[1];
        let places = self.weight.val().dims()[0];
        assert!(first + n <= places, "{n} tokens from place {first} on do not fit {places} places");
        x + self.weight.val().narrow(0, first, n).unsqueeze_dim(0)
    }
}
