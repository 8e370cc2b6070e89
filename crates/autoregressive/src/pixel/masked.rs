//! Convolutions that do not see what comes later.
//!
//! ```text
//! W * M,    M = 1 above the centre's row and left of it;  at the centre where the input's channel comes before the output's (A),
//!                                                         or is it too (B)
//! ```
//!
//! In pictures of c channels features come in c groups, one a channel of the picture: those of a group see their own channel and
//! the ones before it (van den Oord et al. 2016, "Pixel Recurrent Neural Networks").

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops;

/// Whether a feature sees the pixel that it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Centre {
    /// Mask A: channels before its own. The first layer's, whose input is the picture.
    Before,
    /// Mask B: its own channel too. That of all others, whose input has seen no more.
    Own,
}

/// Features in groups, one a channel of the picture; `repeats` times over, where gates are made of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Features {
    pub(crate) count: usize,
    pub(crate) groups: usize,
    pub(crate) repeats: usize,
}

impl Features {
    pub(crate) fn new(count: usize, groups: usize) -> Self {
        Self { count, groups, repeats: 1 }
    }

    /// Twice as many: a value and a gate for each.
    pub(crate) fn with_gates(self) -> Self {
        Self { repeats: 2, ..self }
    }

    fn all(self) -> usize {
        self.count * self.repeats
    }

    /// The channel of the picture that a feature stands for.
    fn group(self, feature: usize) -> usize {
        feature % self.count * self.groups / self.count
    }
}

/// A convolution with a mask; the picture keeps its size.
#[derive(Module, Debug)]
pub(crate) struct MaskedConv2d {
    conv: Conv2d,
    /// `[out, in, height, width]`.
    mask: Tensor<4>,
}

impl MaskedConv2d {
    /// A kernel of `[rows, columns]`, of odd sides, masked.
    pub(crate) fn new(
        from: Features,
        to: Features,
        [rows, columns]: [usize; 2],
        centre: Centre,
        device: &Device,
    ) -> Self {
        let (row, column) = (rows / 2, columns / 2);
        let padding = PaddingConfig2d::Explicit(row, column, row, column);
        let conv = Conv2dConfig::new([from.all(), to.all()], [rows, columns]).with_padding(padding);
        let mut mask = Vec::with_capacity(to.all() * from.all() * rows * columns);
        for output in 0..to.all() {
            for input in 0..from.all() {
                let (input, output) = (from.group(input), to.group(output));
                let at_centre = match centre {
                    Centre::Before => input < output,
                    Centre::Own => input <= output,
                };
                mask.extend((0..rows * columns).map(|i| {
                    let (r, c) = (i / columns, i % columns);
                    f32::from(u8::from((r, c) < (row, column) || ((r, c) == (row, column) && at_centre)))
                }));
            }
        }
        let mask = Tensor::from_data(TensorData::new(mask, [to.all(), from.all(), rows, columns]), device);
        Self { conv: conv.init(device), mask }
    }

    pub(crate) fn weight(&self) -> Tensor<4> {
        self.conv.weight.val() * self.mask.clone()
    }

    pub(crate) fn bias(&self) -> Option<Tensor<1>> {
        self.conv.bias.as_ref().map(burn::module::Param::val)
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [rows, columns] = self.conv.kernel_size;
        let padding = [(rows / 2, rows / 2), (columns / 2, columns / 2)];
        let options = ConvOptions::new_with_padding([1, 1], padding, [1, 1], 1);
        ops::conv2d(x, self.weight(), self.bias(), options)
    }
}
