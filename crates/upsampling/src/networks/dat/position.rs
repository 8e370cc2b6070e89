//! Position biases that a small network makes of the distance (Wang et al. 2021, "CrossFormer", arXiv 2108.00154,
//! section 3.3).

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::super::sequential::{RowLayer, forward_rows};

#[derive(Module, Debug)]
pub(super) struct PositionBias {
    pos_proj: Linear,
    pos1: Vec<RowLayer>,
    pos2: Vec<RowLayer>,
    pos3: Vec<RowLayer>,
}

impl PositionBias {
    /// For `heads` heads over windows of `features` channels.
    pub(super) fn new(features: usize, heads: usize, device: &Device) -> Self {
        let inner = features / 16;
        let layers = |to| RowLayer::normalised(inner, to, device);
        Self {
            pos_proj: LinearConfig::new(2, inner).init(device),
            pos1: layers(inner),
            pos2: layers(inner),
            pos3: layers(heads),
        }
    }

    /// What is added to the scores in a window: `[1, heads, height width, height width]`.
    pub(super) fn forward(&self, [height, width]: [usize; 2]) -> Tensor<4> {
        let device = self.pos_proj.weight.device();
        // Every distance that occurs, one row each.
        let distances: Vec<f32> = (0..2 * height - 1)
            .flat_map(|y| {
                (0..2 * width - 1)
                    .flat_map(move |x| [y as f32 + 1.0 - height as f32, x as f32 + 1.0 - width as f32])
            })
            .collect();
        let rows = distances.len() / 2;
        let distances = Tensor::<2>::from_data(TensorData::new(distances, [rows, 2]), &device)
            .cast(self.pos_proj.weight.dtype());
        let biases = [&self.pos1, &self.pos2, &self.pos3]
            .into_iter()
            .fold(self.pos_proj.forward(distances), |x, layers| forward_rows(layers, x));
        // Which row each pair of pixels has.
        let pixels = height * width;
        let row = |query: usize, key: usize| {
            let y = query / width + height - 1 - key / width;
            let x = query % width + width - 1 - key % width;
            (y * (2 * width - 1) + x) as i64
        };
        let rows: Vec<i64> =
            (0..pixels).flat_map(|query| (0..pixels).map(move |key| row(query, key))).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [pixels * pixels]), &device);
        let [_, heads] = biases.dims();
        biases.swap_dims(0, 1).select(1, rows).reshape([1, heads, pixels, pixels])
    }
}
