//! How well the edges of what was drawn lie on those that were asked for.
//!
//! ```text
//! precision  the share of drawn edges that are near one asked for
//! recall     the share of edges asked for that are near one drawn
//! F1         2 precision recall / (precision + recall)
//! ```
//!
//! Near is within a pixel, one step to any of the eight neighbours, and for `exact_f1` the same pixel. A mean over pictures; of a picture without edges on either side, all
//! three are 0, but 1 where there are none on both.

use kiln::picture::Picture;
use serde::Serialize;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Overlap {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    pub exact_f1: f64,
}

/// The share of edges in `of` that are at most `reach` pixels from one in `near`, both grey and of one size; `None` without edges in `of`.
fn covered(of: &Picture, near: &Picture, reach: usize) -> Option<f64> {
    let (width, height) = (of.width() as usize, of.height() as usize);
    let is_edge = |picture: &Picture, x: usize, y: usize| picture.samples()[y * width + x] >= 128;
    let around = |at: usize, sides: usize| at.saturating_sub(reach)..=(at + reach).min(sides - 1);
    let (mut edges, mut met) = (0_usize, 0_usize);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        if is_edge(of, x, y) {
            edges += 1;
            met += usize::from(around(y, height).any(|y| around(x, width).any(|x| is_edge(near, x, y))));
        }
    }
    (edges > 0).then(|| met as f64 / edges as f64)
}

/// Precision, recall and F1.
fn agreement(drawn: &Picture, asked: &Picture, reach: usize) -> [f64; 3] {
    match (covered(drawn, asked, reach), covered(asked, drawn, reach)) {
        (Some(precision), Some(recall)) => {
            let sum = precision + recall;
            [precision, recall, if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 }]
        }
        (None, None) => [1.0; 3],
        _ => [0.0; 3],
    }
}

impl Overlap {
    /// The mean over pictures of edges, grey and in pairs of one size.
    pub fn mean(drawn: &[Picture], asked: &[Picture]) -> Self {
        let count = drawn.len().max(1) as f64;
        let mut mean = Self::default();
        for (drawn, asked) in drawn.iter().zip(asked) {
            let [precision, recall, f1] = agreement(drawn, asked, 1);
            mean.precision += precision / count;
            mean.recall += recall / count;
            mean.f1 += f1 / count;
            mean.exact_f1 += agreement(drawn, asked, 0)[2] / count;
        }
        mean
    }
}
