//! ResNet (He et al. 2016) as a detector's backbone: its batch norms are frozen, and its stages' outputs are what is wanted.
//!
//! ```text
//! x --7x7, stride 2, norm, act, max pool--> stage1 --> stage2 --> stage3 --> stage4
//! norm:   y = (x - mean) / sqrt(var + 1e-5) * weight + bias, folded into the convolution before it
//! basic:        y = act(norm(3x3 act(norm(3x3 x))) + shortcut x)
//! bottleneck:   y = act(norm(1x1 act(norm(3x3 act(norm(1x1 x))))) + shortcut x)
//! ```
//!
//! DC5 is the last stage at the resolution of the one before it, with its 3x3 kernels spread (dilation 2).

use std::ops::Range;

use burn::module::{Module, Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Tensor};
use kiln_backend::ops;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::activation::ActivationFunction;
use crate::ConfigError;

/// What a residual layer is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1, a quarter as wide in the middle.
    #[default]
    Bottleneck,
}

/// Configuration of a [`ResNet`], field by field that of transformers' `ResNetConfig`, whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResNetConfig {
    /// Channels of a picture.
    pub num_channels: usize,
    /// Channels ahead of the first stage.
    pub embedding_size: usize,
    /// Channels of each stage.
    pub hidden_sizes: Vec<usize>,
    /// Layers of each stage.
    pub depths: Vec<usize>,
    /// What a layer is made of.
    pub layer_type: LayerType,
    /// Activation.
    pub hidden_act: ActivationFunction,
    /// Whether the first stage halves the sides, as the others do.
    pub downsample_in_first_stage: bool,
    /// Whether a bottleneck halves in its first convolution, and not in the second.
    pub downsample_in_bottleneck: bool,
    /// How far the sides are brought down in all; stages beyond it dilate. 32 but for dilated networks.
    #[serde(skip)]
    pub output_stride: usize,
    /// The maps that are given, ascending: 0 for what comes before the first stage, then a stage each.
    #[serde(skip)]
    pub outputs: Vec<usize>,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            num_channels: 3,
            embedding_size: 64,
            hidden_sizes: vec![256, 512, 1024, 2048],
            depths: vec![3, 4, 6, 3],
            layer_type: LayerType::Bottleneck,
            hidden_act: ActivationFunction::Relu,
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
            output_stride: 32,
            outputs: vec![4],
        }
    }
}

/// timm's networks: name, layers, kind.
const TIMM: &[(&str, [usize; 4], LayerType)] = &[
    ("resnet18", [2, 2, 2, 2], LayerType::Basic),
    ("resnet34", [3, 4, 6, 3], LayerType::Basic),
    ("resnet26", [2, 2, 2, 2], LayerType::Bottleneck),
    ("resnet50", [3, 4, 6, 3], LayerType::Bottleneck),
    ("resnet101", [3, 4, 23, 3], LayerType::Bottleneck),
    ("resnet152", [3, 8, 36, 3], LayerType::Bottleneck),
];

