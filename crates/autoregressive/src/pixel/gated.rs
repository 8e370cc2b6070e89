//! Gated PixelCNN (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders").
//!
//! Two stacks: the vertical one sees all rows above, the horizontal one the pixels on the left and what the vertical one has seen. Between
//! them they see every pixel that comes before, with no blind spot.
//!
//! ```text
//! v' = conv (k/2 + 1) x k of v, rows up to the current one          v <- gate(v' + V_v y)
//! h' = conv 1 x k of h, masked, + conv1x1(v')                       h <- h + conv1x1(gate(h' + V_h y))
//! gate([a, b]) = tanh(a) sigmoid(b),      numbers = conv1x1(relu(conv1x1(relu(h))))
//! ```
//!
//! The first vertical layer stops one row above the current one, the first horizontal one is masked at the pixel itself (A) and has no residual
//! connection; y is what the picture is given with. Features of the vertical stack may go to every channel: they are of rows above.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use super::cache::Stepper;
use super::cnn::{check_features, check_kernel};
use super::masked::{Centre, Features, MaskedConv2d};
use super::{Canvas, Cursor};
use crate::given::Given;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// Configuration of a [`GatedPixelCnn`].
#[derive(Config, Debug)]
pub struct GatedPixelCnnConfig {
    /// What is drawn.
    pub canvas: Canvas,
    /// Features of a pixel, in each stack: a multiple of the channels.
    #[config(default = 32)]
    pub features: usize,
    /// Number of layers after the first.
    #[config(default = 7)]
    pub layers: usize,
    /// Side of the first kernel, odd.
    #[config(default = 7)]
    pub first_kernel: usize,
    /// Side of the other kernels, odd.
    #[config(default = 3)]
    pub kernel: usize,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// A vertical and a horizontal stack; see the [module](self).
#[derive(Module, Debug)]
pub struct GatedPixelCnn {
    layers: Vec<Layer>,
    outputs: Vec<MaskedConv2d>,
    #[module(skip)]
    canvas: Canvas,
    #[module(skip)]
    order: Order,
}

/// Which rows a vertical convolution sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Those above: the input is the picture.
    Above,
    /// The current one too: the input has seen those above.
    UpTo,
}

#[derive(Module, Debug)]
struct Layer {
    vertical: Conv2d,
    across: Conv2d,
    horizontal: MaskedConv2d,
    out: MaskedConv2d,
    given_vertical: Given,
    given_horizontal: Given,
    #[module(skip)]
    rows: Rows,
}

impl GatedPixelCnnConfig {
    /// The model on `device`, as PyTorch starts convolutions.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<GatedPixelCnn, AutoregressiveError> {
        let Self { canvas, features, layers, .. } = *self;
        canvas.check()?;
        let parts = canvas.parts();
        check_features("features", features, parts)?;
        check_kernel(self.first_kernel)?;
        check_kernel(self.kernel)?;
        let inner = Features::new(features, parts);
        let numbers = Features::new(parts * canvas.family.width(), parts);
        let own = |from, to| MaskedConv2d::new(from, to, [1, 1], Centre::Own, device);
        let layer = |index: usize| {
            let (from, kernel, rows, centre) = match index {
                0 => (Features::new(canvas.channels, parts), self.first_kernel, Rows::Above, Centre::Before),
                _ => (inner, self.kernel, Rows::UpTo, Centre::Own),
            };
            // Above: the rows of half a kernel; up to: the current one besides.
            let height = kernel / 2 + usize::from(rows == Rows::UpTo);
            let vertical = Conv2dConfig::new([from.count, 2 * features], [height.max(1), kernel]);
            Layer {
                vertical: vertical.init(device),
                across: Conv2dConfig::new([2 * features, 2 * features], [1, 1]).init(device),
                horizontal: MaskedConv2d::new(from, inner.with_gates(), [1, kernel], centre, device),
                out: own(inner, inner),
                given_vertical: Given::new(self.given, 2 * features, device),
                given_horizontal: Given::new(self.given, 2 * features, device),
                rows,
            }
        };
        Ok(GatedPixelCnn {
            layers: (0..=layers).map(layer).collect(),
            outputs: vec![own(inner, inner), own(inner, numbers)],
            canvas,
            order: canvas.order(),
        })
    }
}

