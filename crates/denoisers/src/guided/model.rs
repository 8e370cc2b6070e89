//! The network that a [`GuidedUNetConfig`] describes.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{DType, Device, Tensor};
use kiln_backend::ops::Activation;
use kiln_blocks::{Normalization, Resampling, Sinusoidal, SinusoidalConfig, conv3x3, convolve};
use kiln_checkpoint::{ConfigError, Pretrained};

use super::config::GuidedUNetConfig;
use super::layers::{
    Layer, Mlp, PixelAttention, QkvOrder, Resample, ResidualKind, Silu, apply_mlp, init_mlp, init_norm,
};
use crate::unet2d::ClassCondition;

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a network")]
enum LabelEmbedding {
    Table(Embedding),
    Layers(Mlp),
}

/// U-Net of OpenAI's diffusion models; see the [module](super).
#[derive(Module, Debug)]
pub struct GuidedUNet {
    time_proj: Sinusoidal,
    time_embed: Mlp,
    label_emb: Option<LabelEmbedding>,
    input_blocks: Vec<Vec<Layer>>,
    middle_block: Vec<Layer>,
    output_blocks: Vec<Vec<Layer>>,
    out: (Normalization, Silu, Conv2d),
}

impl Pretrained for GuidedUNet {
    const CLASSES: &'static [&'static str] = &["GuidedUNet"];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        GuidedUNetConfig::from_json(config)?.init(device)
    }
}

impl GuidedUNetConfig {
    /// The network with PyTorch's default initialisation on `device`; [`seeded`](crate::seeded) makes that reproducible.
    ///
    /// # Errors
    ///
    /// As [`validate`](GuidedUNetConfig::validate).
    pub fn init(&self, device: &Device) -> Result<GuidedUNet, ConfigError> {
        self.validate()?;
        let time_channels = self.time_channels();
        let (input_blocks, skips) = self.init_input(device);
        let innermost = self.channels(self.channel_mult.len() - 1);
        let residual = || self.residual([innermost; 2], Resampling::None, device);
        Ok(GuidedUNet {
            time_proj: SinusoidalConfig::new(self.model_channels).init(),
            time_embed: init_mlp(self.model_channels, time_channels, device),
            label_emb: match (self.num_classes, self.label_channels) {
                (Some(classes), _) => {
                    Some(LabelEmbedding::Table(EmbeddingConfig::new(classes, time_channels).init(device)))
                }
                (None, Some(width)) => Some(LabelEmbedding::Layers(init_mlp(width, time_channels, device))),
                (None, None) => None,
            },
            input_blocks,
            middle_block: vec![residual(), self.attention(innermost, self.num_heads, device), residual()],
            output_blocks: self.init_output(innermost, skips, device),
            out: (
                init_norm(self.channels(0), device),
                Silu::default(),
                conv3x3([self.channels(0), self.out_channels], device),
            ),
        })
    }

    fn residual(&self, channels: [usize; 2], resampling: Resampling, device: &Device) -> Layer {
        let kind = ResidualKind {
            time_channels: self.time_channels(),
            scale_shift: self.use_scale_shift_norm,
            dropout: self.dropout,
        };
        Layer::Residual(kind.init(channels, resampling, device))
    }

    fn attention(&self, channels: usize, otherwise: usize, device: &Device) -> Layer {
        let order =
            if self.use_new_attention_order { QkvOrder::ThreeThenHeads } else { QkvOrder::HeadsThenThree };
        Layer::Attention(PixelAttention::init(channels, self.heads(channels, otherwise), order, device))
    }

    fn resample(&self, resampling: Resampling, channels: usize, device: &Device) -> Layer {
        if self.resblock_updown {
            self.residual([channels; 2], resampling, device)
        } else {
            Layer::Resample(Resample::init(resampling, self.conv_resample, channels, device))
        }
    }

    /// The way down, and the channels that each of its blocks leaves.
    fn init_input(&self, device: &Device) -> (Vec<Vec<Layer>>, Vec<usize>) {
        let mut channels = self.channels(0);
        let mut blocks = vec![vec![Layer::Convolution(conv3x3([self.in_channels, channels], device))]];
        let mut skips = vec![channels];
        for level in 0..self.channel_mult.len() {
            let out = self.channels(level);
            for _ in 0..self.num_res_blocks {
                let mut block = vec![self.residual([channels, out], Resampling::None, device)];
                channels = out;
                if self.attends(level) {
                    block.push(self.attention(channels, self.num_heads, device));
                }
                blocks.push(block);
                skips.push(channels);
            }
            if level + 1 < self.channel_mult.len() {
                blocks.push(vec![self.resample(Resampling::Down, channels, device)]);
                skips.push(channels);
            }
        }
        (blocks, skips)
    }