impl ResNetConfig {
    /// One of timm's networks by its name (`resnet50`, `resnet101.tv_in1k`), with the options `out_indices`, `output_stride` and
    /// `num_channels`; `field` is where the name stands.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if there is none of that name, or an option asks for what is not computed here.
    pub fn timm(
        field: &'static str,
        name: &str,
        options: &Map<String, Value>,
        num_channels: usize,
    ) -> Result<Self, ConfigError> {
        let fail = |reason| Err(ConfigError::Inconsistent { field, reason });
        // After the dot stands how it was trained.
        let known = name.split('.').next().unwrap_or(name);
        let Some((_, depths, layer_type)) = TIMM.iter().find(|(name, ..)| *name == known) else {
            let names: Vec<_> = TIMM.iter().map(|(name, ..)| *name).collect();
            return fail(format!("is {name}; known are {}", names.join(", ")));
        };
        let number = |key: &str, usual: usize| match options.get(key) {
            None | Some(Value::Null) => Ok(usual),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(number as usize),
                None => Err(ConfigError::Inconsistent { field, reason: format!("`{key}` is {value}") }),
            },
        };
        let output_stride = number("output_stride", 32)?;
        if ![8, 16, 32].contains(&output_stride) {
            return fail(format!("`output_stride` is {output_stride}; expected 8, 16 or 32"));
        }
        let outputs = match options.get("out_indices") {
            None | Some(Value::Null) => vec![1, 2, 3, 4],
            // timm's 0 is what comes before pooling, twice as large as the stem here.
            Some(value) => maps_of(field, value, 1..5)?,
        };
        let expansion = match layer_type {
            LayerType::Basic => 1,
            LayerType::Bottleneck => 4,
        };
        Ok(Self {
            num_channels: number("num_channels", num_channels)?,
            hidden_sizes: [64, 128, 256, 512].map(|width| width * expansion).to_vec(),
            depths: depths.to_vec(),
            layer_type: *layer_type,
            output_stride,
            outputs,
            ..Self::default()
        })
    }

    /// A `backbone_config` of transformers' own ResNet.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the field that can't be used.
    pub fn read(object: &Map<String, Value>) -> Result<Self, ConfigError> {
        const FIELD: &str = "backbone_config";
        let wrong = |reason: String| ConfigError::Inconsistent { field: FIELD, reason };
        let mut config: Self = serde_json::from_value(Value::Object(object.clone()))
            .map_err(|error| wrong(error.to_string()))?;
        let stages = config.hidden_sizes.len();
        if stages == 0 || config.depths.len() != stages {
            return Err(wrong(format!(
                "`depths` has {} entries, `hidden_sizes` {stages}",
                config.depths.len()
            )));
        }
        let numbers = [config.num_channels, config.embedding_size].into_iter();
        if numbers
            .chain(config.hidden_sizes.iter().copied())
            .chain(config.depths.iter().copied())
            .any(|n| n == 0)
        {
            return Err(wrong("has a width or depth of 0".to_owned()));
        }
        if config.layer_type == LayerType::Bottleneck && config.hidden_sizes.iter().any(|width| *width < 4) {
            return Err(wrong(
                "has a `hidden_sizes` below 4, of which a bottleneck takes a quarter".to_owned(),
            ));
        }
        config.outputs = match (object.get("out_indices"), object.get("out_features")) {
            (Some(indices @ Value::Array(_)), _) => maps_of(FIELD, indices, 0..stages + 1)?,
            (_, Some(Value::Array(names))) => {
                let index = |name: &Value| {
                    let text = name.as_str()?;
                    if text == "stem" { Some(0) } else { text.strip_prefix("stage")?.parse::<u64>().ok() }
                };
                let indices: Option<Vec<Value>> =
                    names.iter().map(|name| index(name).map(Value::from)).collect();
                match indices {
                    Some(indices) => maps_of(FIELD, &Value::Array(indices), 0..stages + 1)?,
                    None => return Err(wrong("`out_features` names another thing than stages".to_owned())),
                }
            }
            _ => vec![stages],
        };
        Ok(config)
    }

    /// Channels of each output.
    #[must_use]
    pub fn channels(&self) -> Vec<usize> {
        let of =
            |map: usize| map.checked_sub(1).map_or(self.embedding_size, |stage| self.hidden_sizes[stage]);
        self.outputs.iter().map(|&map| of(map)).collect()
    }

    /// Pixels along a side for each place of the last output's map.
    #[must_use]
    pub fn stride(&self) -> usize {
        let stages = self.outputs.last().copied().unwrap_or(0);
        self.strides(stages).last().map_or(4, |(stride, _)| *stride)
    }

    /// For each of the first stages the stride that it has come to, and its dilation.
    fn strides(&self, stages: usize) -> Vec<(usize, usize)> {
        let (mut stride, mut dilation) = (4, 1);
        (0..stages)
            .map(|stage| {
                let wanted = if stage == 0 && !self.downsample_in_first_stage { 1 } else { 2 };
                if self.output_stride < 32 && stride * wanted > self.output_stride {
                    dilation *= wanted;
                } else {
                    stride *= wanted;
                }
                (stride, dilation)
            })
            .collect()
    }

    /// The network with He's initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> ResNet {
        let mut stages = Vec::new();
        let (mut channels, mut stride, mut before) = (self.embedding_size, 4, 1);
        for ((&width, &depth), (reached, dilation)) in
            self.hidden_sizes.iter().zip(&self.depths).zip(self.strides(self.depths.len()))
        {
            let step = reached / stride;
            let mut layers = vec![self.layer([channels, width], step, [before, dilation], device)];
            layers.extend((1..depth).map(|_| self.layer([width, width], 1, [dilation; 2], device)));
            stages.push(Stage { layers });
            // The first layer of the next stage still sees what this one was spread by.
            (channels, stride, before) = (width, reached, dilation);
        }
        let stem = ConvLayer::new(
            [self.num_channels, self.embedding_size],
            Kernel { size: 7, stride: 2, dilation: 1 },
            Some(self.hidden_act),
            device,
        );
        ResNet {
            embedder: Stem { embedder: stem },
            encoder: Stages { stages },
            outputs: self.outputs.clone(),
        }
    }

    /// A layer; `before` and `dilation` are those of its first and its last 3x3 kernel.
    fn layer(
        &self,
        [from, to]: [usize; 2],
        stride: usize,
        [before, dilation]: [usize; 2],
        device: &Device,
    ) -> Residual {
        // transformers gives `hidden_act` to the stem and to the sum; within a layer it is always ReLU.
        let act = Some(ActivationFunction::Relu);
        let conv = |channels, size, stride, dilation, act| {
            ConvLayer::new(channels, Kernel { size, stride, dilation }, act, device)
        };
        let layer = match self.layer_type {
            LayerType::Basic => {
                vec![conv([from, to], 3, stride, before, act), conv([to, to], 3, 1, dilation, None)]
            }
            LayerType::Bottleneck => {
                let inner = to / 4;
                let (first, second) = if self.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
                vec![
                    conv([from, inner], 1, first, 1, act),
                    conv([inner, inner], 3, second, before, act),
                    conv([inner, to], 1, 1, 1, None),
                ]
            }
        };
        let shortcut = (from != to || stride != 1).then(|| conv([from, to], 1, stride, 1, None));
        Residual { shortcut, layer, activation: self.hidden_act }
    }
}

