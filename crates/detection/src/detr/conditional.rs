//! The decoder of Conditional DETR (Meng et al. 2021, "Conditional DETR for Fast Training Convergence"): each query has a point that
//! it looks around from the first step on, so that it need not first learn where to look.
//!
//! ```text
//! s   = sigmoid(ref_point_head(o))                   the point of query o
//! p_s = sine(s) T,  T = 1 in the first layer, query_scale(y) in the others
//! self-attention     q = Wq y + Wqo o,   k = Wk y + Wko o,   v = Wv y
//! cross-attention    q = [Wq y | Ws p_s],   k = [Wk x | Wp p],   v = Wv x           head by head; the first layer adds
//!                                                                                  Wo o to q and Wp p to k
//! box = sigmoid(b + [s before the sigmoid, 0, 0])
//! ```
//!
//! y are the decoder's states, x the encoder's, p where they are.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData, activation};
use kiln_attention::{AttentionOptions, multi_head};

use super::activation::ActivationFunction;
use super::config::DetrConfig;
use super::transformer::{Look, Memory, linear};

/// Linear layers with ReLU between them.
pub(super) fn perceptron(layers: &[Linear], x: Tensor<3>) -> Tensor<3> {
    layers.iter().enumerate().fold(x, |x, (index, layer)| {
        let y = layer.forward(x);
        if index + 1 < layers.len() { activation::relu(y) } else { y }
    })
}

#[derive(Module, Debug)]
struct Perceptron {
    layers: Vec<Linear>,
}

