//! Pictures, pixel by pixel: each row after the one above it, each pixel after the one on its left.

mod cache;
pub mod cnn;
pub mod gated;
mod masked;
pub mod plus_plus;
pub mod rnn;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::config;
use crate::{AutoregressiveError, Family, Order};

pub use cnn::{PixelCnn, PixelCnnConfig};
pub use gated::{GatedPixelCnn, GatedPixelCnnConfig};
pub use plus_plus::{PixelCnnPlusPlus, PixelCnnPlusPlusConfig};
pub use rnn::{PixelRnn, PixelRnnConfig, Recurrence};

/// The size of pictures, and the distribution of what is drawn at once: a channel of a pixel, or with a
/// [`Family::LogisticMixture`] the pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    /// Channels of a pixel, drawn one after the other.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The distribution of a site.
    pub family: Family,
}

impl Canvas {
    /// Pictures of 0 and 1.
    #[must_use]
    pub fn binary(height: usize, width: usize) -> Self {
        Self { channels: 1, height, width, family: Family::Bernoulli }
    }

    /// Whether such pictures can be.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn check(&self) -> Result<(), AutoregressiveError> {
        self.family.check()?;
        for (field, size) in [("channels", self.channels), ("height", self.height), ("width", self.width)] {
            if size == 0 {
                return config(field, "is 0");
            }
        }
        let of_a_site = self.family.channels();
        if of_a_site > 1 && of_a_site != self.channels {
            return config(
                "family",
                format!("is of {of_a_site} channels, and the pictures have {}", self.channels),
            );
        }
        Ok(())
    }

    /// Sites of a pixel, one after the other: 1 where all its channels are drawn at once.
    pub(crate) fn parts(&self) -> usize {
        self.channels / self.family.channels()
    }

    pub(crate) fn order(&self) -> Order {
        Order::raster([self.parts(), self.height, self.width])
    }

    /// Flattened samples as pictures, `[batch, channels, height, width]`, as a network is shown them.
    pub(crate) fn picture(&self, x: Tensor<2>) -> Tensor<4> {
        let batch = x.dims()[0];
        self.family.input(x.reshape([batch, self.channels, self.height, self.width]))
    }

    /// A network's answer, `[batch, parts x width, height, width]`, as parameters by site.
    pub(crate) fn parameters(&self, y: Tensor<4>) -> Tensor<3> {
        let (batch, parts, width) = (y.dims()[0], self.parts(), self.family.width());
        let pixels = self.height * self.width;
        let by_site = y.reshape([batch, parts, width, pixels]).swap_dims(2, 3);
        by_site.reshape([batch, parts * pixels, width])
    }
}

/// The pixel and the channel at a place of the raster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    parts: usize,
    width: usize,
    place: usize,
}

impl Cursor {
    pub(crate) fn new(canvas: &Canvas) -> Self {
        Self { parts: canvas.parts(), width: canvas.width, place: 0 }
    }

    pub(crate) fn part(self) -> usize {
        self.place % self.parts
    }

    pub(crate) fn column(self) -> usize {
        self.place / self.parts % self.width
    }

    pub(crate) fn advance(&mut self) {
        self.place += 1;
    }

    /// Whether the place is the first of a row.
    pub(crate) fn begins_row(self) -> bool {
        self.place.is_multiple_of(self.parts * self.width)
    }
}
