//! PixelRNN (van den Oord et al. 2016): recurrence over rows or diagonals.
//!
//! ```text
//! h = conv k x k, mask A;     h <- h + conv1x1(LSTM(h)) for each layer;     numbers = conv1x1(relu(conv1x1(relu(h))))
//! [o, f, i, g] = W x + U s,      c = sigmoid(f) c + sigmoid(i) tanh(g),      s = sigmoid(o) tanh(c)
//! ```
//!
//! - Row LSTM: W is a masked 1 x 3 convolution, U one of width 3 of the states of the row above: a triangle of what came before is seen.
//! - Diagonal BiLSTM: the picture is skewed, each row one to the right of that above it, so that a column is a diagonal; W is 1 x 1, U reaches
//!   the pixels on the left and above. A second one goes from the right; its states are taken one row lower, since those of the own
//!   row have seen pixels on the right. Together they see all that came before but, beyond the first kernel's reach, the last pixel of the row
//!   above: features stand one pixel after what they see, and after it comes none.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kiln_blocks::convolve;
use serde::{Deserialize, Serialize};

use super::Canvas;
use super::cnn::{check_features, check_kernel};
use super::masked::{Centre, Features, MaskedConv2d};
use crate::error::config;
use crate::given::Given;
use crate::lstm::lstm;
use crate::{AutoregressiveError, AutoregressiveModel, Family, Order};

/// How a [`PixelRnn`]'s state goes through the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recurrence {
    /// From row to row.
    RowLstm,
    /// From diagonal to diagonal, from both sides.
    DiagonalBiLstm,
}

/// Configuration of a [`PixelRnn`].
#[derive(Config, Debug)]
pub struct PixelRnnConfig {
    /// What is drawn.
    pub canvas: Canvas,
    /// How the state goes through the picture.
    pub recurrence: Recurrence,
    /// Features of the LSTMs, half of those between them: a multiple of the channels.
    #[config(default = 16)]
    pub hidden: usize,
    /// Number of layers.
    #[config(default = 7)]
    pub layers: usize,
    /// Side of the first kernel, odd.
    #[config(default = 7)]
    pub kernel: usize,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// Layers of LSTMs over a picture; see the [module](self).
#[derive(Module, Debug)]
pub struct PixelRnn {
    input: MaskedConv2d,
    layers: Vec<Layer>,
    outputs: Vec<MaskedConv2d>,
    given: Given,
    #[module(skip)]
    canvas: Canvas,
    #[module(skip)]
    order: Order,
}

#[derive(Module, Debug)]
struct Layer {
    /// One, or one from each side.
    lstms: Vec<Lstm>,
    out: MaskedConv2d,
    #[module(skip)]
    recurrence: Recurrence,
}

#[derive(Module, Debug)]
struct Lstm {
    input_to_state: MaskedConv2d,
    state_to_state: Conv2d,
}

impl PixelRnnConfig {
    /// The model on `device`, as PyTorch starts convolutions.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<PixelRnn, AutoregressiveError> {
        let Self { canvas, recurrence, hidden, layers, kernel, given } = *self;
        canvas.check()?;
        let parts = canvas.parts();
        check_features("hidden", hidden, parts)?;
        check_kernel(kernel)?;
        if layers == 0 {
            return config("layers", "is 0");
        }
        let (outer, inner) = (Features::new(2 * hidden, parts), Features::new(hidden, parts));
        let picture = Features::new(canvas.channels, parts);
        let numbers = Features::new(parts * canvas.family.width(), parts);
        let own = |from, to, kernel| MaskedConv2d::new(from, to, kernel, Centre::Own, device);
        let direction = |_| {
            let (input, state) = match recurrence {
                Recurrence::RowLstm => ([1, 3], [1, 3]),
                Recurrence::DiagonalBiLstm => ([1, 1], [2, 1]),
            };
            let state = Conv2dConfig::new([hidden, 4 * hidden], state).with_bias(false);
            let gates = Features { repeats: 4, ..inner };
            Lstm { input_to_state: own(outer, gates, input), state_to_state: state.init(device) }
        };
        let layer = |_| {
            let directions = match recurrence {
                Recurrence::RowLstm => 1,
                Recurrence::DiagonalBiLstm => 2,
            };
            Layer {
                lstms: (0..directions).map(direction).collect(),
                out: own(inner, outer, [1, 1]),
                recurrence,
            }
        };
        Ok(PixelRnn {
            input: MaskedConv2d::new(picture, outer, [kernel, kernel], Centre::Before, device),
            layers: (0..layers).map(layer).collect(),
            outputs: vec![own(outer, outer, [1, 1]), own(outer, numbers, [1, 1])],
            given: Given::new(given, 2 * hidden, device),
            canvas,
            order: canvas.order(),
        })
    }
}

