//! How well the edges of what was drawn lie on those that were asked for.
//!
//! ```text
//! precision  the share of drawn edges that are within a pixel of one asked for
//! recall     the share of edges asked for that are within a pixel of one drawn
//! F1         2 precision recall / (precision + recall)
//! ```
//!
//! "Within a pixel" is one step to any of the eight neighbours. A mean over pictures; of a picture without edges on either side, all
//! three are 0, but 1 where there are none on both.

use kiln::picture::Picture;
use serde::Serialize;

/// See the [module](self).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Overlap {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// The share of edges in `of` that are within a pixel of one in `near`, both grey and of one size; `None` without edges in `of`.
fn covered(of: &Picture, near: &Picture) -> Option<f64> {
    let (width, height) = (of.width() as usize, of.height() as usize);
    let is_edge = |picture: &Picture, x: usize, y: usize| picture.samples()[y * width + x] >= 128;
    let around = |at: usize, sides: usize| at.saturating_sub(1)..=(at + 1).min(sides - 1);
    let (mut edges, mut met) = (0_usize, 0_usize);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        if is_edge(of, x, y) {
            edges += 1;
            met += usize::from(around(y, height).any(|y| around(x, width).any(|x| is_edge(near, x, y))));
        }
    }
    (edges > 0).then(|| met as f64 / edges as f64)
}

impl Overlap {
    fn of(drawn: &Picture, asked: &Picture) -> Self {
        match (covered(drawn, asked), covered(asked, drawn)) {
            (Some(precision), Some(recall)) => {
                let sum = precision + recall;
                let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
                Self { precision, recall, f1 }
            }
            (None, None) => Self { precision: 1.0, recall: 1.0, f1: 1.0 },
            _ => Self::default(),
        }
    }

    /// The mean over pictures of edges, grey and in pairs of one size.
    pub fn mean(drawn: &[Picture], asked: &[Picture]) -> Self {
        let count = drawn.len().max(1) as f64;
        let each = drawn.iter().zip(asked).map(|(drawn, asked)| Self::of(drawn, asked));
        let sum = each.fold(Self::default(), |sum, one| Self {
            precision: sum.precision + one.precision,
            recall: sum.recall + one.recall,
            f1: sum.f1 + one.f1,
        });
        Self { precision: sum.precision / count, recall: sum.recall / count, f1: sum.f1 / count }
    }
}