/// tanh(a) sigmoid(b) of the halves along axis 1.
fn gate<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let half = x.dims()[1] / 2;
    x.clone().narrow(1, 0, half).tanh() * sigmoid(x.narrow(1, half, half))
}

/// What is given, for every pixel.
fn everywhere(x: Tensor<4>, given: Option<Tensor<2>>) -> Tensor<4> {
    match given {
        Some(given) => x + given.unsqueeze_dim::<3>(2).unsqueeze_dim::<4>(3),
        None => x,
    }
}

impl Layer {
    fn is_first(&self) -> bool {
        self.rows == Rows::Above
    }

    /// The vertical convolution of whole rows.
    fn vertical(&self, v: Tensor<4>) -> Tensor<4> {
        let ([_, _, height, _], [kernel, columns]) = (v.dims(), self.vertical.kernel_size);
        let above = match self.rows {
            Rows::Above => kernel,
            Rows::UpTo => kernel - 1,
        };
        let side = columns / 2;
        let v = v.pad((side, side, above, 0), 0.0);
        // The last row is seen by none where the current one is hidden.
        kiln_blocks::convolve(&self.vertical, v).narrow(2, 0, height)
    }

    fn forward(&self, [v, h]: [Tensor<4>; 2], given: Option<&Tensor<2>>) -> [Tensor<4>; 2] {
        let down = self.vertical(v);
        let across = self.horizontal.forward(h.clone()) + kiln_blocks::convolve(&self.across, down.clone());
        let v = gate(everywhere(down, self.given_vertical.of(given)));
        let y = self.out.forward(gate(everywhere(across, self.given_horizontal.of(given))));
        [v, if self.is_first() { y } else { h + y }]
    }
}

impl AutoregressiveModel for GatedPixelCnn {
    fn family(&self) -> Family {
        self.canvas.family
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.layers[0].given_vertical.width()
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        let x = self.canvas.picture(x);
        let stacks = [x.clone(), x];
        let [_, h] = self.layers.iter().fold(stacks, |stacks, layer| layer.forward(stacks, given.as_ref()));
        let y = self.outputs.iter().fold(h, |h, conv| conv.forward(relu(h)));
        self.canvas.parameters(y)
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let device = &crate::model::device(self);
        let width = self.canvas.width;
        let stepper = |conv: &MaskedConv2d| Stepper::new(conv, batch, width, device);
        let layers = self.layers.iter().map(|layer| LayerStepper {
            vertical: RowStepper::new(layer, batch, width, device),
            across: Tensor::zeros([batch, 1, 1, 1], device),
            horizontal: stepper(&layer.horizontal),
            out: stepper(&layer.out),
            given_vertical: layer.given_vertical.of(given.as_ref()),
            given_horizontal: layer.given_horizontal.of(given.as_ref()),
            layer,
        });
        let mut decoder = GatedDecoder {
            layers: layers.collect(),
            outputs: self.outputs.iter().map(stepper).collect(),
            row: Tensor::zeros([batch, self.canvas.channels, 1, width], device),
            cursor: Cursor::new(&self.canvas),
            reached: false,
            canvas: self.canvas,
        };
        decoder.begin_row(None);
        Box::new(decoder)
    }
}

/// A vertical convolution on a picture that comes row by row.
struct RowStepper<'a> {
    conv: &'a Conv2d,
    /// The last rows of the input, as many as the kernel has, with its columns' padding.
    seen: Tensor<4>,
}

impl<'a> RowStepper<'a> {
    fn new(layer: &'a Layer, batch: usize, width: usize, device: &Device) -> Self {
        let [_, channels, kernel, columns] = layer.vertical.weight.dims();
        let seen = Tensor::zeros([batch, channels, kernel, width + columns - 1], device);
        Self { conv: &layer.vertical, seen }
    }