impl Lstm {
    /// The states of all steps, from what the input adds to each, `[batch, 4 hidden, ..]`, as `steps` along `axis`.
    fn scan(&self, input: Tensor<4>, axis: usize) -> Tensor<4> {
        let steps = input.split(1, axis);
        let mut states: Vec<Tensor<4>> = Vec::with_capacity(steps.len());
        let mut cell: Option<Tensor<4>> = None;
        for x in steps {
            let gates = match states.last() {
                Some(state) => x + self.transition(state.clone()),
                None => x,
            };
            let [state, next] = lstm(&gates, cell);
            states.push(state);
            cell = Some(next);
        }
        Tensor::cat(states, axis)
    }

    /// U s: the state beside in the row above, or the states on the left and above on the diagonal.
    fn transition(&self, state: Tensor<4>) -> Tensor<4> {
        let [rows, columns] = self.state_to_state.kernel_size;
        let side = columns / 2;
        convolve(&self.state_to_state, state.pad((side, side, rows - 1, 0), 0.0))
    }
}

impl Layer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let states = match self.recurrence {
            Recurrence::RowLstm => self.lstms[0].scan(self.lstms[0].input_to_state.forward(x.clone()), 2),
            Recurrence::DiagonalBiLstm => {
                let diagonal = |lstm: &Lstm, x: Tensor<4>| {
                    let width = x.dims()[3];
                    unskew(lstm.scan(skew(lstm.input_to_state.forward(x)), 3), width)
                };
                let from_right = diagonal(&self.lstms[1], x.clone().flip([3])).flip([3]);
                let height = from_right.dims()[2];
                let lower = from_right.pad((0, 0, 1, 0), 0.0).narrow(2, 0, height);
                diagonal(&self.lstms[0], x.clone()) + lower
            }
        };
        x + self.out.forward(states)
    }
}

/// Each row one column further to the right than the one above: `[.., h, w]` to `[.., h, w + h - 1]`.
fn skew(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    // A row that is one too long pushes the next one on.
    let flat: Tensor<3> = x.pad((0, height, 0, 0), 0.0).flatten(2, 3);
    let wide = width + height - 1;
    flat.narrow(2, 0, height * wide).reshape([batch, channels, height, wide])
}

/// The inverse of [`skew`].
fn unskew(x: Tensor<4>, width: usize) -> Tensor<4> {
    let [batch, channels, height, wide] = x.dims();
    let flat = x.reshape([batch, channels, 1, height * wide]).pad((0, height, 0, 0), 0.0);
    flat.reshape([batch, channels, height, wide + 1]).narrow(3, 0, width)
}

impl AutoregressiveModel for PixelRnn {
    fn family(&self) -> Family {
        self.canvas.family
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.given.width()
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        let mut h = self.input.forward(self.canvas.picture(x));
        if let Some(given) = self.given.of(given.as_ref()) {
            h = h + given.unsqueeze_dim::<3>(2).unsqueeze_dim::<4>(3);
        }
        let h = self.layers.iter().fold(h, |h, layer| layer.forward(h));
        let y = self.outputs.iter().fold(h, |h, conv| conv.forward(relu(h)));
        self.canvas.parameters(y)
    }
}
