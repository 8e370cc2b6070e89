//! What a network is told beside the sample, as one vector and one sequence.
//!
//! ```text
//! vector   time_embedding(sinusoids(t) + W guidance) + class_embedding(class) + add_embedding(addition)
//! context  the prompt's states, or what is projected from them and from an image
//! ```
//!
//! Additions are those of SDXL (Podell et al. 2023, section 2.2: the pooled prompt, and the sinusoids of sizes and crops), of
//! DeepFloyd IF and of Kandinsky 2.

use burn::module::{Module, Param, ParamId};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use kiln_attention::{AttentionOptions, multi_head};
use kiln_blocks::embedding::SineOrder;
use kiln_blocks::{Sinusoidal, SinusoidalConfig, TimestepEmbedding, TimestepEmbeddingConfig};

use super::conditions::Conditions;
use super::encoder_config::{AdditionEmbedType, ClassEmbedType, EncoderConfig, EncoderHidDimType};
use crate::unet2d::ClassCondition;

/// A class as a vector.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a network")]
pub enum ClassEmbedding {
    /// A row of a table.
    Table(Embedding),
    /// A number, as a time is embedded.
    Number(TimestepEmbedding),
    /// A vector, through two layers.
    Projection(TimestepEmbedding),
    /// A vector, through one layer.
    SimpleProjection(Linear),
    /// A vector, as it is.
    Vector(AsItIs),
}

/// Stands where a vector is taken as it is: a module with no parameters.
#[derive(Module, Debug, Default)]
pub struct AsItIs {}

/// What else is added to the time embedding.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a network")]
pub enum AddEmbedding {
    /// The prompt's states, pooled.
    Text(PooledText),
    /// The pooled prompt with sizes and crops.
    TextTime(TimestepEmbedding),
    /// An image embedding.
    Image(ImageEmbedding),
    /// The pooled prompt and an image embedding.
    TextImage(TextImageEmbedding),
}

/// How the context is made of what the network is given.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a network")]
pub enum ContextProjection {
    /// The prompt's states, projected.
    Text(Linear),
    /// Tokens from an image embedding.
    Image(ImageTokens),
    /// Tokens from an image embedding, then the prompt's states, projected.
    TextImage(TextImageTokens),
}

impl EncoderConfig {
    fn sinusoidal(&self, channels: usize) -> Sinusoidal {
        let order = if self.flip_sin_to_cos { SineOrder::CosineFirst } else { SineOrder::SineFirst };
        SinusoidalConfig::new(channels).with_order(order).with_freq_shift(self.freq_shift).init()
    }

    /// The sinusoids of a time.
    #[must_use]
    pub fn init_time_proj(&self) -> Sinusoidal {
        self.sinusoidal(self.block_out_channels[0])
    }

    /// The two layers after the sinusoids.
    #[must_use]
    pub fn init_time_embedding(&self, device: &Device) -> TimestepEmbedding {
        TimestepEmbeddingConfig::new(self.block_out_channels[0], self.time_channels())
            .with_condition_channels(self.time_cond_proj_dim)
            .with_activation(self.act_fn.into())
            .with_last_activation(self.timestep_post_act.map_or_else(Default::default, Into::into))
            .init(device)
    }

    /// The class embedding, if there is one. The config has been [validated](EncoderConfig::validate).
    #[must_use]
    pub fn init_class_embedding(&self, device: &Device) -> Option<ClassEmbedding> {
        let width = self.time_channels();
        let given = self.projection_class_embeddings_input_dim.unwrap_or_default();
        Some(match (self.class_embed_type, self.num_class_embeds) {
            (Some(ClassEmbedType::Timestep), _) => ClassEmbedding::Number(
                TimestepEmbeddingConfig::new(self.block_out_channels[0], width)
                    .with_activation(self.act_fn.into())
                    .init(device),
            ),
            (Some(ClassEmbedType::Identity), _) => ClassEmbedding::Vector(AsItIs {}),
            (Some(ClassEmbedType::Projection), _) => {
                ClassEmbedding::Projection(TimestepEmbeddingConfig::new(given, width).init(device))
            }
            (Some(ClassEmbedType::SimpleProjection), _) => {
                ClassEmbedding::SimpleProjection(LinearConfig::new(given, width).init(device))
            }
            (None, Some(classes)) => ClassEmbedding::Table(EmbeddingConfig::new(classes, width).init(device)),
            (None, None) => return None,
        })
    }

