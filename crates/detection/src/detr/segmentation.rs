//! The panoptic head (Carion et al. 2020, section 4.4): where each query looks becomes a mask.
//!
//! ```text
//! a = softmax over heads and places (q k^T / sqrt(d))                  one map a query and head
//! x = [features, a] -> lay1 -> lay2 -> (2x up, + adapter(stage)) lay3 -> ... lay4 -> ... lay5 -> out_lay
//! lay: 3x3 convolution, group norm, activation
//! ```

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, PaddingConfig2d};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use kiln_attention::softmax::split;
use kiln_backend::ops::{Activation, InterpolationMode, interpolate};
use kiln_blocks::{Normalization, NormalizationConfig, convolve};
use kiln_checkpoint::{ConfigError, Pretrained};

use super::activation::ActivationFunction;
use super::config::{DetrConfig, ModelType};
use super::model::{Detr, DetrOutput, Predictions, Trace};
use super::names;
use super::transformer::linear;

/// Maps of where each query looks.
#[derive(Module, Debug)]
struct AttentionMaps {
    q_linear: Linear,
    k_linear: Linear,
    heads: usize,
}

impl AttentionMaps {
    /// `[batch, queries, heads, places]`, which sums to 1 over heads and places together.
    fn forward(&self, states: Tensor<3>, memory: Tensor<3>, mask: Option<Tensor<4>>) -> Tensor<4> {
        let q = split(self.q_linear.forward(states), self.heads);
        let k = split(self.k_linear.forward(memory), self.heads);
        let [batch, heads, queries, head_dim] = q.dims();
        let places = k.dims()[2];
        let scores = (q * (head_dim as f64).powf(-0.5)).matmul(k.swap_dims(2, 3));
        let scores = match mask {
            Some(mask) => scores + mask,
            None => scores,
        };
        let scores = scores.swap_dims(1, 2).reshape([batch, queries, heads * places]);
        activation::softmax(scores, 2).reshape([batch, queries, heads, places])
    }
}

/// Convolutions that grow maps and features into masks.
#[derive(Module, Debug)]
struct MaskHead {
    lay1: Conv2d,
    gn1: Normalization,
    lay2: Conv2d,
    gn2: Normalization,
    lay3: Conv2d,
    gn3: Normalization,
    lay4: Conv2d,
    gn4: Normalization,
    lay5: Conv2d,
    gn5: Normalization,
    out_lay: Conv2d,
    adapter1: Conv2d,
    adapter2: Conv2d,
    adapter3: Conv2d,
    #[module(skip)]
    activation: ActivationFunction,
}

impl MaskHead {
    fn new(config: &DetrConfig, finer: &[usize], device: &Device) -> Self {
        let (width, input) = (config.d_model, config.d_model + config.encoder_attention_heads);
        let norm = |channels: usize| NormalizationConfig::new(channels, channels.min(8)).init(device);
        let conv3x3 = |channels, device| {
            convolution(
                &Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)),
                device,
            )
        };
        let adapter = |from, to| convolution(&Conv2dConfig::new([from, to], [1, 1]), device);
        let [w2, w4, w8, w16] = [2, 4, 8, 16].map(|divisor| width / divisor);
        Self {
            lay1: conv3x3([input, input], device),
            gn1: norm(input),
            lay2: conv3x3([input, w2], device),
            gn2: norm(w2),
            lay3: conv3x3([w2, w4], device),
            gn3: norm(w4),
            lay4: conv3x3([w4, w8], device),
            gn4: norm(w8),
            lay5: conv3x3([w8, w16], device),
            gn5: norm(w16),
            out_lay: conv3x3([w16, 1], device),
            adapter1: adapter(finer[2], w2),
            adapter2: adapter(finer[1], w4),
            adapter3: adapter(finer[0], w8),
            activation: config.activation_function,
        }
    }

    fn layer(&self, conv: &Conv2d, norm: &Normalization, x: Tensor<4>) -> Tensor<4> {
        self.activation.forward(norm.forward(convolve(conv, x), Activation::Identity))
    }

    /// `features` is `[batch, width, rows, columns]`, `maps` `[batch, queries, heads, rows, columns]`, `finer` the stages'
    /// outputs from fine to coarse; the result is `[batch * queries, 1, .., ..]`.
    fn forward(&self, features: Tensor<4>, maps: Tensor<5>, finer: &[Tensor<4>]) -> Tensor<4> {
        let [batch, queries, heads, rows, columns] = maps.dims();
        let maps = maps.reshape([batch * queries, heads, rows, columns]);
        let x = Tensor::cat(vec![repeat(features, queries), maps], 1);
        let x = self.layer(&self.lay1, &self.gn1, x);
        let mut x = self.layer(&self.lay2, &self.gn2, x);
        for (adapter, stage, conv, norm) in [
            (&self.adapter1, &finer[2], &self.lay3, &self.gn3),
            (&self.adapter2, &finer[1], &self.lay4, &self.gn4),
            (&self.adapter3, &finer[0], &self.lay5, &self.gn5),
        ] {
            // Adapted first and repeated then: the queries of a picture share it.
            let adapted = convolve(adapter, stage.clone());
            let [_, _, rows, columns] = adapted.dims();
            let grown = interpolate(x, [rows, columns], InterpolationMode::Nearest);
            x = self.layer(conv, norm, repeat(adapted, queries) + grown);
        }
        convolve(&self.out_lay, x)
    }
}