/// Maps from indices that count the stem as 0, of those that can be given.
fn maps_of(field: &'static str, indices: &Value, known: Range<usize>) -> Result<Vec<usize>, ConfigError> {
    let indices: Vec<i64> =
        indices.as_array().map(|list| list.iter().filter_map(Value::as_i64).collect()).unwrap_or_default();
    let maps: Option<Vec<usize>> = indices
        .iter()
        .map(|&index| usize::try_from(index).ok().filter(|index| known.contains(index)))
        .collect();
    match maps {
        Some(maps) if !maps.is_empty() && maps.is_sorted_by(|a, b| a < b) => Ok(maps),
        _ => Err(ConfigError::Inconsistent {
            field,
            reason: format!(
                "gives the outputs {indices:?}; expected ascending stages from {} to {}",
                known.start,
                known.end - 1
            ),
        }),
    }
}

/// Size, stride and dilation of a square kernel.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    size: usize,
    stride: usize,
    dilation: usize,
}

/// Batch normalisation with statistics that stay as they were trained; scale and shift stay too, unless they are made to learn.
#[derive(Module, Debug)]
pub struct FrozenNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
    learns: bool,
}

impl FrozenNorm {
    fn new(channels: usize, device: &Device) -> Self {
        let constant = |value: f64| {
            Param::uninitialized(
                ParamId::new(),
                move |device: &Device, _| Tensor::full([channels], value, device),
                device.clone(),
                false,
                [channels].into(),
            )
        };
        Self {
            weight: constant(1.0),
            bias: constant(0.0),
            running_mean: constant(0.0),
            running_var: constant(1.0),
            learns: false,
        }
    }

    /// The same with the statistics of `y`, `[batch, channels, rows, columns]`, and a scale and shift that learn.
    fn of(self, y: &Tensor<4>) -> Self {
        let [.., channels, _, _] = y.dims();
        let flat = y.clone().cast(DType::F32).swap_dims(0, 1).reshape([channels as i64, -1]);
        let (var, mean) = flat.var_mean_bias(1);
        let put = |param: Param<Tensor<1>>, value: Tensor<2>| {
            param.map(|old| value.reshape([channels]).cast(old.dtype()))
        };
        Self {
            running_mean: put(self.running_mean, mean),
            running_var: put(self.running_var, var),
            weight: self.weight.set_require_grad(true),
            bias: self.bias.set_require_grad(true),
            learns: true,
        }
    }

    /// Scale and shift that the four numbers of each channel come to, in f32.
    fn affine(&self) -> (Tensor<1>, Tensor<1>) {
        let kept = |param: &Param<Tensor<1>>| param.val().detach().cast(DType::F32);
        let learnt = |param: &Param<Tensor<1>>| match self.learns {
            true => param.val().cast(DType::F32),
            false => kept(param),
        };
        let scale = learnt(&self.weight) / (kept(&self.running_var) + 1e-5).sqrt();
        let shift = learnt(&self.bias) - kept(&self.running_mean) * scale.clone();
        (scale, shift)
    }
}

/// Convolution, frozen norm, activation.
#[derive(Module, Debug)]
struct ConvLayer {
    convolution: Conv2d,
    normalization: FrozenNorm,
    #[module(skip)]
    activation: Option<ActivationFunction>,
    padding: usize,
}

