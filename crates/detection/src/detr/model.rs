//! The detector: backbone, transformer, and two heads that say class and box of each query.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear};
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};
use kiln_attention::Mask;
use kiln_blocks::convolve;
use kiln_checkpoint::{ConfigError, Pretrained};

use super::conditional::{ConditionalDecoder, perceptron};
use super::config::{DetrConfig, ModelType, PositionEmbeddingType};
use super::names;
use super::positions::{LEARNED_PLACES, LearnedPositions, Places, sine};
use super::resnet::ResNet;
use super::transformer::{Decoder, Encoder, Look, Memory, linear};

#[derive(Module, Debug)]
struct ConvEncoder {
    model: ResNet,
}

#[derive(Module, Debug)]
struct Backbone {
    conv_encoder: ConvEncoder,
}

#[derive(Module, Debug)]
struct Inner {
    backbone: Backbone,
    position_embedding: Option<LearnedPositions>,
    query_position_embeddings: Embedding,
    input_projection: Conv2d,
    encoder: Encoder,
    decoder: AnyDecoder,
}

/// A decoder of the family.
#[derive(Module, Debug)]
enum AnyDecoder {
    Plain(Decoder),
    Conditional(ConditionalDecoder),
}

/// Three linear layers with ReLU between them.
#[derive(Module, Debug)]
struct BoxHead {
    layers: Vec<Linear>,
}

impl BoxHead {
    /// Boxes; `centres`, `[batch, queries, 2]` before the sigmoid, is where they are counted from.
    fn forward(&self, x: Tensor<3>, centres: Option<&Tensor<3>>) -> Tensor<3> {
        let sides = perceptron(&self.layers, x);
        let sides = match centres {
            None => sides,
            Some(centres) => {
                let moved = sides.clone().narrow(2, 0, 2) + centres.clone();
                Tensor::cat(vec![moved, sides.narrow(2, 2, 2)], 2)
            }
        };
        activation::sigmoid(sides)
    }
}

/// DETR: a set of objects from a picture (Carion et al. 2020, "End-to-End Object Detection with Transformers"); transformers'
/// `DetrForObjectDetection`.
#[derive(Module, Debug)]
pub struct Detr {
    model: Inner,
    class_labels_classifier: Linear,
    bbox_predictor: BoxHead,
    #[module(skip)]
    probabilities: Probabilities,
}

/// How a class's probability follows from its score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probabilities {
    /// By the softmax over the classes and "no object", which is the last.
    #[default]
    Softmax,
    /// By the sigmoid of each; there is no "no object".
    Sigmoid,
}

impl Probabilities {
    /// Probabilities of the classes, `[batch, queries, classes]`, "no object" left out.
    #[must_use]
    pub fn of(self, logits: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Softmax => {
                let classes = logits.dims()[2] - 1;
                activation::softmax(logits, 2).narrow(2, 0, classes)
            }
            Self::Sigmoid => activation::sigmoid(logits),
        }
    }

    /// Scores a query has for so many classes.
    #[must_use]
    pub fn scores(self, classes: usize) -> usize {
        match self {
            Self::Softmax => classes + 1,
            Self::Sigmoid => classes,
        }
    }
}

/// What one layer of the decoder says of each query.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Scores of each class before softmax, "no object" last: `[batch, queries, classes + 1]`; or before the sigmoid:
    /// `[batch, queries, classes]`.
    pub logits: Tensor<3>,
    /// Which of the two.
    pub probabilities: Probabilities,
    /// Boxes as shares of the picture's sides, centre x, centre y, width, height: `[batch, queries, 4]`.
    pub boxes: Tensor<3>,
}

/// What a detector says of pictures.
#[derive(Clone, Debug)]
pub struct DetrOutput {
    /// What the last layer says.
    pub predictions: Predictions,
    /// What the layers before it say, where `auxiliary_loss` is set.
    pub auxiliary: Vec<Predictions>,
    /// The decoder's last states, `[batch, queries, width]`.
    pub last_hidden_state: Tensor<3>,
    /// The encoder's last states, `[batch, places, width]`.
    pub encoder_last_hidden_state: Tensor<3>,
}

/// What goes on between backbone and heads, as the mask head needs it.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub output: DetrOutput,
    /// The backbone's feature maps, from fine to coarse.
    pub features: Vec<Tensor<4>>,
    /// The coarsest in the transformer's width.
    pub projected: Tensor<4>,
    pub mask: Option<Tensor<4>>,
    pub places: Places,
    /// Where the decoder's last layer looks.
    pub look: Option<Look>,
}

/// Centres of places as shares of what is picture, before the sigmoid: `[batch, places, 2]`, column and row.
fn centres(places: &Places) -> TensorData {
    let [batch, rows, columns] = places.shape;
    let mut values = Vec::with_capacity(batch * rows * columns * 2);
    for picture in places.visible.chunks(rows * columns) {
        let wide = (0..columns).filter(|&column| picture[column]).count().max(1);
        let high = (0..rows).filter(|&row| picture[row * columns]).count().max(1);
        for place in 0..rows * columns {
            for (at, all) in [(place % columns, wide), (place / columns, high)] {
                // Within the padding any number will do.
                let share = ((at as f64 + 0.5) / all as f64).min(1.0 - 1e-5);
                values.push((share / (1.0 - share)).ln() as f32);
            }
        }
    }
    TensorData::new(values, [batch, rows * columns, 2])
}