impl Perceptron {
    fn new(widths: [usize; 3], device: &Device) -> Self {
        Self { layers: widths.windows(2).map(|pair| linear(pair[0], pair[1], device)).collect() }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        perceptron(&self.layers, x)
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_content_proj: Linear,
    q_pos_proj: Linear,
    k_content_proj: Linear,
    k_pos_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl SelfAttention {
    fn new(width: usize, heads: usize, device: &Device) -> Self {
        let layer = || linear(width, width, device);
        Self {
            q_content_proj: layer(),
            q_pos_proj: layer(),
            k_content_proj: layer(),
            k_pos_proj: layer(),
            v_proj: layer(),
            out_proj: layer(),
            heads,
        }
    }

    fn forward(&self, y: Tensor<3>, queries: &Tensor<3>) -> Tensor<3> {
        let q = self.q_content_proj.forward(y.clone()) + self.q_pos_proj.forward(queries.clone());
        let k = self.k_content_proj.forward(y.clone()) + self.k_pos_proj.forward(queries.clone());
        let v = self.v_proj.forward(y);
        self.out_proj.forward(multi_head(q, k, v, self.heads, AttentionOptions::default()))
    }
}

#[derive(Module, Debug)]
struct CrossAttention {
    q_content_proj: Linear,
    /// In the first layer only.
    q_pos_proj: Option<Linear>,
    k_content_proj: Linear,
    k_pos_proj: Linear,
    v_proj: Linear,
    q_pos_sine_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl CrossAttention {
    fn new(width: usize, heads: usize, index: usize, device: &Device) -> Self {
        let layer = || linear(width, width, device);
        Self {
            q_content_proj: layer(),
            q_pos_proj: (index == 0).then(layer),
            k_content_proj: layer(),
            k_pos_proj: layer(),
            v_proj: layer(),
            q_pos_sine_proj: layer(),
            out_proj: layer(),
            heads,
        }
    }

    fn forward(
        &self,
        y: Tensor<3>,
        queries: &Tensor<3>,
        around: Tensor<3>,
        memory: &Memory,
    ) -> (Tensor<3>, Look) {
        let mut q = self.q_content_proj.forward(y);
        let mut k = self.k_content_proj.forward(memory.states.clone());
        let [batch, places, width] = k.dims();
        let placed = self.k_pos_proj.forward(memory.positions.clone()).expand([batch, places, width]);
        if let Some(layer) = &self.q_pos_proj {
            q = q + layer.forward(queries.clone());
            k = k + placed.clone();
        }
        let query = self.beside(q, self.q_pos_sine_proj.forward(around));
        let look = Look { query, key: self.beside(k, placed), heads: self.heads };
        let v = self.v_proj.forward(memory.states.clone());
        (self.out_proj.forward(look.at(v, memory.mask.as_ref())), look)
    }

    /// What each head takes of both, side by side.
    fn beside(&self, a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
        let [batch, n, width] = a.dims();
        let heads = |x: Tensor<3>| x.reshape([batch, n, self.heads, width / self.heads]);
        Tensor::cat(vec![heads(a), heads(b)], 3).reshape([batch, n, 2 * width])
    }
}

#[derive(Module, Debug)]
struct Layer {
    self_attn: SelfAttention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: CrossAttention,
    encoder_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    #[module(skip)]
    activation: ActivationFunction,
}

impl Layer {
    fn forward(
        &self,
        y: Tensor<3>,
        queries: &Tensor<3>,
        around: Tensor<3>,
        memory: &Memory,
    ) -> (Tensor<3>, Look) {
        let z = self.self_attn.forward(y.clone(), queries);
        let y = self.self_attn_layer_norm.forward(y + z);
        let (z, look) = self.encoder_attn.forward(y.clone(), queries, around, memory);
        let y = self.encoder_attn_layer_norm.forward(y + z);
        let z = self.fc2.forward(self.activation.forward(self.fc1.forward(y.clone())));
        (self.final_layer_norm.forward(y + z), look)
    }
}

/// The decoder.
#[derive(Module, Debug)]
pub struct ConditionalDecoder {
    layers: Vec<Layer>,
    layernorm: LayerNorm,
    query_scale: Perceptron,
    ref_point_head: Perceptron,
    auxiliary: bool,
}

impl ConditionalDecoder {
    pub(super) fn new(config: &DetrConfig, device: &Device) -> Self {
        let (width, heads) = (config.d_model, config.decoder_attention_heads);
        let norm = || LayerNormConfig::new(width).init(device);
        let layer = |index| Layer {
            self_attn: SelfAttention::new(width, heads, device),
            self_attn_layer_norm: norm(),
            encoder_attn: CrossAttention::new(width, heads, index, device),
            encoder_attn_layer_norm: norm(),
            fc1: linear(width, config.decoder_ffn_dim, device),
            fc2: linear(config.decoder_ffn_dim, width, device),
            final_layer_norm: norm(),
            activation: config.activation_function,
        };
        Self {
            layers: (0..config.decoder_layers).map(layer).collect(),
            layernorm: norm(),
            query_scale: Perceptron::new([width; 3], device),
            ref_point_head: Perceptron::new([width, width, 2], device),
            auxiliary: config.auxiliary_loss,
        }
    }

    /// The last states, `[batch, queries, width]`, those of each layer before the last where they predict too, and the queries'
    /// points before the sigmoid, `[batch, queries, 2]`, and where the last layer looks.
    pub(super) fn forward(
        &self,
        queries: &Tensor<3>,
        memory: &Memory,
    ) -> (Tensor<3>, Vec<Tensor<3>>, Tensor<3>, Option<Look>) {
        let [.., width] = queries.dims();
        let points = activation::sigmoid(self.ref_point_head.forward(queries.clone()));
        let around = sine(&points, width / 2);
        let mut y = queries.zeros_like();
        let mut between = Vec::new();
        let mut look = None;
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let scaled = match index {
                0 => around.clone(),
                _ => around.clone() * self.query_scale.forward(y.clone()),
            };
            let (next, at) = layer.forward(y, queries, scaled, memory);
            (y, look) = (next, Some(at));
            if self.auxiliary {
                // transformers hands the normalised states on to the next layer.
                y = self.layernorm.forward(y);
                if index < last {
                    between.push(y.clone());
                }
            }
        }
        (self.layernorm.forward(y), between, logit(points), look)
    }
}

/// `log(p / (1 - p))`, neither below 1e-5.
fn logit(p: Tensor<3>) -> Tensor<3> {
    let q = (p.clone() * -1.0 + 1.0).clamp_min(1e-5);
    p.clamp_min(1e-5).log() - q.log()
}

/// Sines and cosines of points (column, row): `[batch, queries, 2]` to `[batch, queries, 2 half]`, the row's first.
fn sine(points: &Tensor<3>, half: usize) -> Tensor<3> {
    let [batch, queries, _] = points.dims();
    let pairs = half / 2;
    let frequency = |i: usize| (std::f64::consts::TAU / 10_000_f64.powf(2.0 * i as f64 / half as f64)) as f32;
    let frequencies: Vec<f32> = (0..pairs).map(frequency).collect();
    let (dtype, device) = (points.dtype(), points.device());
    let data = TensorData::new(frequencies, [1, 1, pairs]).convert_dtype(dtype);
    let frequencies: Tensor<3> = Tensor::from_data(data, (&device, dtype));
    let encode = |coordinate: usize| {
        let phase = points.clone().narrow(2, coordinate, 1) * frequencies.clone();
        let pair = vec![phase.clone().sin().unsqueeze_dim::<4>(3), phase.cos().unsqueeze_dim(3)];
        Tensor::cat(pair, 3).reshape([batch, queries, half])
    };
    Tensor::cat(vec![encode(1), encode(0)], 2)
}
