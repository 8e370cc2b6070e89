//! The crate's integration tests, in one binary.

#[path = "checkpoint/contents.rs"]
mod contents;
#[path = "checkpoint/convert.rs"]
mod convert;
#[path = "checkpoint/hostile.rs"]
mod hostile;
#[cfg(feature = "hub")]
#[path = "checkpoint/hub.rs"]
mod hub;
#[cfg(feature = "hub")]
#[path = "checkpoint/hub_server.rs"]
mod hub_server;
#[path = "checkpoint/layouts.rs"]
mod layouts;
#[path = "checkpoint/malformed.rs"]
mod malformed;
#[path = "checkpoint/memory.rs"]
mod memory;
#[path = "checkpoint/modules.rs"]
mod modules;
#[path = "checkpoint/mutations.rs"]
mod mutations;
#[path = "checkpoint/round_trip.rs"]
mod round_trip;
#[path = "checkpoint/told.rs"]
mod told;
#[path = "checkpoint/torch.rs"]
mod torch;
#[path = "checkpoint/views.rs"]
mod views;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};

/// One of each kind of thing that a name or a layout depends on.
#[derive(Module, Debug)]
struct Sample {
    conv: Conv2d,
    layers: Vec<Layer>,
    norm: LayerNorm,
    running: BatchNorm,
    absent: Option<Linear>,
    positions: Param<Tensor<1, Int>>,
}

#[derive(Module, Debug)]
enum Layer {
    Dense(Linear),
    Table(burn::nn::Embedding),
}

fn sample(device: &Device) -> Sample {
    Sample {
        conv: Conv2dConfig::new([2, 3], [3, 3]).init(device),
        layers: vec![
            Layer::Dense(LinearConfig::new(4, 6).init(device)),
            Layer::Table(burn::nn::EmbeddingConfig::new(5, 2).init(device)),
        ],
        norm: LayerNormConfig::new(4).init(device),
        running: BatchNormConfig::new(3).init(device),
        absent: None,
        positions: Param::initialized(burn::module::ParamId::new(), Tensor::from_data([7, 8, 9], device)),
    }
}

/// A module of one linear layer, its weights drawn.
fn linear(device: &Device) -> Linear {
    let layer = LinearConfig::new(3, 2).init(device);
    let weight = Tensor::random([3, 2], Distribution::Default, device);
    Linear { weight: Param::from_tensor(weight), ..layer }
}