/// A convolution with the published initialisation: weights uniform within ± sqrt(3 / fan-in), biases 0.
fn convolution(config: &Conv2dConfig, device: &Device) -> Conv2d {
    let uniform = Initializer::KaimingUniform { gain: 1.0, fan_out_only: false };
    let mut conv = config.clone().with_initializer(uniform).init(device);
    conv.bias = conv.bias.take().map(|bias| bias.map(|bias| bias.zeros_like()));
    conv
}

/// Each of a batch `queries` times in turn.
fn repeat(x: Tensor<4>, queries: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let x: Tensor<5> = x.unsqueeze_dim(1);
    x.expand([batch, queries, channels, rows, columns]).reshape([batch * queries, channels, rows, columns])
}

/// A detector with a mask for each query; transformers' `DetrForSegmentation`, and with the decoder of a conditional DETR its
/// `ConditionalDetrForSegmentation`.
///
/// Boxes of the latter are counted from their queries' points, as its detector's are; transformers leaves the points out there, so
/// that `pred_boxes` are not where its own detector says. Classes and masks are the same.
#[derive(Module, Debug)]
pub struct DetrSegmentation {
    /// One of the two, under the name that files have for it.
    detr: Option<Detr>,
    conditional_detr: Option<Detr>,
    bbox_attention: AttentionMaps,
    mask_head: MaskHead,
}

/// What a panoptic detector says of pictures.
#[derive(Clone, Debug)]
pub struct SegmentationOutput {
    /// Classes and boxes.
    pub detection: DetrOutput,
    /// Masks before the sigmoid, at about a quarter of the picture's sides: `[batch, queries, rows, columns]`.
    pub masks: Tensor<4>,
    /// Where each query looks, on the coarsest map: `[batch, queries, heads, rows, columns]`.
    pub attention: Tensor<5>,
}

/// What a panoptic detector sees in pictures before it draws masks; see [`DetrSegmentation::see`].
#[derive(Clone, Debug)]
pub struct Seen {
    trace: Trace,
}

impl Seen {
    /// Classes and boxes.
    #[must_use]
    pub fn detection(&self) -> &DetrOutput {
        &self.trace.output
    }
}

impl Pretrained for DetrSegmentation {
    const CLASSES: &'static [&'static str] = &["DetrForSegmentation", "ConditionalDetrForSegmentation"];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        DetrConfig::from_json(config)?.init_segmentation(device)
    }

    fn rename(name: &str) -> Option<String> {
        names::today(name)
    }
}

impl DetrConfig {
    /// The panoptic detector with fresh weights on `device`.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate) and [`validate_masks`](Self::validate_masks).
    pub fn init_segmentation(&self, device: &Device) -> Result<DetrSegmentation, ConfigError> {
        self.add_masks(self.init(device)?, device)
    }

    /// A detector of this config with a mask head with fresh weights on `device`.
    ///
    /// # Errors
    ///
    /// As [`validate_masks`](Self::validate_masks).
    pub fn add_masks(&self, detector: Detr, device: &Device) -> Result<DetrSegmentation, ConfigError> {
        self.validate_masks()?;
        let channels = self.backbone()?.channels();
        let (detr, conditional_detr) = match self.model_type {
            ModelType::Detr => (Some(detector), None),
            ModelType::ConditionalDetr => (None, Some(detector)),
        };
        Ok(DetrSegmentation {
            detr,
            conditional_detr,
            bbox_attention: AttentionMaps {
                q_linear: linear(self.d_model, self.d_model, device),
                k_linear: linear(self.d_model, self.d_model, device),
                heads: self.encoder_attention_heads,
            },
            mask_head: MaskHead::new(self, &channels[..3], device),
        })
    }
}

impl DetrSegmentation {
    /// Find objects and their masks; arguments as in [`Detr::forward`].
    ///
    /// # Panics
    ///
    /// As [`Detr::forward`].
    #[must_use]
    pub fn forward(
        &self,
        pixel_values: Tensor<4>,
        pixel_mask: Option<Tensor<3, Bool>>,
    ) -> SegmentationOutput {
        let trace = self.detector().trace(pixel_values, pixel_mask);
        let (masks, attention) = self.draw(&trace);
        SegmentationOutput { detection: trace.output, masks, attention }
    }

    /// Find objects, and leave their masks to [`masks_of`](Self::masks_of); arguments as in [`Detr::forward`].
    ///
    /// # Panics
    ///
    /// As [`Detr::forward`].
    #[must_use]
    pub fn see(&self, pixel_values: Tensor<4>, pixel_mask: Option<Tensor<3, Bool>>) -> Seen {
        Seen { trace: self.detector().trace(pixel_values, pixel_mask) }
    }