    fn push(&mut self, row: Tensor<4>) {
        let (kernel, side) = (self.seen.dims()[2], self.conv.kernel_size[1] / 2);
        let row = row.pad((side, side, 0, 0), 0.0);
        self.seen = match kernel {
            1 => row,
            _ => Tensor::cat(vec![self.seen.clone().narrow(2, 1, kernel - 1), row], 2),
        };
    }

    fn convolve(&self) -> Tensor<4> {
        kiln_blocks::convolve(self.conv, self.seen.clone())
    }
}

struct LayerStepper<'a> {
    layer: &'a Layer,
    vertical: RowStepper<'a>,
    /// What the vertical stack tells the horizontal one in this row, `[batch, 2 features, 1, width]`.
    across: Tensor<4>,
    horizontal: Stepper,
    out: Stepper,
    given_vertical: Option<Tensor<2>>,
    given_horizontal: Option<Tensor<2>>,
}

/// The same network: the vertical stack a row at a time, the horizontal one a pixel at a time.
struct GatedDecoder<'a> {
    layers: Vec<LayerStepper<'a>>,
    outputs: Vec<Stepper>,
    /// What is known of the current row, as the network is shown it.
    row: Tensor<4>,
    cursor: Cursor,
    /// Whether the layers have been at this place.
    reached: bool,
    canvas: Canvas,
}

impl GatedDecoder<'_> {
    /// The vertical stack in a new row, of which `above` is the one before.
    fn begin_row(&mut self, above: Option<Tensor<4>>) {
        let mut v: Option<Tensor<4>> = above;
        for step in &mut self.layers {
            if let Some(row) = v.take() {
                step.vertical.push(row);
            }
            let down = step.vertical.convolve();
            step.across = kiln_blocks::convolve(&step.layer.across, down.clone());
            v = Some(gate(everywhere(down, step.given_vertical.clone())));
        }
    }
}

impl Decoder for GatedDecoder<'_> {
    fn next(&mut self) -> Tensor<2> {
        let (column, part, width) = (self.cursor.column(), self.cursor.part(), self.canvas.family.width());
        let at = |x: &Tensor<4>| x.clone().narrow(3, column, 1).squeeze_dim::<3>(3).squeeze_dim::<2>(2);
        let mut h = at(&self.row);
        for step in &mut self.layers {
            let mut across = step.horizontal.at(column, h.clone()) + at(&step.across);
            if let Some(given) = &step.given_horizontal {
                across = across + given.clone();
            }
            let y = step.out.at(column, gate(across));
            h = if step.layer.is_first() { y } else { h + y };
        }
        let y = self.outputs.iter_mut().fold(h, |h, conv| conv.at(column, relu(h)));
        self.reached = true;
        y.narrow(1, part * width, width)
    }

    fn push(&mut self, value: Tensor<2>) {
        if !self.reached {
            // What is known needs no conditional, but the layers' features here are seen by the pixels to come.
            self.next();
        }
        let ([batch, channels], part, column) = (value.dims(), self.cursor.part(), self.cursor.column());
        let value = self.canvas.family.input(value).reshape([batch, channels, 1, 1]);
        let at = [0..batch, part..part + channels, 0..1, column..column + 1];
        self.row = self.row.clone().slice_assign(at, value);
        let pixel = self.row.clone().narrow(3, column, 1).reshape([batch, self.canvas.channels]);
        self.layers[0].horizontal.see(column, pixel);
        self.cursor.advance();
        self.reached = false;
        if self.cursor.begins_row() {
            for step in &mut self.layers {
                step.horizontal.next_row();
                step.out.next_row();
            }
            self.outputs.iter_mut().for_each(Stepper::next_row);
            let empty = self.row.zeros_like();
            let above = std::mem::replace(&mut self.row, empty);
            self.begin_row(Some(above));
        }
    }
}
