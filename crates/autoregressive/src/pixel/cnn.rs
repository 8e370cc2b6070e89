//! PixelCNN (van den Oord et al. 2016, "Pixel Recurrent Neural Networks").
//!
//! ```text
//! h = conv k x k, mask A
//! h <- h + conv1x1(relu(conv3x3 mask B(relu(conv1x1(relu(h))))))        a block; the inner width is half the outer
//! numbers = conv1x1(relu(conv1x1(relu(h))))
//! ```
//!
//! Each pixel is drawn after those above and those on its left. Since a masked 3 x 3 kernel reaches one pixel to the right in the row
//! above and none in its own, what lies above to the right at a steeper angle stays unseen, however many blocks there are: the
//! blind spot, which [`GatedPixelCnn`](super::GatedPixelCnn) has not.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::cache::Stepper;
use super::masked::{Centre, Features, MaskedConv2d};
use super::{Canvas, Cursor};
use crate::error::config;
use crate::given::Given;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// Configuration of a [`PixelCnn`].
#[derive(Config, Debug)]
pub struct PixelCnnConfig {
    /// What is drawn.
    pub canvas: Canvas,
    /// Features of a pixel; twice as many as the blocks have inside. A multiple of twice the channels.
    #[config(default = 64)]
    pub features: usize,
    /// Number of blocks.
    #[config(default = 7)]
    pub blocks: usize,
    /// Side of the first kernel, odd.
    #[config(default = 7)]
    pub kernel: usize,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// Masked convolutions, one upon the other; see the [module](self).
#[derive(Module, Debug)]
pub struct PixelCnn {
    input: MaskedConv2d,
    blocks: Vec<Block>,
    outputs: Vec<MaskedConv2d>,
    #[module(skip)]
    canvas: Canvas,
    #[module(skip)]
    order: Order,
}

#[derive(Module, Debug)]
struct Block {
    reduce: MaskedConv2d,
    conv: MaskedConv2d,
    expand: MaskedConv2d,
    given: Given,
}

impl PixelCnnConfig {
    /// The model on `device`, as PyTorch starts convolutions.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<PixelCnn, AutoregressiveError> {
        let Self { canvas, features, blocks, kernel, given } = *self;
        canvas.check()?;
        let parts = canvas.parts();
        check_features("features", features, 2 * parts)?;
        check_kernel(kernel)?;
        let outer = Features::new(features, parts);
        let inner = Features::new(features / 2, parts);
        let picture = Features::new(canvas.channels, parts);
        let numbers = Features::new(parts * canvas.family.width(), parts);
        let own = |from, to, side: usize| MaskedConv2d::new(from, to, [side, side], Centre::Own, device);
        let block = |_| Block {
            reduce: own(outer, inner, 1),
            conv: own(inner, inner, 3),
            expand: own(inner, outer, 1),
            given: Given::new(given, features, device),
        };
        Ok(PixelCnn {
            input: MaskedConv2d::new(picture, outer, [kernel, kernel], Centre::Before, device),
            blocks: (0..blocks).map(block).collect(),
            outputs: vec![own(outer, outer, 1), own(outer, numbers, 1)],
            canvas,
            order: canvas.order(),
        })
    }
}

/// Whether features come in equal groups for the channels.
pub(super) fn check_features(
    field: &'static str,
    features: usize,
    divisor: usize,
) -> Result<(), AutoregressiveError> {
    if features > 0 && features.is_multiple_of(divisor) {
        return Ok(());
    }
    config(field, format!("is {features}; masks by channel need a multiple of {divisor}"))
}

/// Whether a kernel has a centre.
pub(super) fn check_kernel(kernel: usize) -> Result<(), AutoregressiveError> {
    match kernel % 2 {
        1 => Ok(()),
        _ => config("kernel", format!("is {kernel}; a mask has a centre, so the side must be odd")),
    }
}

impl Block {
    fn forward(&self, h: Tensor<4>, given: Option<&Tensor<2>>) -> Tensor<4> {
        let h = match self.given.of(given) {
            Some(given) => h + given.unsqueeze_dim::<3>(2).unsqueeze_dim::<4>(3),
            None => h,
        };
        let y = self.reduce.forward(relu(h.clone()));
        let y = self.conv.forward(relu(y));
        h + self.expand.forward(relu(y))
    }
}

impl AutoregressiveModel for PixelCnn {
    fn family(&self) -> Family {
        self.canvas.family
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.blocks.first().map_or(0, |block| block.given.width())
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        let h = self.input.forward(self.canvas.picture(x));
        let h = self.blocks.iter().fold(h, |h, block| block.forward(h, given.as_ref()));
        let y = self.outputs.iter().fold(h, |h, conv| conv.forward(relu(h)));
        self.canvas.parameters(y)
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let device = &crate::model::device(self);
        let stepper = |conv: &MaskedConv2d| Stepper::new(conv, batch, self.canvas.width, device);
        let block = |block: &Block| BlockStepper {
            convs: [&block.reduce, &block.conv, &block.expand].map(stepper),
            given: block.given.of(given.as_ref()),
        };
        Box::new(PixelCnnDecoder {
            input: stepper(&self.input),
            blocks: self.blocks.iter().map(block).collect(),
            outputs: self.outputs.iter().map(stepper).collect(),
            pixel: Tensor::zeros([batch, self.canvas.channels], device),
            cursor: Cursor::new(&self.canvas),
            reached: false,
            canvas: self.canvas,
        })
    }
}

struct BlockStepper {
    convs: [Stepper; 3],
    given: Option<Tensor<2>>,
}

/// The same network, a pixel at a time.
struct PixelCnnDecoder {
    input: Stepper,
    blocks: Vec<BlockStepper>,
    outputs: Vec<Stepper>,
    /// What is known of the pixel at hand, as the network is shown it.
    pixel: Tensor<2>,
    cursor: Cursor,
    /// Whether the layers have been at this place.
    reached: bool,
    canvas: Canvas,
}

impl Decoder for PixelCnnDecoder {
    fn next(&mut self) -> Tensor<2> {
        let (column, part, width) = (self.cursor.column(), self.cursor.part(), self.canvas.family.width());
        let mut h = self.input.at(column, self.pixel.clone());
        for BlockStepper { convs, given } in &mut self.blocks {
            if let Some(given) = given {
                h = h + given.clone();
            }
            let y = convs.iter_mut().fold(h.clone(), |y, conv| conv.at(column, relu(y)));
            h = h + y;
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
        let ([batch, channels], part) = (value.dims(), self.cursor.part());
        let value = self.canvas.family.input(value);
        self.pixel = self.pixel.clone().slice_assign([0..batch, part..part + channels], value);
        self.input.see(self.cursor.column(), self.pixel.clone());
        self.cursor.advance();
        self.reached = false;
        if self.cursor.part() == 0 {
            self.pixel = self.pixel.zeros_like();
        }
        if self.cursor.begins_row() {
            let blocks = self.blocks.iter_mut().flat_map(|block| &mut block.convs);
            let all = std::iter::once(&mut self.input).chain(blocks).chain(&mut self.outputs);
            all.for_each(Stepper::next_row);
        }
    }
}