    /// The way up; its blocks meet skip connections of `skips` channels, the last first.
    fn init_output(&self, innermost: usize, mut skips: Vec<usize>, device: &Device) -> Vec<Vec<Layer>> {
        let mut channels = innermost;
        let mut blocks = Vec::new();
        for level in (0..self.channel_mult.len()).rev() {
            let out = self.channels(level);
            for i in 0..=self.num_res_blocks {
                let joined = channels + skips.pop().unwrap_or_default();
                let mut block = vec![self.residual([joined, out], Resampling::None, device)];
                channels = out;
                if self.attends(level) {
                    block.push(self.attention(channels, self.heads_upsample(), device));
                }
                if level > 0 && i == self.num_res_blocks {
                    block.push(self.resample(Resampling::Up, channels, device));
                }
                blocks.push(block);
            }
        }
        blocks
    }
}

impl GuidedUNet {
    /// Predict from `sample`, `[batch, in_channels, height, width]`, at `timesteps`, `[batch]` (whole or not), for a label
    /// where the network takes one: [`Labels`](ClassCondition::Labels) are rows of its table of classes,
    /// [`Numbers`](ClassCondition::Numbers) or [`Vectors`](ClassCondition::Vectors) go through its layers. The result is
    /// `[batch, out_channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If the network takes a label and gets none, or another kind of label than it was made for, and if `timesteps` does
    /// not hold one number a sample.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        label: Option<ClassCondition>,
    ) -> Tensor<4> {
        let [batch, _, _, _] = sample.dims();
        assert_eq!(timesteps.dims(), [batch], "one timestep a sample");
        let dtype = sample.dtype();
        let time = apply_mlp(&self.time_embed, self.time_proj.forward(timesteps).cast(dtype));
        let time = match self.embed(label, dtype) {
            Some(label) => time + label,
            None => time,
        };

        let mut x = sample;
        let mut skips: Vec<Tensor<4>> = Vec::new();
        for block in &self.input_blocks {
            x = run(block, x, &time, None);
            skips.push(x.clone());
        }
        x = run(&self.middle_block, x, &time, None);
        for block in &self.output_blocks {
            let skip = skips.pop().expect("as many blocks on the way up as on the way down");
            x = run(block, Tensor::cat(vec![x, skip], 1), &time, skips.last());
        }
        convolve(&self.out.2, self.out.0.forward(x, Activation::Silu))
    }

    fn embed(&self, label: Option<ClassCondition>, dtype: DType) -> Option<Tensor<2>> {
        match (&self.label_emb, label) {
            (None, None) => None,
            (Some(LabelEmbedding::Table(table)), Some(ClassCondition::Labels(labels))) => {
                Some(table.forward(labels.unsqueeze_dim(1)).squeeze_dim(1))
            }
            (Some(LabelEmbedding::Layers(layers)), Some(ClassCondition::Numbers(numbers))) => {
                Some(apply_mlp(layers, numbers.cast(dtype).unsqueeze_dim(1)))
            }
            (Some(LabelEmbedding::Layers(layers)), Some(ClassCondition::Vectors(vectors))) => {
                Some(apply_mlp(layers, vectors.cast(dtype)))
            }
            (None, Some(_)) => panic!("this network takes no label"),
            (Some(_), None) => panic!("this network needs a label for every sample"),
            (Some(expected), Some(_)) => panic!("this network takes another kind of label: {expected:?}"),
        }
    }
}

/// The layers of a block in turn. One that enlarges gives the sides of `next`, the skip connection that is met then: twice
/// its own, or one less where halving had rounded up.
fn run(block: &[Layer], x: Tensor<4>, time: &Tensor<2>, next: Option<&Tensor<4>>) -> Tensor<4> {
    let [_, _, height, width] = match next {
        Some(skip) => skip.dims(),
        None => x.dims(),
    };
    block.iter().fold(x, |x, layer| layer.forward(x, time, [height, width]))
}
