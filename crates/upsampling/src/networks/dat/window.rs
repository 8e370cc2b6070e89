//! Attention in windows of a picture, shifted by half a window or not (Liu et al. 2021, "Swin Transformer", arXiv
//! 2103.14030).
//!
//! A shifted picture is rolled round, so windows of its last row and column hold pixels of two sides, which must not see
//! each other. Only these windows have a mask: there are four kinds of windows, each attended to in one call.

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops::{AttentionOptions, scaled_dot_product_attention};
use serde::{Deserialize, Serialize};

/// Whether windows begin at the corner, or half a window into the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Shift {
    None,
    Half,
}

/// What hides a pixel of the other side: as much as the published network has, e^-100 being nothing in any type.
const HIDDEN: f32 = -100.0;

/// softmax(q kᵗ / √dim + bias) v in windows of `window` = `[height, width]`.
///
/// - `query`, `key`, `value`: `[batch, heads dim, rows, columns]`, rows and columns multiples of the window's
/// - `bias`: `[1, heads, height width, height width]`
/// - output: as `query`
pub(super) fn attention(
    [query, key, value]: [Tensor<4>; 3],
    bias: &Tensor<4>,
    window: [usize; 2],
    shift: Shift,
) -> Tensor<4> {
    let [_, heads, _, _] = bias.dims();
    let steps = match shift {
        Shift::None => [0, 0],
        Shift::Half => window.map(|side| (side / 2) as i64),
    };
    let roll = |x: Tensor<4>, steps: [i64; 2]| match shift {
        Shift::None => x,
        Shift::Half => x.roll(&steps, &[2, 3]),
    };
    let [query, key, value] =
        [query, key, value].map(|x| Windows::cut(roll(x, steps.map(|step| -step)), heads, window));
    let attend = |rows: Part, columns: Part| {
        let mask = match (shift, mask(window, [rows, columns], &bias.device())) {
            (Shift::Half, Some(mask)) => bias.clone() + mask.cast(bias.dtype()),
            _ => bias.clone(),
        };
        let [query, key, value] = [&query, &key, &value].map(|x| x.part(rows, columns));
        let [batch, down, across, _, _, _] = query.dims();
        let flat = |x: Tensor<6>| x.flatten::<4>(0, 2);
        let options = AttentionOptions { mask: Some(mask), ..AttentionOptions::default() };
        let out = scaled_dot_product_attention(flat(query), flat(key), flat(value), options);
        let [_, heads, pixels, dim] = out.dims();
        out.reshape([batch, down, across, heads, pixels, dim])
    };
    let attended = match shift {
        Shift::None => attend(Part::All, Part::All),
        Shift::Half => {
            let [_, down, across, _, _, _] = query.0.dims();
            let parts =
                |count: usize| if count > 1 { vec![Part::Inner, Part::Last] } else { vec![Part::Last] };
            let row = |rows| {
                Tensor::cat(parts(across).into_iter().map(|columns| attend(rows, columns)).collect(), 2)
            };
            Tensor::cat(parts(down).into_iter().map(row).collect(), 1)
        }
    };
    roll(Windows(attended).join(window), steps)
}

/// Which windows along an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// All but the last.
    Inner,
    Last,
}

/// Which pairs of pixels of a window are on two sides of the picture: `[1, 1, pixels, pixels]`, if there are any.
fn mask([height, width]: [usize; 2], [rows, columns]: [Part; 2], device: &Device) -> Option<Tensor<4>> {
    if rows != Part::Last && columns != Part::Last {
        return None;
    }
    let side = |pixel: usize| {
        let far =
            |part: Part, place: usize, length: usize| part == Part::Last && place >= length - length / 2;
        [far(rows, pixel / width, height), far(columns, pixel % width, width)]
    };
    let pixels = height * width;
    let values: Vec<f32> = (0..pixels * pixels)
        .map(|pair| if side(pair / pixels) == side(pair % pixels) { 0.0 } else { HIDDEN })
        .collect();
    Some(Tensor::from_data(TensorData::new(values, [1, 1, pixels, pixels]), device))
}

/// `[batch, windows down, windows across, heads, pixels, dim]`.
struct Windows(Tensor<6>);

impl Windows {
    fn cut(x: Tensor<4>, heads: usize, [height, width]: [usize; 2]) -> Self {
        let [batch, channels, rows, columns] = x.dims();
        let (down, across) = (rows / height, columns / width);
        // In two steps, as some backends have no tensors of seven dimensions.
        let x = x.reshape([batch, channels, down, height, across, width]).permute([0, 2, 4, 1, 3, 5]);
        let x = x.reshape([batch, down, across, heads, channels / heads, height * width]);
        Self(x.swap_dims(4, 5))
    }

    fn part(&self, rows: Part, columns: Part) -> Tensor<6> {
        let along = |x: Tensor<6>, dim: usize, part: Part| {
            let count = x.dims()[dim];
            match part {
                Part::All => x,
                Part::Inner => x.narrow(dim, 0, count - 1),
                Part::Last => x.narrow(dim, count - 1, 1),
            }
        };
        along(along(self.0.clone(), 1, rows), 2, columns)
    }

    fn join(self, [height, width]: [usize; 2]) -> Tensor<4> {
        let [batch, down, across, heads, _, dim] = self.0.dims();
        let x = self.0.swap_dims(4, 5).reshape([batch, down, across, heads * dim, height, width]);
        x.permute([0, 3, 1, 4, 2, 5]).reshape([batch, heads * dim, down * height, across * width])
    }
}
