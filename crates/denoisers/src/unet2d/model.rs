//! The network that a [`UNet2DConfig`] describes.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_backend::ops::Activation;

use kiln_blocks::attention::rename_deprecated;
use kiln_blocks::embedding::SineOrder;
use kiln_blocks::{
    FourierProjection, FourierProjectionConfig, MidStage, Normalization, NormalizationConfig, Sinusoidal,
    SinusoidalConfig, TimestepEmbedding, TimestepEmbeddingConfig, conv3x3, convolve,
};
use kiln_checkpoint::{ConfigError, Pretrained};

use super::config::{ClassEmbedType, TimeEmbeddingType, UNet2DConfig};
use super::stages::{Down, Up};
use crate::unet2d_condition::ControlResiduals;

/// What a class-conditional network is told beside the time.
#[derive(Clone, Debug)]
pub enum ClassCondition {
    /// Rows of the table of classes, `[batch]`.
    Labels(Tensor<1, Int>),
    /// Numbers that are embedded as times are, `[batch]` (`class_embed_type` = `timestep`).
    Numbers(Tensor<1>),
    /// Vectors that are added to the time embedding, `[batch, time_channels]` (`class_embed_type` = `identity`).
    Vectors(Tensor<2>),
}

#[derive(Module, Debug)]
enum TimeProjection {
    Positional(Sinusoidal),
    Fourier(FourierProjection),
    Learned(Embedding),
}

impl TimeProjection {
    fn forward(&self, times: Tensor<1>) -> Tensor<2> {
        match self {
            Self::Positional(sinusoidal) => sinusoidal.forward(times),
            Self::Fourier(fourier) => fourier.forward(times),
            Self::Learned(table) => lookup(table, times.int()),
        }
    }
}

/// Rows of a table, `[batch]` to `[batch, width]`.
fn lookup(table: &Embedding, rows: Tensor<1, Int>) -> Tensor<2> {
    table.forward(rows.unsqueeze_dim(1)).squeeze_dim(1)
}

/// Stands where a condition is added as it is: a module with no parameters.
#[derive(Module, Debug)]
struct AddedAsIs {
    channels: usize,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a network")]
enum ClassEmbedding {
    Table(Embedding),
    Number(TimestepEmbedding),
    Vector(AddedAsIs),
}

/// U-Net of a `UNet2DModel`; see the [module](super).
#[derive(Module, Debug)]
pub struct UNet2D {
    conv_in: Conv2d,
    time_proj: TimeProjection,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<ClassEmbedding>,
    down_blocks: Vec<Down>,
    mid_block: Option<MidStage>,
    up_blocks: Vec<Up>,
    conv_norm_out: Normalization,
    conv_out: Conv2d,
    center_input_sample: bool,
}

/// The way down of a [`UNet2D`] with its middle, as a network of its own: what control networks start as.
#[derive(Module, Debug)]
pub struct UNet2DEncoder {
    conv_in: Conv2d,
    time_proj: TimeProjection,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<ClassEmbedding>,
    down_blocks: Vec<Down>,
    mid_block: Option<MidStage>,
    center_input_sample: bool,
}

/// The layers of a way down, whosever they are.
struct WayDown<'a> {
    conv_in: &'a Conv2d,
    time_proj: &'a TimeProjection,
    time_embedding: &'a TimestepEmbedding,
    class_embedding: Option<&'a ClassEmbedding>,
    down_blocks: &'a [Down],
    mid_block: Option<&'a MidStage>,
    center_input_sample: bool,
}

/// What a way down gives.
struct Encoded {
    x: Tensor<4>,
    skips: Vec<Tensor<4>>,
    time: Tensor<2>,
}

impl Pretrained for UNet2D {
    const CLASSES: &'static [&'static str] = &["UNet2DModel"];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        UNet2DConfig::from_json(config)?.init(device)
    }

    fn rename(name: &str) -> Option<String> {
        rename_deprecated(name)
    }
}

