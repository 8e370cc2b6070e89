//! Layers that keep what they have seen: while a picture is drawn, each computes the one pixel that is new.
//!
//! A masked convolution at a pixel needs its input in the rows above, and left in its own: a window of a few rows, which is kept. So a
//! picture costs about as much as one pass over it, not one pass a pixel.

use burn::tensor::{Device, Tensor};

use super::masked::MaskedConv2d;

/// A masked convolution on a picture that comes pixel by pixel.
pub(super) struct Stepper {
    /// The masked weight of the rows that are seen, `[in x rows x columns, out]`.
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    /// The input's last rows, the current one the last, `[batch, in, rows, width + columns - 1]`.
    rows: Tensor<4>,
    /// The kernel's columns.
    columns: usize,
}

impl Stepper {
    /// Before the first pixel of pictures that are so wide.
    pub(super) fn new(conv: &MaskedConv2d, batch: usize, width: usize, device: &Device) -> Self {
        let weight = conv.weight();
        let [out, channels, kernel, columns] = weight.dims();
        let seen = kernel / 2 + 1;
        let weight = weight.narrow(2, 0, seen).reshape([out, channels * seen * columns]).transpose();
        let rows = Tensor::zeros([batch, channels, seen, width + columns - 1], device);
        Self { weight, bias: conv.bias(), rows, columns }
    }

    /// The input at a column of the current row is `x`, `[batch, in]`.
    pub(super) fn see(&mut self, column: usize, x: Tensor<2>) {
        let [batch, channels, rows, _] = self.rows.dims();
        let place = column + self.columns / 2;
        let at = [0..batch, 0..channels, rows - 1..rows, place..place + 1];
        self.rows = self.rows.clone().slice_assign(at, x.reshape([batch, channels, 1, 1]));
    }

    /// What the convolution gives at a column of the current row, `[batch, out]`, its input there being `x`, `[batch, in]`. The same
    /// column may come again with more of its channels known.
    pub(super) fn at(&mut self, column: usize, x: Tensor<2>) -> Tensor<2> {
        let [batch, channels, rows, _] = self.rows.dims();
        self.see(column, x);
        let window = self.rows.clone().narrow(3, column, self.columns);
        let y = window.reshape([batch, channels * rows * self.columns]).matmul(self.weight.clone());
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze_dim::<2>(0),
            None => y,
        }
    }

    /// The next row begins.
    pub(super) fn next_row(&mut self) {
        let [batch, channels, rows, width] = self.rows.dims();
        let empty = Tensor::zeros([batch, channels, 1, width], &self.rows.device());
        self.rows = match rows {
            1 => empty,
            _ => Tensor::cat(vec![self.rows.clone().narrow(2, 1, rows - 1), empty], 2),
        };
    }
}