impl Pretrained for Detr {
    const CLASSES: &'static [&'static str] = &["DetrForObjectDetection", "ConditionalDetrForObjectDetection"];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        DetrConfig::from_json(config)?.init(device)
    }

    fn rename(name: &str) -> Option<String> {
        names::today(name)
    }
}

impl DetrConfig {
    /// The detector with the published initialisation on `device`.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Detr, ConfigError> {
        self.validate()?;
        let backbone = self.backbone()?;
        let channels = backbone.channels().last().copied().unwrap_or_default();
        let width = self.d_model;
        let model = Inner {
            backbone: Backbone { conv_encoder: ConvEncoder { model: backbone.init(device) } },
            position_embedding: match self.position_embedding_type {
                PositionEmbeddingType::Sine => None,
                PositionEmbeddingType::Learned => Some(LearnedPositions::new(width, device)),
            },
            query_position_embeddings: EmbeddingConfig::new(self.num_queries, width).init(device),
            input_projection: Conv2dConfig::new([channels, width], [1, 1]).init(device),
            encoder: Encoder::new(self, device),
            decoder: match self.model_type {
                ModelType::Detr => AnyDecoder::Plain(Decoder::new(self, device)),
                ModelType::ConditionalDetr => AnyDecoder::Conditional(ConditionalDecoder::new(self, device)),
            },
        };
        let sides = [width, width, width, 4];
        let mut class_labels_classifier = linear(width, self.probabilities().scores(self.classes()), device);
        let mut layers: Vec<Linear> = sides.windows(2).map(|pair| linear(pair[0], pair[1], device)).collect();
        if self.model_type == ModelType::ConditionalDetr {
            // Every class is improbable at first (Lin et al. 2017, section 4.1), and every box around its query's point.
            let improbable = -(99_f64.ln());
            class_labels_classifier.bias =
                class_labels_classifier.bias.map(|bias| constant(bias, improbable));
            if let Some(last) = layers.last_mut() {
                last.weight = last.weight.clone().map(|weight| weight.zeros_like());
                last.bias = last.bias.take().map(|bias| constant(bias, 0.0));
            }
        }
        Ok(Detr {
            model,
            class_labels_classifier,
            bbox_predictor: BoxHead { layers },
            probabilities: self.probabilities(),
        })
    }
}

fn constant(bias: Param<Tensor<1>>, value: f64) -> Param<Tensor<1>> {
    bias.map(|bias| bias.full_like(value))
}

impl Detr {
    /// Find objects in `pixel_values`, `[batch, num_channels, height, width]`, normalised. `pixel_mask`, `[batch, height, width]`,
    /// is true where the pictures are, and false in the padding that brings them to one size; without it, all is picture.
    ///
    /// # Panics
    ///
    /// If the mask has another shape than the pictures, or the picture is too large for learned positions
    /// ([`largest_map`](Self::largest_map)).
    #[must_use]
    pub fn forward(&self, pixel_values: Tensor<4>, pixel_mask: Option<Tensor<3, Bool>>) -> DetrOutput {
        self.trace(pixel_values, pixel_mask).output
    }

    /// As [`forward`](Self::forward), and how much of each query's attention in the last layer each place of the feature map has, head by
    /// head: `[batch, queries, heads, rows, columns]`, whose places sum to 1. Averaged over the heads, it is what Carion et al. draw
    /// (2020, figure 6).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), and if the decoder has no layer.
    #[must_use]
    pub fn forward_with_attention(
        &self,
        pixel_values: Tensor<4>,
        pixel_mask: Option<Tensor<3, Bool>>,
    ) -> (DetrOutput, Tensor<5>) {
        let Trace { output, mask, places, look, .. } = self.trace(pixel_values, pixel_mask);
        let weights = look.expect("a decoder has a layer").weights(mask.as_ref());
        let [batch, heads, queries, _] = weights.dims();
        let [_, rows, columns] = places.shape;
        (output, weights.swap_dims(1, 2).reshape([batch, queries, heads, rows, columns]))
    }