impl UNet2DConfig {
    /// The network with PyTorch's default initialisation on `device`; [`seeded`](crate::seeded) makes that reproducible.
    ///
    /// # Errors
    ///
    /// As [`validate`](UNet2DConfig::validate).
    pub fn init(&self, device: &Device) -> Result<UNet2D, ConfigError> {
        self.validate()?;
        let first = self.block_out_channels[0];
        let innermost = self.block_out_channels[self.block_out_channels.len() - 1];
        let down_blocks = self.init_down(device);
        let mid_block = self.mid_block_type.map(|_| self.init_mid(innermost, device));
        let up_blocks = self.init_up(innermost, device);
        let (time_proj, time_input) = match self.time_embedding_type {
            TimeEmbeddingType::Positional => {
                let order = if self.flip_sin_to_cos { SineOrder::CosineFirst } else { SineOrder::SineFirst };
                let sinusoidal =
                    SinusoidalConfig::new(first).with_order(order).with_freq_shift(self.freq_shift).init();
                (TimeProjection::Positional(sinusoidal), first)
            }
            TimeEmbeddingType::Fourier => {
                (TimeProjection::Fourier(FourierProjectionConfig::new(first).init(device)), 2 * first)
            }
            TimeEmbeddingType::Learned => {
                let rows = self.num_train_timesteps.unwrap_or_default();
                (TimeProjection::Learned(EmbeddingConfig::new(rows, first).init(device)), first)
            }
        };
        let time_embedding = || TimestepEmbeddingConfig::new(time_input, self.time_channels()).init(device);
        let class_embedding = match (self.class_embed_type, self.num_class_embeds) {
            (Some(ClassEmbedType::Timestep), _) => Some(ClassEmbedding::Number(time_embedding())),
            (Some(ClassEmbedType::Identity), _) => {
                Some(ClassEmbedding::Vector(AddedAsIs { channels: self.time_channels() }))
            }
            (None, Some(classes)) => {
                Some(ClassEmbedding::Table(EmbeddingConfig::new(classes, self.time_channels()).init(device)))
            }
            (None, None) => None,
        };
        Ok(UNet2D {
            conv_in: conv3x3([self.in_channels, first], device),
            time_proj,
            time_embedding: time_embedding(),
            class_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: NormalizationConfig::new(first, self.groups_or_fours(first))
                .with_eps(self.norm_eps)
                .init(device),
            conv_out: conv3x3([first, self.out_channels], device),
            center_input_sample: self.center_input_sample,
        })
    }
}

impl UNet2D {
    /// Predict from `sample`, `[batch, in_channels, height, width]`, at `timesteps`, `[batch]` (whole or not), for the
    /// classes `class_labels`, `[batch]`, where the network has a table of classes. The result is
    /// `[batch, out_channels, height, width]`.
    ///
    /// # Panics
    ///
    /// As [`forward_with`](Self::forward_with) does.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        class_labels: Option<Tensor<1, Int>>,
    ) -> Tensor<4> {
        self.forward_with(sample, timesteps, class_labels.map(ClassCondition::Labels))
    }

    /// As [`forward`](Self::forward), with any kind of condition.
    ///
    /// # Panics
    ///
    /// If the network is conditional and gets no condition, or another kind of condition than it was made for, and if
    /// `timesteps` does not hold one number a sample.
    #[must_use]
    pub fn forward_with(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        condition: Option<ClassCondition>,
    ) -> Tensor<4> {
        self.forward_controlled(sample, timesteps, condition, None)
    }

    /// As [`forward_with`](Self::forward_with), with what a control network adds to the skip connections and the middle.
    ///
    /// # Panics
    ///
    /// As [`forward_with`](Self::forward_with) does, and if `residuals` are not as many as the skip connections, or don't fit them.
    #[must_use]
    pub fn forward_controlled(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        condition: Option<ClassCondition>,
        residuals: Option<ControlResiduals>,
    ) -> Tensor<4> {
        let [batch, _, _, _] = sample.dims();
        let dtype = sample.dtype();
        let Encoded { mut x, mut skips, time } =
            self.way_down().forward(sample, timesteps.clone(), condition, None);
        if let Some(residuals) = residuals {
            let (count, given) = (skips.len(), residuals.down.len());
            assert_eq!(given, count, "{given} residuals for the {count} skip connections");
            skips = skips.into_iter().zip(residuals.down).map(|(skip, residual)| skip + residual).collect();
            x = x + residuals.mid;
        }
        let mut picture = None;
        for stage in &self.up_blocks {
            (x, picture) = stage.forward(x, picture, &time, &mut skips);
        }
        let x = convolve(&self.conv_out, self.conv_norm_out.forward(x, Activation::Silu));
        let x = match picture {
            Some(picture) => x + picture,
            None => x,
        };
        match self.time_proj {
            // Here the network gives a score, whose size goes with 1 / sigma.
            TimeProjection::Fourier(_) => x / timesteps.cast(dtype).reshape([batch, 1, 1, 1]),
            TimeProjection::Positional(_) | TimeProjection::Learned(_) => x,
        }
    }

    /// A copy of the way down with the middle.
    #[must_use]
    pub fn encoder(&self) -> UNet2DEncoder {
        UNet2DEncoder {
            conv_in: self.conv_in.clone(),
            time_proj: self.time_proj.clone(),
            time_embedding: self.time_embedding.clone(),
            class_embedding: self.class_embedding.clone(),
            down_blocks: self.down_blocks.clone(),
            mid_block: self.mid_block.clone(),
            center_input_sample: self.center_input_sample,
        }
    }

    fn way_down(&self) -> WayDown<'_> {
        WayDown {
            conv_in: &self.conv_in,
            time_proj: &self.time_proj,
            time_embedding: &self.time_embedding,
            class_embedding: self.class_embedding.as_ref(),
            down_blocks: &self.down_blocks,
            mid_block: self.mid_block.as_ref(),
            center_input_sample: self.center_input_sample,
        }
    }
}