    /// The sinusoids of SDXL's sizes and crops, where they are added.
    #[must_use]
    pub fn init_add_time_proj(&self) -> Option<Sinusoidal> {
        let channels = self.addition_time_embed_dim.unwrap_or_default();
        (self.addition_embed_type == Some(AdditionEmbedType::TextTime)).then(|| self.sinusoidal(channels))
    }

    /// What else is added to the time embedding, if anything. The config has been [validated](EncoderConfig::validate).
    #[must_use]
    pub fn init_add_embedding(&self, device: &Device) -> Option<AddEmbedding> {
        let width = self.time_channels();
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = |width| LayerNormConfig::new(width).init(device);
        Some(match self.addition_embed_type? {
            AdditionEmbedType::Text => {
                let channels = self.pooled_channels();
                AddEmbedding::Text(PooledText {
                    norm1: norm(channels),
                    pool: AttentionPooling::init(channels, self.addition_embed_type_num_heads, device),
                    proj: linear(channels, width),
                    norm2: norm(width),
                })
            }
            AdditionEmbedType::TextTime => {
                let given = self.projection_class_embeddings_input_dim.unwrap_or_default();
                AddEmbedding::TextTime(TimestepEmbeddingConfig::new(given, width).init(device))
            }
            AdditionEmbedType::Image => AddEmbedding::Image(ImageEmbedding {
                image_proj: linear(self.encoder_hid_dim.unwrap_or_default(), width),
                image_norm: norm(width),
            }),
            AdditionEmbedType::TextImage => AddEmbedding::TextImage(TextImageEmbedding {
                text_proj: linear(self.context_dim(0), width),
                text_norm: norm(width),
                image_proj: linear(self.context_dim(0), width),
            }),
        })
    }

    /// How the context is made, if not given as it is. The config has been [validated](EncoderConfig::validate).
    #[must_use]
    pub fn init_context_projection(&self, device: &Device) -> Option<ContextProjection> {
        let (given, channels) = (self.encoder_hid_dim.unwrap_or_default(), self.context_dim(0));
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Some(match self.context_projection()? {
            EncoderHidDimType::TextProj => ContextProjection::Text(linear(given, channels)),
            EncoderHidDimType::ImageProj => ContextProjection::Image(ImageTokens {
                image_embeds: linear(given, ImageTokens::TOKENS * channels),
                norm: LayerNormConfig::new(channels).init(device),
            }),
            EncoderHidDimType::TextImageProj => ContextProjection::TextImage(TextImageTokens {
                image_embeds: linear(channels, TextImageTokens::TOKENS * channels),
                text_proj: linear(given, channels),
            }),
        })
    }
}

impl ClassEmbedding {
    /// `[batch, time_channels]`, from `class` and the network's own sinusoids, in the type of `like`.
    pub(super) fn forward(
        &self,
        class: Option<&ClassCondition>,
        sinusoids: &Sinusoidal,
        like: &Tensor<4>,
    ) -> Tensor<2> {
        let dtype = like.dtype();
        match (self, class.cloned()) {
            (Self::Table(table), Some(ClassCondition::Labels(labels))) => {
                table.forward(labels.unsqueeze_dim(1)).squeeze_dim(1)
            }
            (Self::Number(layers), Some(ClassCondition::Numbers(numbers))) => {
                layers.forward(sinusoids.forward(numbers).cast(dtype))
            }
            (Self::Projection(layers), Some(ClassCondition::Vectors(vectors))) => {
                layers.forward(vectors.cast(dtype))
            }
            (Self::SimpleProjection(layer), Some(ClassCondition::Vectors(vectors))) => {
                layer.forward(vectors.cast(dtype))
            }
            (Self::Vector(_), Some(ClassCondition::Vectors(vectors))) => vectors.cast(dtype),
            (_, None) => panic!("this network needs a class for every sample"),
            (expected, Some(found)) => {
                panic!("this network takes another kind of class than {found:?}: {expected:?}")
            }
        }
    }
}

impl AddEmbedding {
    /// `[batch, time_channels]`.
    pub(super) fn forward(
        &self,
        conditions: &Conditions,
        sinusoids: Option<&Sinusoidal>,
        like: &Tensor<4>,
    ) -> Tensor<2> {
        let dtype = like.dtype();
        match self {
            Self::Text(layers) => layers.forward(conditions.states()),
            Self::TextTime(layers) => {
                let text = conditions.text_embeds("SDXL's addition").cast(dtype);
                let numbers = conditions.time_ids();
                let batch = text.dims()[0];
                let count = numbers.dims()[1];
                let sinusoids = sinusoids.expect("made together with these layers");
                let times = sinusoids.forward(numbers.reshape([batch * count])).cast(dtype);
                layers.forward(Tensor::cat(vec![text, times.reshape([batch as i64, -1])], 1))
            }
            Self::Image(layers) => {
                let image = conditions.image_embeds().cast(dtype);
                layers.image_norm.forward(layers.image_proj.forward(image))
            }
            Self::TextImage(layers) => {
                let text = conditions.text_embeds("Kandinsky's addition").cast(dtype);
                let text = layers.text_norm.forward(layers.text_proj.forward(text));
                text + layers.image_proj.forward(conditions.image_embeds().cast(dtype))
            }
        }
    }
}

