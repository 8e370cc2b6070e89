//! Where each place of a feature map is, as the transformer is told at every layer (Carion et al. 2020, appendix A.4).
//!
//! ```text
//! sine      e(r, c) = [s(r'), s(c')],   r' = 2 pi (r + 1) / (rows + 1e-6),   s(p)_(2i) = sin(p / 10000^(2i/n)), s(p)_(2i+1) = cos(...)
//! learned   e(r, c) = [columns[c], rows[r]]
//! ```
//!
//! Rows and columns of the sine form are counted where the picture is, so that padding moves nothing. n is half the width.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Rows and columns that learned positions know.
pub(super) const LEARNED_PLACES: usize = 50;

/// Which places of a feature map, `[batch, rows, columns]`, show the picture and no padding; on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub shape: [usize; 3],
    pub visible: Vec<bool>,
}

impl Places {
    /// All of them.
    pub fn all(shape: [usize; 3]) -> Self {
        Self { shape, visible: vec![true; shape.iter().product()] }
    }

    /// Those of a mask of pixels, each place looking at the pixel floor(i in / out).
    pub fn of_pixels(pixels: &Self, [rows, columns]: [usize; 2]) -> Self {
        let [batch, height, width] = pixels.shape;
        let nearest = |out: usize, n: usize, side: usize| {
            // In f32, as torch does it.
            let scale = side as f32 / n as f32;
            ((out as f32 * scale) as usize).min(side - 1)
        };
        let mut visible = Vec::with_capacity(batch * rows * columns);
        for picture in pixels.visible.chunks(height * width) {
            for row in 0..rows {
                let line = &picture[nearest(row, rows, height) * width..][..width];
                visible.extend((0..columns).map(|column| line[nearest(column, columns, width)]));
            }
        }
        Self { shape: [batch, rows, columns], visible }
    }

    /// Whether any place is padding.
    pub fn any_hidden(&self) -> bool {
        self.visible.contains(&false)
    }

    /// Ones where the picture is: `[batch, rows * columns]`.
    pub fn keys(&self, device: &Device) -> Tensor<2, Int> {
        let [batch, rows, columns] = self.shape;
        let ones: Vec<i64> = self.visible.iter().map(|&visible| i64::from(visible)).collect();
        Tensor::from_data(TensorData::new(ones, [batch, rows * columns]), device)
    }
}

/// The sine form: `[batch, rows * columns, width]`.
pub(super) fn sine(places: &Places, width: usize) -> TensorData {
    let [batch, rows, columns] = places.shape;
    let half = width / 2;
    let frequencies: Vec<f64> =
        (0..half / 2).map(|i| 10_000_f64.powf(2.0 * i as f64 / half as f64)).collect();
    let mut values = vec![0_f32; batch * rows * columns * width];
    for (picture, values) in
        places.visible.chunks(rows * columns).zip(values.chunks_mut(rows * columns * width))
    {
        let count =
            |places: &mut dyn Iterator<Item = usize>| places.filter(|&place| picture[place]).count() as f32;
        let heights: Vec<f32> =
            (0..columns).map(|column| count(&mut (0..rows).map(|row| row * columns + column))).collect();
        let mut above = vec![0_f32; columns];
        for row in 0..rows {
            let wide = count(&mut (0..columns).map(|column| row * columns + column));
            let mut before = 0_f32;
            for column in 0..columns {
                let seen = f32::from(u8::from(picture[row * columns + column]));
                above[column] += seen;
                before += seen;
                let share = |n: f32, all: f32| f64::from(n / (all + 1e-6) * std::f32::consts::TAU);
                let phases = [share(above[column], heights[column]), share(before, wide)];
                let place = &mut values[(row * columns + column) * width..][..width];
                for (phase, channels) in phases.into_iter().zip(place.chunks_mut(half)) {
                    for (frequency, pair) in frequencies.iter().zip(channels.chunks_mut(2)) {
                        let (sine, cosine) = (phase / frequency).sin_cos();
                        pair.copy_from_slice(&[sine as f32, cosine as f32]);
                    }
                }
            }
        }
    }
    TensorData::new(values, [batch, rows * columns, width])
}

/// The learned form.
#[derive(Module, Debug)]
pub struct LearnedPositions {
    row_embeddings: Embedding,
    column_embeddings: Embedding,
}

impl LearnedPositions {
    /// Tables of `width / 2` channels each.
    pub(super) fn new(width: usize, device: &Device) -> Self {
        let table = || {
            EmbeddingConfig::new(LEARNED_PLACES, width / 2)
                .with_initializer(Initializer::Uniform { min: 0.0, max: 1.0 })
                .init(device)
        };
        Self { row_embeddings: table(), column_embeddings: table() }
    }

    /// `[batch, rows * columns, width]`.
    pub(super) fn forward(&self, [batch, rows, columns]: [usize; 3]) -> Tensor<3> {
        let line = |table: &Embedding, n: usize| table.weight.val().narrow(0, 0, n);
        let of_rows: Tensor<3> = line(&self.row_embeddings, rows).unsqueeze_dim(1);
        let of_columns: Tensor<3> = line(&self.column_embeddings, columns).unsqueeze_dim(0);
        let half = of_rows.dims()[2];
        let shape = [rows, columns, half];
        let grid = Tensor::cat(vec![of_columns.expand(shape), of_rows.expand(shape)], 2);
        grid.reshape([1, rows * columns, 2 * half]).expand([batch, rows * columns, 2 * half])
    }
}
