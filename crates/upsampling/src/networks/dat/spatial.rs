//! Attention to pixels, in windows: half the channels in windows as high as `window` says, half in windows turned by 90
//! degrees. The picture is filled up with zeros to whole windows.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, ops::PadMode};

use super::super::sequential::{self, Layer};
use super::position::PositionBias;
use super::window::{self, Shift};
use super::{interaction, to_planes, to_rows};

#[derive(Module, Debug)]
pub(super) struct SpatialAttention {
    qkv: Linear,
    proj: Linear,
    attns: Vec<Half>,
    dwconv: Vec<Layer>,
    channel_interaction: Vec<Layer>,
    spatial_interaction: Vec<Layer>,
    window: [usize; 2],
    #[module(skip)]
    shift: Shift,
}

/// One half of the channels.
#[derive(Module, Debug)]
struct Half {
    pos: PositionBias,
}

impl SpatialAttention {
    pub(super) fn new(
        features: usize,
        heads: usize,
        window: [usize; 2],
        shift: Shift,
        device: &Device,
    ) -> Self {
        assert!(
            heads > 0 && heads.is_multiple_of(2) && features.is_multiple_of(heads),
            "DAT: {heads} heads for {features} features"
        );
        let half = || Half { pos: PositionBias::new(features / 2, heads / 2, device) };
        Self {
            qkv: LinearConfig::new(features, 3 * features).init(device),
            proj: LinearConfig::new(features, features).init(device),
            attns: vec![half(), half()],
            dwconv: interaction::beside(features, device),
            channel_interaction: interaction::channel_map(features, device),
            spatial_interaction: interaction::spatial_map(features, device),
            window,
            shift,
        }
    }

    /// `[batch, height width, features]` to the same.
    pub(super) fn forward(&self, x: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
        let [height, width] = size;
        let [_, _, features] = x.dims();
        let qkv = to_planes(self.qkv.forward(x), size);
        let value = qkv.clone().narrow(1, 2 * features, features);

        let longest = self.window[0].max(self.window[1]);
        let [below, beside] = size.map(|side| side.next_multiple_of(longest) - side);
        let whole = match (below, beside) {
            (0, 0) => qkv,
            _ => qkv.pad([(0, 0), (0, 0), (0, below), (0, beside)], PadMode::Constant(0.0)),
        };
        let half = features / 2;
        let [tall, wide] = self.window;
        let attended = self.attns.iter().enumerate().map(|(index, attn)| {
            let window = if index == 0 { [tall, wide] } else { [wide, tall] };
            let parts = [0, 1, 2].map(|part| whole.clone().narrow(1, part * features + index * half, half));
            window::attention(parts, &attn.pos.forward(window), window, self.shift)
        });
        let attended = Tensor::cat(attended.collect(), 1).narrow(2, 0, height).narrow(3, 0, width);

        let convolved = sequential::forward(&self.dwconv, value);
        let of_channels = interaction::weights(&self.channel_interaction, convolved.clone());
        let of_pixels = interaction::weights(&self.spatial_interaction, attended.clone());
        self.proj.forward(to_rows(attended * of_channels + convolved * of_pixels))
    }
}