    /// As [`forward`](Self::forward), and what the heads make of the encoder's states: a query for each place of the feature map,
    /// whose box is counted from the place's centre, `[batch, places, ..]`. Places in the padding say that they see nothing.
    ///
    /// Learnt like a decoder's layer, it teaches backbone and encoder directly, and the decoder finds what it looks for in states
    /// that say it already; what is trained is the same network. Source: Zhu et al. 2021, "Deformable DETR", section 4.2 (its
    /// two-stage form, whose first stage this is).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn forward_with_places(
        &self,
        pixel_values: Tensor<4>,
        pixel_mask: Option<Tensor<3, Bool>>,
    ) -> (DetrOutput, Predictions) {
        let trace = self.trace(pixel_values, pixel_mask);
        let found = self.predict_places(&trace);
        (trace.output, found)
    }

    pub(super) fn predict_places(&self, Trace { output, places, .. }: &Trace) -> Predictions {
        let states = output.encoder_last_hidden_state.clone();
        let (dtype, device) = (states.dtype(), states.device());
        let tensor = |data: TensorData| Tensor::from_data(data.convert_dtype(dtype), (&device, dtype));
        let mut found = self.predict(states, Some(&tensor(centres(places))));
        if places.any_hidden() {
            let [batch, count, scores] = found.logits.dims();
            let seen: Vec<f32> = places.visible.iter().map(|&seen| f32::from(u8::from(seen))).collect();
            let seen: Tensor<3> = tensor(TensorData::new(seen, [batch, count, 1]));
            // "No object", or no class, for certain.
            let nothing: Vec<f32> = (0..scores)
                .map(|score| match self.probabilities {
                    Probabilities::Softmax if score + 1 == scores => 0.0,
                    _ => -100.0,
                })
                .collect();
            let nothing: Tensor<3> = tensor(TensorData::new(nothing, [1, 1, scores]));
            found.logits = found.logits * seen.clone() + (seen * -1.0 + 1.0) * nothing;
        }
        found
    }

    /// Rows and columns of the coarsest feature map that positions are known for; `None` if for all.
    #[must_use]
    pub fn largest_map(&self) -> Option<usize> {
        self.model.position_embedding.as_ref().map(|_| LEARNED_PLACES)
    }

    pub(super) fn trace(&self, pixel_values: Tensor<4>, pixel_mask: Option<Tensor<3, Bool>>) -> Trace {
        let [batch, _, height, width] = pixel_values.dims();
        let (dtype, device) = (pixel_values.dtype(), pixel_values.device());
        let features = self.model.backbone.conv_encoder.model.forward(pixel_values);
        let coarsest = features.last().cloned().expect("a backbone has an output");
        let [_, _, rows, columns] = coarsest.dims();
        if let Some(places) = self.largest_map() {
            assert!(
                rows <= places && columns <= places,
                "a feature map of {rows} x {columns} for {places} learned positions"
            );
        }
        let places = match pixel_mask {
            None => Places::all([batch, rows, columns]),
            Some(mask) => {
                assert_eq!(mask.dims(), [batch, height, width], "a mask of other pictures");
                let visible = mask.into_data().iter::<bool>().collect();
                Places::of_pixels(&Places { shape: [batch, height, width], visible }, [rows, columns])
            }
        };
        let projected = convolve(&self.model.input_projection, coarsest);
        let [_, channels, ..] = projected.dims();
        let tokens = projected.clone().reshape([batch, channels, rows * columns]).swap_dims(1, 2);
        let positions = match &self.model.position_embedding {
            Some(learned) => learned.forward(places.shape),
            None => Tensor::from_data(sine(&places, channels).convert_dtype(dtype), (&device, dtype)),
        };
        let mask = places.any_hidden().then(|| {
            let hidden = Mask::visible_keys(places.keys(&device));
            hidden.additive([batch, 1, 1, rows * columns], dtype)
        });
        let states = self.model.encoder.forward(tokens, &positions, mask.as_ref());
        let placed = states.clone() + positions.clone();
        let memory = Memory { states: states.clone(), positions, placed, mask: mask.clone() };
        let queries: Tensor<3> = self.model.query_position_embeddings.weight.val().unsqueeze_dim(0);
        let [_, count, _] = queries.dims();
        let queries = queries.expand([batch, count, channels]);
        let (last, between, centres, look) = match &self.model.decoder {
            AnyDecoder::Plain(decoder) => {
                let (last, between, look) = decoder.forward(&queries, &memory);
                (last, between, None, look)
            }
            AnyDecoder::Conditional(decoder) => {
                let (last, between, centres, look) = decoder.forward(&queries, &memory);
                (last, between, Some(centres), look)
            }
        };
        let predict = |states| self.predict(states, centres.as_ref());
        let output = DetrOutput {
            predictions: predict(last.clone()),
            auxiliary: between.into_iter().map(predict).collect(),
            last_hidden_state: last,
            encoder_last_hidden_state: states,
        };
        Trace { output, features, projected, mask, places, look }
    }

    fn predict(&self, states: Tensor<3>, centres: Option<&Tensor<3>>) -> Predictions {
        Predictions {
            logits: self.class_labels_classifier.forward(states.clone()),
            probabilities: self.probabilities,
            boxes: self.bbox_predictor.forward(states, centres),
        }
    }

    /// The same detector with a backbone made ready to be trained from nothing, by pictures such as it will see; see
    /// [`ResNet::calibrate`].
    #[must_use]
    pub fn calibrate(mut self, pixel_values: Tensor<4>) -> Self {
        let encoder = &mut self.model.backbone.conv_encoder;
        encoder.model = encoder.model.clone().calibrate(pixel_values);
        self
    }

    /// The same detector with a backbone that does not learn.
    #[must_use]
    pub fn freeze_backbone(mut self) -> Self {
        self.model.backbone = self.model.backbone.no_grad();
        self
    }
}