impl ContextProjection {
    /// The context's states, `[batch, tokens, cross_attention_dim]`.
    pub(super) fn forward(&self, conditions: &Conditions, like: &Tensor<4>) -> Tensor<3> {
        let dtype = like.dtype();
        let tokens = |image: Tensor<2>, count: usize| -> Tensor<3> {
            let [batch, width] = image.dims();
            image.reshape([batch, count, width / count])
        };
        match self {
            Self::Text(layer) => layer.forward(conditions.states().cast(dtype)),
            Self::Image(layers) => {
                let image = layers.image_embeds.forward(conditions.image_embeds().cast(dtype));
                layers.norm.forward(tokens(image, ImageTokens::TOKENS))
            }
            Self::TextImage(layers) => {
                let image = layers.image_embeds.forward(conditions.image_embeds().cast(dtype));
                let text = layers.text_proj.forward(conditions.states().cast(dtype));
                Tensor::cat(vec![tokens(image, TextImageTokens::TOKENS), text], 1)
            }
        }
    }
}

/// Layers of [`AddEmbedding::Text`] (diffusers: `TextTimeEmbedding`).
#[derive(Module, Debug)]
pub struct PooledText {
    norm1: LayerNorm,
    pool: AttentionPooling,
    proj: Linear,
    norm2: LayerNorm,
}

impl PooledText {
    fn forward(&self, states: Tensor<3>) -> Tensor<2> {
        let pooled = self.pool.forward(self.norm1.forward(states));
        self.norm2.forward(self.proj.forward(pooled))
    }
}

/// The mean of a sequence asks the sequence, itself included.
#[derive(Module, Debug)]
struct AttentionPooling {
    positional_embedding: Param<Tensor<2>>,
    k_proj: Linear,
    q_proj: Linear,
    v_proj: Linear,
    heads: usize,
}

impl AttentionPooling {
    fn init(channels: usize, heads: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(channels, channels).init(device);
        let deviation = (channels as f64).powf(-0.5);
        let positional_embedding = Param::uninitialized(
            ParamId::new(),
            move |device: &Device, require_grad| {
                Tensor::random([1, channels], Distribution::Normal(0.0, deviation), device)
                    .set_require_grad(require_grad)
            },
            device.clone(),
            true,
            [1, channels].into(),
        );
        Self { positional_embedding, k_proj: linear(), q_proj: linear(), v_proj: linear(), heads }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let mean = x.clone().mean_dim(1) + self.positional_embedding.val().unsqueeze_dim(0);
        let x = Tensor::cat(vec![mean.clone(), x], 1);
        let (k, v) = (self.k_proj.forward(x.clone()), self.v_proj.forward(x));
        multi_head(self.q_proj.forward(mean), k, v, self.heads, AttentionOptions::default()).squeeze_dim(1)
    }
}

/// Layers of [`AddEmbedding::Image`] (diffusers: `ImageTimeEmbedding`).
#[derive(Module, Debug)]
pub struct ImageEmbedding {
    image_proj: Linear,
    image_norm: LayerNorm,
}

/// Layers of [`AddEmbedding::TextImage`] (diffusers: `TextImageTimeEmbedding`).
#[derive(Module, Debug)]
pub struct TextImageEmbedding {
    text_proj: Linear,
    text_norm: LayerNorm,
    image_proj: Linear,
}

/// Layers of [`ContextProjection::Image`] (diffusers: `ImageProjection`).
#[derive(Module, Debug)]
pub struct ImageTokens {
    image_embeds: Linear,
    norm: LayerNorm,
}

impl ImageTokens {
    const TOKENS: usize = 32;
}

/// Layers of [`ContextProjection::TextImage`] (diffusers: `TextImageProjection`).
#[derive(Module, Debug)]
pub struct TextImageTokens {
    image_embeds: Linear,
    text_proj: Linear,
}

impl TextImageTokens {
    const TOKENS: usize = 10;
}