    /// The masks of some queries alone, each `(picture, query)`: `[pairs, rows, columns]`, the same as [`forward`](Self::forward)
    /// has for them. A mask depends on no other, and most queries see nothing, so that a step of training needs few of them.
    ///
    /// # Panics
    ///
    /// If there are no pairs, or one is of a picture or a query that there is not.
    #[must_use]
    pub fn masks_of(&self, seen: &Seen, pairs: &[(usize, usize)]) -> Tensor<3> {
        assert!(!pairs.is_empty(), "masks of no queries");
        let trace = &seen.trace;
        let [_, queries, width] = trace.output.last_hidden_state.dims();
        let device = trace.projected.device();
        let places = |place: &dyn Fn((usize, usize)) -> usize| -> Tensor<1, Int> {
            let places: Vec<i64> = pairs.iter().map(|&pair| place(pair) as i64).collect();
            Tensor::from_data(TensorData::new(places, [pairs.len()]), &device)
        };
        let pictures = places(&|(picture, _)| picture);
        let rows = places(&|(picture, query)| {
            assert!(query < queries, "query {query} of {queries}");
            picture * queries + query
        });
        // Each pair as a picture of its own with one query.
        let states = trace.output.last_hidden_state.clone().reshape([-1, width as i32]).select(0, rows);
        let output = DetrOutput {
            last_hidden_state: states.unsqueeze_dim(1),
            encoder_last_hidden_state: trace
                .output
                .encoder_last_hidden_state
                .clone()
                .select(0, pictures.clone()),
            ..trace.output.clone()
        };
        let alone = Trace {
            output,
            features: trace.features.iter().map(|map| map.clone().select(0, pictures.clone())).collect(),
            projected: trace.projected.clone().select(0, pictures.clone()),
            mask: trace.mask.clone().map(|mask| {
                let batch = mask.dims()[0];
                if batch == 1 { mask } else { mask.select(0, pictures.clone()) }
            }),
            places: trace.places.clone(),
            look: None,
        };
        self.draw(&alone).0.squeeze_dim(1)
    }

    /// What the heads make of the encoder's states; see [`Detr::forward_with_places`].
    #[must_use]
    pub fn predict_places(&self, seen: &Seen) -> Predictions {
        self.detector().predict_places(&seen.trace)
    }

    /// Masks and where queries look.
    fn draw(&self, trace: &Trace) -> (Tensor<4>, Tensor<5>) {
        let states = trace.output.last_hidden_state.clone();
        let memory = trace.output.encoder_last_hidden_state.clone();
        let maps = self.bbox_attention.forward(states, memory, trace.mask.clone());
        let [batch, queries, heads, _] = maps.dims();
        let [_, _, rows, columns] = trace.projected.dims();
        let attention: Tensor<5> = maps.reshape([batch, queries, heads, rows, columns]);
        let masks = self.mask_head.forward(trace.projected.clone(), attention.clone(), &trace.features);
        let [_, _, rows, columns] = masks.dims();
        (masks.reshape([batch, queries, rows, columns]), attention)
    }

    /// The detector within.
    ///
    /// # Panics
    ///
    /// Never: a config makes one.
    #[must_use]
    pub fn detector(&self) -> &Detr {
        self.detr.as_ref().or(self.conditional_detr.as_ref()).expect("a config makes a detector")
    }

    /// The same network with a backbone that does not learn.
    #[must_use]
    pub fn freeze_backbone(mut self) -> Self {
        self.detr = self.detr.map(Detr::freeze_backbone);
        self.conditional_detr = self.conditional_detr.map(Detr::freeze_backbone);
        self
    }

    /// The same network with a detector that does not learn, so that masks alone do (Carion et al. 2020, section 4.4).
    #[must_use]
    pub fn freeze_detector(mut self) -> Self {
        self.detr = self.detr.map(Module::no_grad);
        self.conditional_detr = self.conditional_detr.map(Module::no_grad);
        self
    }
}

impl SegmentationOutput {
    /// What is said of one picture of the batch.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn picture(&self, index: usize) -> Self {
        let one = |predictions: &Predictions| Predictions {
            logits: predictions.logits.clone().narrow(0, index, 1),
            boxes: predictions.boxes.clone().narrow(0, index, 1),
            ..predictions.clone()
        };
        let detection = &self.detection;
        Self {
            detection: DetrOutput {
                predictions: one(&detection.predictions),
                auxiliary: detection.auxiliary.iter().map(one).collect(),
                last_hidden_state: detection.last_hidden_state.clone().narrow(0, index, 1),
                encoder_last_hidden_state: detection.encoder_last_hidden_state.clone().narrow(0, index, 1),
            },
            masks: self.masks.clone().narrow(0, index, 1),
            attention: self.attention.clone().narrow(0, index, 1),
        }
    }
}