impl ConvLayer {
    fn new(
        channels: [usize; 2],
        kernel: Kernel,
        activation: Option<ActivationFunction>,
        device: &Device,
    ) -> Self {
        let Kernel { size, stride, dilation } = kernel;
        let padding = size / 2 * dilation;
        let initializer = burn::nn::Initializer::KaimingNormal { gain: 2_f64.sqrt(), fan_out_only: true };
        let convolution = Conv2dConfig::new(channels, [size, size])
            .with_stride([stride, stride])
            .with_dilation([dilation, dilation])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .with_bias(false)
            .with_initializer(initializer)
            .init(device);
        Self { convolution, normalization: FrozenNorm::new(channels[1], device), activation, padding }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let conv = &self.convolution;
        let (scale, shift) = self.normalization.affine();
        let weight = conv.weight.val();
        let dtype = weight.dtype();
        let [out, ..] = weight.dims();
        let weight = (weight.cast(DType::F32) * scale.reshape([out, 1, 1, 1])).cast(dtype);
        let options = ConvOptions::new(conv.stride, [self.padding; 2], conv.dilation, conv.groups);
        let y = ops::conv2d(x, weight, Some(shift.cast(dtype)), options);
        match self.activation {
            Some(activation) => activation.forward(y),
            None => y,
        }
    }

    /// The layer with its norm calibrated by `x`, and what it then makes of `x`.
    fn calibrate(mut self, x: Tensor<4>) -> (Self, Tensor<4>) {
        let conv = &self.convolution;
        let options = ConvOptions::new(conv.stride, [self.padding; 2], conv.dilation, conv.groups);
        let y = ops::conv2d(x.clone(), conv.weight.val(), None, options);
        self.normalization = self.normalization.of(&y);
        let y = self.forward(x);
        (self, y)
    }
}

#[derive(Module, Debug)]
struct Residual {
    shortcut: Option<ConvLayer>,
    layer: Vec<ConvLayer>,
    #[module(skip)]
    activation: ActivationFunction,
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.shortcut {
            Some(layer) => layer.forward(x.clone()),
            None => x.clone(),
        };
        let y = self.layer.iter().fold(x, |x, layer| layer.forward(x));
        self.activation.forward(y + shortcut)
    }

    fn calibrate(mut self, x: Tensor<4>) -> (Self, Tensor<4>) {
        self.shortcut = self.shortcut.map(|layer| layer.calibrate(x.clone()).0);
        let (layers, _) = self.layer.into_iter().fold((Vec::new(), x.clone()), |(mut done, x), layer| {
            let (layer, y) = layer.calibrate(x);
            done.push(layer);
            (done, y)
        });
        self.layer = layers;
        let y = self.forward(x);
        (self, y)
    }
}

#[derive(Module, Debug)]
struct Stage {
    layers: Vec<Residual>,
}

#[derive(Module, Debug)]
struct Stages {
    stages: Vec<Stage>,
}

#[derive(Module, Debug)]
struct Stem {
    embedder: ConvLayer,
}

/// A ResNet without its classifier; see the [module](self).
#[derive(Module, Debug)]
pub struct ResNet {
    embedder: Stem,
    encoder: Stages,
    outputs: Vec<usize>,
}

impl ResNet {
    /// The maps that are wanted, `[batch, channels, rows, columns]` each, of
    /// `[batch, num_channels, height, width]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let mut x = pooled(self.embedder.embedder.forward(x));
        let mut maps = vec![x.clone()];
        let last = self.outputs.last().copied().unwrap_or(0);
        for stage in &self.encoder.stages[..last] {
            x = stage.layers.iter().fold(x, |x, layer| layer.forward(x));
            maps.push(x.clone());
        }
        self.outputs.iter().map(|&map| maps[map].clone()).collect()
    }

    /// The network made ready to be trained from nothing: each norm takes the statistics that `x` has there, and its scale and
    /// shift learn from then on. The statistics stay as they are now, so that what is trained is a network with frozen norms
    /// like any other, and a picture's result depends on no other picture of its batch.
    ///
    /// Source: the idea is Salimans and Kingma's 2016, "Weight Normalization", section 3: initialisation by data.
    #[must_use]
    pub fn calibrate(mut self, x: Tensor<4>) -> Self {
        let (stem, x) = self.embedder.embedder.calibrate(x);
        self.embedder.embedder = stem;
        let mut x = pooled(x);
        for stage in &mut self.encoder.stages {
            let layers = std::mem::take(&mut stage.layers).into_iter().map(|layer| {
                let (layer, y) = layer.calibrate(x.clone());
                x = y;
                layer
            });
            stage.layers = layers.collect();
        }
        self
    }
}

fn pooled(x: Tensor<4>) -> Tensor<4> {
    let pool = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding_pairs([(1, 1), (1, 1)]);
    max_pool2d(x, pool)
}
