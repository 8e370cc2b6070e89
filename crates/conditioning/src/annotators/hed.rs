//! HED, a network that finds edges at five scales (Xie and Tu 2015, "Holistically-Nested Edge Detection").
//!
//! ```text
//! h_0 = picture - norm                                  pictures in 0..255
//! h_i = (relu conv)^n_i (halve h_(i-1))                 VGG's five blocks; the first does not halve
//! s_i = enlarge(w_i h_i + b_i)                          one channel, linearly to the picture's sides
//! y   = sigmoid(mean_i s_i)  or  sigmoid(sum_i f_i s_i + f_0)
//! ```
//!
//! The mean is that of the network beside ControlNet (`ControlNetHED.pth`), which reads RGB; the weighted sum is HED's own,
//! on VGG in BGR.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops::{InterpolationMode, interpolate};
use kiln_blocks::{conv3x3, convolve};
use kiln_checkpoint::{Checkpoint, View};
use kiln_picture::{Channels, Picture};

use super::AnnotatorError;

/// Channels of the five blocks, and convolutions in each.
const BLOCKS: [(usize, usize); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];
/// Four halvings leave one pixel of these.
const LEAST_SIDE: u32 = 16;
/// What VGG's pictures are lessened by: the mean of ImageNet's blue, green and red.
const VGG_MEAN: [f32; 3] = [104.006_99, 116.668_77, 122.678_92];

const HALVE: MaxPoolOptions<2> = MaxPoolOptions {
    kernel_size: [2, 2],
    stride: [2, 2],
    padding: [(0, 0), (0, 0)],
    dilation: [1, 1],
    ceil_mode: false,
};

/// Whose network it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HedLayout {
    /// ControlNet's: RGB, a learnt `norm`, the mean of the side outputs.
    #[default]
    ControlNet,
    /// HED's own, on VGG: BGR, ImageNet's mean, a learnt sum of the side outputs.
    Vgg,
}

/// Sizes of a [`Hed`].
#[derive(Clone, Copy, Debug)]
pub struct HedConfig {
    /// Channels of the five blocks, and convolutions in each.
    pub blocks: [(usize, usize); 5],
    /// Whose network it is.
    pub layout: HedLayout,
}

#[derive(Module, Debug)]
struct Block {
    convs: Vec<Conv2d>,
    projection: Conv2d,
}

/// The network, as its file describes it.
#[derive(Module, Debug)]
pub struct Hed {
    norm: Param<Tensor<4>>,
    block1: Block,
    block2: Block,
    block3: Block,
    block4: Block,
    block5: Block,
    fuse: Option<Conv2d>,
}

impl HedConfig {
    /// The published sizes.
    #[must_use]
    pub fn new(layout: HedLayout) -> Self {
        Self { blocks: BLOCKS, layout }
    }

    /// The network with PyTorch's default initialisation, for a file to fill.
    #[must_use]
    pub fn init(&self, device: &Device) -> Hed {
        let point = |from| Conv2dConfig::new([from, 1], [1, 1]).init(device);
        let block = |i: usize| {
            let (channels, layers) = self.blocks[i];
            let before = if i == 0 { 3 } else { self.blocks[i - 1].0 };
            let from = |layer| if layer == 0 { before } else { channels };
            Block {
                convs: (0..layers).map(|layer| conv3x3([from(layer), channels], device)).collect(),
                projection: point(channels),
            }
        };
        let mean = match self.layout {
            HedLayout::ControlNet => [0.0; 3],
            HedLayout::Vgg => VGG_MEAN,
        };
        Hed {
            norm: Param::from_tensor(Tensor::from_data(TensorData::new(mean.to_vec(), [1, 3, 1, 1]), device)),
            block1: block(0),
            block2: block(1),
            block3: block(2),
            block4: block(3),
            block5: block(4),
            fuse: (self.layout == HedLayout::Vgg).then(|| point(self.blocks.len())),
        }
    }
}

impl HedLayout {
    /// Whose names the tensors of a file have.
    fn of(weights: &Checkpoint) -> Option<Self> {
        let has = |name| weights.info(name).is_some();
        if has("norm") && has("block1.projection.weight") {
            Some(Self::ControlNet)
        } else if has("dsn1.weight") && has("fuse.weight") {
            Some(Self::Vgg)
        } else {
            None
        }
    }
}

