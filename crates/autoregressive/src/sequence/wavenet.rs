//! WaveNet (van den Oord et al. 2016): causal convolutions whose reach doubles from layer to layer.
//!
//! ```text
//! h = W_0 [x_{i-1}, i = 1]
//! z = tanh(a) sigmoid(b),   [a, b]_i = sum_k K_k h_{i - k d} + V y        d = 1, 2, 4, ..., again from 1 in the next stack
//! h <- h + R z,    skip <- skip + S z                                     numbers = A relu(B relu(skip))
//! ```
//!
//! With kernels of two and c doublings, a stack reaches back 2^c places at c layers' cost.

use std::collections::VecDeque;

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use super::{after, first, one_late};
use crate::error::config;
use crate::given::Given;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// Configuration of a [`WaveNet`].
#[derive(Config, Debug)]
pub struct WaveNetConfig {
    /// The order of the variables, and by it their number.
    pub order: Order,
    /// Channels between layers.
    #[config(default = 32)]
    pub channels: usize,
    /// Channels of the sum that is read.
    #[config(default = 64)]
    pub skip_channels: usize,
    /// Layers of a stack: dilations 1, 2, ..., 2^(layers - 1).
    #[config(default = 9)]
    pub layers: usize,
    /// Stacks.
    #[config(default = 2)]
    pub stacks: usize,
    /// Places that a convolution sees.
    #[config(default = 2)]
    pub kernel: usize,
    /// The distribution of a variable.
    #[config(default = "Family::Bernoulli")]
    pub family: Family,
    /// The number of numbers that a sample is given with.
    #[config(default = 0)]
    pub given: usize,
}

/// Dilated causal convolutions; see the [module](self).
#[derive(Module, Debug)]
pub struct WaveNet {
    input: Linear,
    layers: Vec<Layer>,
    outputs: Vec<Linear>,
    #[module(skip)]
    family: Family,
    #[module(skip)]
    order: Order,
}

#[derive(Module, Debug)]
struct Layer {
    /// A picture of one row.
    conv: Conv2d,
    residual: Linear,
    skip: Linear,
    given: Given,
}

impl WaveNetConfig {
    /// The model on `device`, as PyTorch starts its layers.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<WaveNet, AutoregressiveError> {
        self.family.check()?;
        let Self { channels, skip_channels, layers, stacks, kernel, given, .. } = *self;
        let sizes = [
            ("channels", channels),
            ("skip_channels", skip_channels),
            ("layers", layers),
            ("stacks", stacks),
            ("kernel", kernel),
        ];
        if let Some((field, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return config(field, "is 0");
        }
        if layers > 30 {
            return config(
                "layers",
                format!("is {layers}; a dilation of 2^{} reaches over any sequence", layers - 1),
            );
        }
        let layer = |index: usize| Layer {
            conv: Conv2dConfig::new([channels, 2 * channels], [1, kernel])
                .with_dilation([1, 1 << (index % layers)])
                .init(device),
            residual: LinearConfig::new(channels, channels).init(device),
            skip: LinearConfig::new(channels, skip_channels).init(device),
            given: Given::new(given, 2 * channels, device),
        };
        Ok(WaveNet {
            input: LinearConfig::new(2, channels).init(device),
            layers: (0..layers * stacks).map(layer).collect(),
            outputs: vec![
                LinearConfig::new(skip_channels, skip_channels).init(device),
                LinearConfig::new(skip_channels, self.family.width()).init(device),
            ],
            family: self.family,
            order: self.order.clone(),
        })
    }
}

/// tanh(a) sigmoid(b) of the halves along the last axis.
fn gate<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let half = x.dims()[D - 1] / 2;
    x.clone().narrow(D - 1, 0, half).tanh() * sigmoid(x.narrow(D - 1, half, half))
}

impl Layer {
    fn dilation(&self) -> usize {
        self.conv.dilation[1]
    }

    /// Places that the convolution sees.
    fn kernel(&self) -> usize {
        self.conv.kernel_size[1]
    }

    /// The kernel as a matrix, `[kernel x channels, out]`, the oldest place first.
    fn matrix(&self) -> Tensor<2> {
        let [out, channels, _, kernel] = self.conv.weight.dims();
        let weight = self.conv.weight.val().reshape([out, channels, kernel]).permute([2, 1, 0]);
        weight.reshape([kernel * channels, out])
    }