impl UNet2DEncoder {
    /// The features that a U-Net would keep for its way up, in the order that they are made, and those after the middle.
    ///
    /// # Shapes
    ///
    /// - `sample`: `[batch, in_channels, height, width]`; `timesteps`: `[batch]`.
    /// - `hint`: added to the first features, `[batch, block_out_channels[0], height, width]`.
    ///
    /// # Panics
    ///
    /// As [`UNet2D::forward_with`] does, and if `hint` does not fit the first features.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        condition: Option<ClassCondition>,
        hint: Tensor<4>,
    ) -> (Vec<Tensor<4>>, Tensor<4>) {
        let way_down = WayDown {
            conv_in: &self.conv_in,
            time_proj: &self.time_proj,
            time_embedding: &self.time_embedding,
            class_embedding: self.class_embedding.as_ref(),
            down_blocks: &self.down_blocks,
            mid_block: self.mid_block.as_ref(),
            center_input_sample: self.center_input_sample,
        };
        let encoded = way_down.forward(sample, timesteps, condition, Some(hint));
        (encoded.skips, encoded.x)
    }
}

impl WayDown<'_> {
    fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        condition: Option<ClassCondition>,
        hint: Option<Tensor<4>>,
    ) -> Encoded {
        assert_eq!(timesteps.dims(), [sample.dims()[0]], "one timestep a sample");
        let dtype = sample.dtype();
        let time = self.time_embedding.forward(self.time_proj.forward(timesteps).cast(dtype));
        let time = match self.embed(condition, dtype) {
            Some(class) => time + class,
            None => time,
        };

        let x = if self.center_input_sample { sample * 2.0 - 1.0 } else { sample };
        // Beside the features goes a picture, where stages take one: smaller and smaller on the way down, and on the way up
        // the sum of what they make.
        let mut picture = x.clone();
        let mut x = convolve(self.conv_in, x);
        if let Some(hint) = hint {
            x = x + hint;
        }
        let mut skips = vec![x.clone()];
        for stage in self.down_blocks {
            (x, picture) = stage.forward(x, picture, &time, &mut skips);
        }
        if let Some(stage) = self.mid_block {
            x = stage.forward(x, Some(&time));
        }
        Encoded { x, skips, time }
    }

    fn embed(&self, condition: Option<ClassCondition>, dtype: burn::tensor::DType) -> Option<Tensor<2>> {
        match (self.class_embedding, condition) {
            (None, None) => None,
            (Some(ClassEmbedding::Table(table)), Some(ClassCondition::Labels(labels))) => {
                Some(lookup(table, labels))
            }
            (Some(ClassEmbedding::Number(layers)), Some(ClassCondition::Numbers(numbers))) => {
                Some(layers.forward(self.time_proj.forward(numbers).cast(dtype)))
            }
            (Some(ClassEmbedding::Vector(_)), Some(ClassCondition::Vectors(vectors))) => Some(vectors),
            (None, Some(_)) => panic!("this network takes no class"),
            (Some(_), None) => panic!("this network needs a class for every sample"),
            (Some(expected), Some(_)) => panic!("this network takes another kind of class: {expected:?}"),
        }
    }
}