/// The names of this network for HED's own: `block1.conv2.weight` is `block1.convs.1.weight`, `dsn1.bias` is
/// `block1.projection.bias`.
fn vgg_names(blocks: &[(usize, usize); 5]) -> Vec<View> {
    let mut views = Vec::new();
    for kind in ["weight", "bias"] {
        for (i, (_, layers)) in (1..).zip(blocks) {
            for layer in 0..*layers {
                let source = format!("block{i}.conv{}.{kind}", layer + 1);
                views.push(View::renamed(format!("block{i}.convs.{layer}.{kind}"), source));
            }
            views.push(View::renamed(format!("block{i}.projection.{kind}"), format!("dsn{i}.{kind}")));
        }
        views.push(View::renamed(format!("fuse.{kind}"), format!("fuse.{kind}")));
    }
    views
}

/// Channels and convolutions of each block, by the tensors that a file has.
fn sizes(weights: &Checkpoint, layout: HedLayout) -> Option<[(usize, usize); 5]> {
    let channels = |block: usize, layer: usize| {
        let name = match layout {
            HedLayout::ControlNet => format!("block{block}.convs.{layer}.weight"),
            HedLayout::Vgg => format!("block{block}.conv{}.weight", layer + 1),
        };
        weights.info(&name)?.shape.first().copied()
    };
    let mut blocks = BLOCKS;
    for (block, size) in (1..).zip(&mut blocks) {
        *size = (channels(block, 0)?, (1..).find(|&layer| channels(block, layer).is_none())?);
    }
    Some(blocks)
}

impl Hed {
    /// The network of a file: `ControlNetHED.pth`, the same as safetensors, or HED's own under VGG's names. Its sizes are the file's.
    ///
    /// # Errors
    /// [`AnnotatorError::NotHed`] for tensors of another network, [`AnnotatorError::Weights`] for a file that can't be read.
    pub fn load(weights: &Checkpoint, device: &Device) -> Result<Self, AnnotatorError> {
        let layout = HedLayout::of(weights);
        let known = layout.and_then(|layout| Some((layout, sizes(weights, layout)?)));
        let Some((layout, blocks)) = known else {
            return Err(AnnotatorError::NotHed { file: weights.label().to_owned() });
        };
        let network = HedConfig { blocks, layout }.init(device);
        let loaded = match layout {
            HedLayout::ControlNet => weights.load_into(network)?,
            HedLayout::Vgg => {
                weights.view(vgg_names(&blocks))?.load_into_but(network, |name| name == "norm")?
            }
        };
        Ok(loaded.module)
    }

    /// How surely each pixel is an edge, 0 to 1, `[batch, 1, height, width]`, of RGB pictures in 0..255,
    /// `[batch, 3, height, width]`.
    ///
    /// # Panics
    /// If a side is shorter than 16 pixels.
    #[must_use]
    pub fn forward(&self, pictures: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = pictures.dims();
        assert!(
            height.min(width) >= LEAST_SIDE as usize,
            "HED needs 16 pixels on each side, not {height} x {width}"
        );
        let pictures = pictures.cast(self.norm.val().dtype());
        let pictures = if self.fuse.is_some() { pictures.flip([1]) } else { pictures };
        let mut h = pictures - self.norm.val();
        let blocks = [&self.block1, &self.block2, &self.block3, &self.block4, &self.block5];
        let mut sides = Vec::with_capacity(blocks.len());
        for (i, block) in blocks.into_iter().enumerate() {
            if i > 0 {
                h = max_pool2d(h, HALVE);
            }
            h = block.convs.iter().fold(h, |h, conv| relu(convolve(conv, h)));
            let side = convolve(&block.projection, h.clone());
            sides.push(interpolate(side, [height, width], InterpolationMode::Bilinear));
        }
        let sides = Tensor::cat(sides, 1);
        sigmoid(match &self.fuse {
            Some(fuse) => convolve(fuse, sides),
            None => sides.mean_dim(1),
        })
    }

    /// The soft edges of `picture` in grey, as large as the picture; opacity is not looked at.
    ///
    /// # Errors
    /// [`AnnotatorError::TooSmall`].
    pub fn annotate(&self, picture: &Picture) -> Result<Picture, AnnotatorError> {
        let (width, height) = (picture.width(), picture.height());
        if width.min(height) < LEAST_SIDE {
            return Err(AnnotatorError::TooSmall { width, height, least: LEAST_SIDE });
        }
        let pixels: Vec<f32> =
            picture.convert(Channels::Rgb).samples().iter().map(|&sample| f32::from(sample)).collect();
        let pixels = TensorData::new(pixels, [1, height as usize, width as usize, 3]);
        let pixels = Tensor::<4>::from_data(pixels, &self.norm.val().device()).permute([0, 3, 1, 2]);
        let edges = self.forward(pixels).into_data();
        let samples = edges.iter::<f32>().map(|edge| (edge * 255.0) as u8).collect();
        Ok(Picture::new(width, height, Channels::Grey, samples)?)
    }
}
