//! The panoptic head (Carion et al. 2020, section 4.4): where each query looks becomes a mask.
//!
//! ```text
//! a = softmax over heads and places (q k^T / sqrt(d))                  one map a query and head
//! x = [features, a] -> lay1 -> lay2 -> (2x up, + adapter(stage)) lay3 -> ... lay4 -> ... lay5 -> out_lay
//! lay: 3x3 convolution, group norm, activation
//! ```

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Bool, Device, Tensor, activation};
use kiln_attention::softmax::split;
use kiln_backend::ops::{Activation, InterpolationMode, interpolate};
use kiln_blocks::{Normalization, NormalizationConfig, conv3x3, convolve};
use kiln_checkpoint::{ConfigError, Pretrained};

use super::activation::ActivationFunction;
use super::config::DetrConfig;
use super::model::{Detr, DetrOutput};
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
        let adapter = |from, to| Conv2dConfig::new([from, to], [1, 1]).init(device);
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

/// Each of a batch `queries` times in turn.
fn repeat(x: Tensor<4>, queries: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let x: Tensor<5> = x.unsqueeze_dim(1);
    x.expand([batch, queries, channels, rows, columns]).reshape([batch * queries, channels, rows, columns])
}

/// A detector with a mask for each query; transformers' `DetrForSegmentation`.
#[derive(Module, Debug)]
pub struct DetrSegmentation {
    detr: Detr,
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

impl Pretrained for DetrSegmentation {
    const CLASSES: &'static [&'static str] = &["DetrForSegmentation"];

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
        let detr = self.init(device)?;
        self.validate_masks()?;
        let channels = self.backbone()?.channels();
        Ok(DetrSegmentation {
            detr,
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
        let trace = self.detr.trace(pixel_values, pixel_mask);
        let states = trace.output.last_hidden_state.clone();
        let memory = trace.output.encoder_last_hidden_state.clone();
        let maps = self.bbox_attention.forward(states, memory, trace.mask);
        let [batch, queries, heads, _] = maps.dims();
        let [_, _, rows, columns] = trace.projected.dims();
        let attention: Tensor<5> = maps.reshape([batch, queries, heads, rows, columns]);
        let masks = self.mask_head.forward(trace.projected, attention.clone(), &trace.features);
        let [_, _, rows, columns] = masks.dims();
        SegmentationOutput {
            detection: trace.output,
            masks: masks.reshape([batch, queries, rows, columns]),
            attention,
        }
    }

    /// The detector within.
    #[must_use]
    pub fn detector(&self) -> &Detr {
        &self.detr
    }

    /// The same network with a backbone that does not learn.
    #[must_use]
    pub fn freeze_backbone(mut self) -> Self {
        self.detr = self.detr.freeze_backbone();
        self
    }
}