    /// The gated convolution, `[batch, n, channels]`, as a product with what stands at the places that the kernel sees: faster than
    /// a convolution where channels come last, as the products around it have them.
    fn gated(&self, h: &Tensor<3>, given: Option<&Tensor<2>>) -> Tensor<3> {
        let n = h.dims()[1];
        let back = |places: usize| match places.min(n) {
            0 => h.clone(),
            places => h.clone().narrow(1, 0, n - places).pad([(0, 0), (places, 0), (0, 0)], 0.0),
        };
        let seen = (0..self.kernel()).rev().map(|k| back(k * self.dilation()));
        let mut y = Tensor::cat(seen.collect(), 2).matmul(self.matrix().unsqueeze_dim::<3>(0));
        if let Some(bias) = &self.conv.bias {
            y = y + bias.val().reshape([1, 1, -1]);
        }
        gate(match self.given.of(given) {
            Some(given) => y + given.unsqueeze_dim::<3>(1),
            None => y,
        })
    }
}

impl AutoregressiveModel for WaveNet {
    fn family(&self) -> Family {
        self.family
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.layers[0].given.width()
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        let mut h = self.input.forward(one_late(self.order.by_place(self.family.input(x), 1)));
        let mut sum: Option<Tensor<3>> = None;
        for layer in &self.layers {
            let z = layer.gated(&h, given.as_ref());
            let skip = layer.skip.forward(z.clone());
            sum = Some(sum.map_or_else(|| skip.clone(), |sum| sum + skip.clone()));
            h = h + layer.residual.forward(z);
        }
        let y = self.outputs.iter().fold(sum.unwrap_or(h), |y, layer| layer.forward(relu(y)));
        self.order.by_variable(y, 1)
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let like = self.outputs[0].weight.val();
        let layers = self.layers.iter().map(|layer| {
            let channels = layer.conv.weight.dims()[1];
            let empty = Tensor::<2>::zeros([batch, channels], (&like.device(), like.dtype()));
            LayerStepper {
                layer,
                weight: layer.matrix(),
                seen: vec![empty; (layer.kernel() - 1) * layer.dilation()].into(),
                given: layer.given.of(given.as_ref()),
            }
        });
        let layers = layers.collect();
        Box::new(WaveNetDecoder { network: self, layers, read: first(batch, &like), asked: false })
    }
}

struct LayerStepper<'a> {
    layer: &'a Layer,
    /// `[kernel x channels, out]`.
    weight: Tensor<2>,
    /// The inputs that are still in reach, the oldest first.
    seen: VecDeque<Tensor<2>>,
    given: Option<Tensor<2>>,
}

impl LayerStepper<'_> {
    fn gated(&mut self, h: Tensor<2>) -> Tensor<2> {
        self.seen.push_back(h);
        let window = self.seen.iter().step_by(self.layer.dilation()).cloned().collect();
        let mut y = Tensor::cat(window, 1).matmul(self.weight.clone());
        self.seen.pop_front();
        if let Some(bias) = &self.layer.conv.bias {
            y = y + bias.val().unsqueeze_dim::<2>(0);
        }
        gate(match &self.given {
            Some(given) => y + given.clone(),
            None => y,
        })
    }
}

/// Each layer keeps its inputs as far back as it reaches (Le Paine et al. 2016).
struct WaveNetDecoder<'a> {
    network: &'a WaveNet,
    layers: Vec<LayerStepper<'a>>,
    /// What is read at this place.
    read: Tensor<2>,
    asked: bool,
}

impl Decoder for WaveNetDecoder<'_> {
    fn next(&mut self) -> Tensor<2> {
        let mut h = self.network.input.forward(self.read.clone());
        let mut sum: Option<Tensor<2>> = None;
        for step in &mut self.layers {
            let z = step.gated(h.clone());
            let skip = step.layer.skip.forward(z.clone());
            sum = Some(sum.map_or_else(|| skip.clone(), |sum| sum + skip.clone()));
            h = h + step.layer.residual.forward(z);
        }
        self.asked = true;
        self.network.outputs.iter().fold(sum.unwrap_or(h), |y, layer| layer.forward(relu(y)))
    }

    fn push(&mut self, value: Tensor<2>) {
        if !self.asked {
            // Known, and not asked for: the layers see it all the same.
            self.next();
        }
        self.asked = false;
        self.read = after(&self.network.family.input(value));
    }
}
