//! Rotary positions (Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding").
//!
//! ```text
//! (x_a, x_b) -> (x_a cos p w_i - x_b sin p w_i,  x_a sin p w_i + x_b cos p w_i)      w_i = theta^(-2 i / d),  i < d/2
//! ```
//!
//! Pair i is turned by the angle p w_i at place p. A product of a turned query and a turned key knows their places only by
//! the difference. In a picture half of the channels are turned by the row, half by the column.
//!
//! A model that was trained on `trained` places reads `factor` times as many where places are interpolated:
//!
//! ```text
//! linear    p -> p / factor                                      Chen et al. 2023, "Extending Context Window ..."
//! NTK       theta -> theta factor^(d / (d - 2))                  the fastest pair stays, the slowest is divided by factor
//! ```

use burn::config::Config;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which channels form a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotaryPairs {
    /// i and i + d/2 (GPT-NeoX, LLaMA in transformers).
    #[default]
    Halves,
    /// 2 i and 2 i + 1 (the paper, GPT-J, diffusers).
    Adjacent,
}

/// How places that training has not seen are brought among those that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Interpolation {
    /// They are not.
    #[default]
    None,
    /// Places are divided by this factor.
    Linear(f64),
    /// Slow pairs are slowed down by this factor, fast ones stay.
    Ntk(f64),
}

/// Configuration of a [`Rotary`], and of each side of a [`Rotary2d`].
#[derive(Config, Debug, PartialEq)]
pub struct RotaryConfig {
    /// Base of the wavelengths.
    #[config(default = 10_000.0)]
    pub theta: f64,
    /// Which channels form a pair.
    #[config(default = "RotaryPairs::Halves")]
    pub pairs: RotaryPairs,
    /// How longer sequences are read.
    #[config(default = "Interpolation::None")]
    pub interpolation: Interpolation,
}

/// The turns of some places: made once, applied to queries and keys.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// `[1, 1, n, width / 2]`.
    cos: Tensor<4>,
    sin: Tensor<4>,
    pairs: RotaryPairs,
}

impl RotaryConfig {
    /// The turns of a head of `width` channels at `places`, computed in f64.
    ///
    /// # Panics
    ///
    /// If `width` is odd.
    #[must_use]
    pub fn at(&self, places: &[f64], width: usize, device: &Device) -> Rotary {
        assert!(width.is_multiple_of(2), "a width of {width} is not made of pairs");
        let half = width / 2;
        let (theta, divisor) = match self.interpolation {
            Interpolation::None => (self.theta, 1.0),
            Interpolation::Linear(factor) => (self.theta, factor),
            // With a single pair there is none that could stay.
            Interpolation::Ntk(factor) if width > 2 => {
                (self.theta * factor.powf(width as f64 / (width as f64 - 2.0)), 1.0)
            }
            Interpolation::Ntk(_) => (self.theta, 1.0),
        };
        let frequencies: Vec<f64> = (0..half).map(|i| theta.powf(-(i as f64) / half as f64)).collect();
        let angles = || places.iter().flat_map(|p| frequencies.iter().map(move |w| p / divisor * w));
        let tensor =
            |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [1, 1, places.len(), half]), device);
        Rotary {
            cos: tensor(angles().map(|a| a.cos() as f32).collect()),
            sin: tensor(angles().map(|a| a.sin() as f32).collect()),
            pairs: self.pairs,
        }
    }

    /// [`at`](Self::at) the places `first..first + n`.
    ///
    /// # Panics
    ///
    /// If `width` is odd.
    #[must_use]
    pub fn from(&self, first: usize, n: usize, width: usize, device: &Device) -> Rotary {
        let places: Vec<f64> = (first..first + n).map(|place| place as f64).collect();
        self.at(&places, width, device)
    }

    /// The turns of a picture of `[rows, columns]`, row after row: the first half of `width` channels is turned by the row,
    /// the second by the column. `span` is the picture that the model was trained on, if places of this one are to be
    /// interpolated into it: row r of R is at `r span / R`.
    ///
    /// # Panics
    ///
    /// If four does not divide `width`.
    #[must_use]
    pub fn over_picture(
        &self,
        [rows, columns]: [usize; 2],
        span: Option<[usize; 2]>,
        width: usize,
        device: &Device,
    ) -> Rotary2d {
        assert!(width.is_multiple_of(4), "rows and columns do not share a width of {width}");
        let [tall, wide] = span.unwrap_or([rows, columns]);
        let place = |i: usize, n: usize, span: usize| i as f64 * span as f64 / n as f64;
        let of_rows: Vec<f64> = (0..rows * columns).map(|i| place(i / columns, rows, tall)).collect();
        let of_columns: Vec<f64> = (0..rows * columns).map(|i| place(i % columns, columns, wide)).collect();
        Rotary2d {
            rows: self.at(&of_rows, width / 2, device),
            columns: self.at(&of_columns, width / 2, device),
        }
    }
}

impl Rotary {
    /// Turns `x`, `[batch, heads, n, width]`.
    ///
    /// # Panics
    ///
    /// If `x` has another number of places or another width.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, n, width] = x.dims();
        let half = width / 2;
        assert_eq!([1, 1, n, half], self.cos.dims(), "turns of {:?} for {:?}", self.cos.dims(), x.dims());
        let dtype = x.dtype();
        let (cos, sin) = (self.cos.clone().cast(dtype), self.sin.clone().cast(dtype));
        match self.pairs {
            RotaryPairs::Halves => {
                let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
                let turned = [a.clone() * cos.clone() - b.clone() * sin.clone(), a * sin + b * cos];
                Tensor::cat(turned.into(), 3)
            }
            RotaryPairs::Adjacent => {
                let x = x.reshape([batch, heads, n, half, 2]);
                let part = |i| x.clone().narrow(4, i, 1).reshape([batch, heads, n, half]);
                let (a, b) = (part(0), part(1));
                let turned = [a.clone() * cos.clone() - b.clone() * sin.clone(), a * sin + b * cos];
                Tensor::cat(turned.map(|x| x.unsqueeze_dim::<5>(4)).into(), 4)
                    .reshape([batch, heads, n, width])
            }
        }
    }
}

/// The turns of a picture's places; by [`RotaryConfig::over_picture`].
#[derive(Clone, Debug)]
pub struct Rotary2d {
    rows: Rotary,
    columns: Rotary,
}

impl Rotary2d {
    /// Turns `x`, `[batch, heads, rows * columns, width]`.
    ///
    /// # Panics
    ///
    /// If `x` has another number of places or another width.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (by_row, by_column) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        Tensor::cat(vec![self.rows.forward(by_row), self.columns.forward(by_column)], 3)
    }
}
