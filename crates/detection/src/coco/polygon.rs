//! Outlines to masks, as COCO's own tools draw them: the outline is walked on a grid five times as fine, and a pixel is in where
//! its centre is.

use super::rle::{Rle, RleError};

/// How much finer the grid is that outlines are walked on.
const SCALE: f64 = 5.0;

impl Rle {
    /// Everything within any of the outlines, each x, y, x, y, ... in pixels.
    ///
    /// # Errors
    ///
    /// [`RleError::Polygon`], if one has no three points, or a number that is none or far off.
    pub fn from_polygons(polygons: &[Vec<f64>], height: u32, width: u32) -> Result<Self, RleError> {
        let empty = Self::encode(&vec![false; height as usize * width as usize], height, width);
        let masks = polygons.iter().enumerate().map(|(index, outline)| {
            let fail = |reason| RleError::Polygon { index, reason };
            if outline.len() < 6 || outline.len() % 2 == 1 {
                return Err(fail("has no three points of two numbers each"));
            }
            if outline.iter().any(|side| !side.is_finite() || side.abs() > 1e5) {
                return Err(fail("has a point that is no number, or more than 100,000 pixels away"));
            }
            Ok(draw(outline, height, width))
        });
        let masks: Vec<Self> = masks.collect::<Result<_, _>>()?;
        match masks.split_first() {
            Some((first, others)) => Self::union(first, others),
            None => Ok(empty),
        }
    }
}

fn draw(outline: &[f64], height: u32, width: u32) -> Rle {
    let (rows, columns) = (f64::from(height), f64::from(width));
    let fine: Vec<[i64; 2]> = outline
        .chunks_exact(2)
        .map(|point| [point[0], point[1]].map(|side| (SCALE * side + 0.5) as i64))
        .collect();
    let mut path: Vec<[i64; 2]> = Vec::new();
    for (index, &from) in fine.iter().enumerate() {
        line(from, fine[(index + 1) % fine.len()], &mut path);
    }
    // Where the path crosses the middle of a column, the column's pixels change from there down.
    let mut changes: Vec<u64> = Vec::new();
    for pair in path.windows(2) {
        let ([u0, v0], [u1, v1]) = (pair[0], pair[1]);
        if u0 == u1 {
            continue;
        }
        let coarse = |fine: i64| (fine as f64 + 0.5) / SCALE - 0.5;
        let column = coarse(if u1 < u0 { u1 } else { u1 - 1 });
        if column.floor() != column || column < 0.0 || column > columns - 1.0 {
            continue;
        }
        let row = coarse(v0.min(v1)).clamp(0.0, rows).ceil();
        changes.push(column as u64 * u64::from(height) + row as u64);
    }
    changes.push(u64::from(height) * u64::from(width));
    changes.sort_unstable();
    let mut counts: Vec<u32> = Vec::new();
    let mut before = 0;
    // Two changes at one place cancel each other.
    let mut skip = false;
    for change in changes {
        let run = (change - before) as u32;
        before = change;
        if skip {
            *counts.last_mut().expect("a run was left out after another") += run;
            skip = false;
        } else if run > 0 || counts.is_empty() {
            counts.push(run);
        } else {
            skip = true;
        }
    }
    Rle::new(counts, height, width).expect("the last change is at the last pixel")
}

/// Every point of the fine grid from one to another, a step at a time along the longer side.
fn line([xs, ys]: [i64; 2], [xe, ye]: [i64; 2], path: &mut Vec<[i64; 2]>) {
    let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
    let flat = dx >= dy;
    let steps = dx.max(dy);
    // Both directions of an edge give the same points.
    let flipped = if flat { xs > xe } else { ys > ye };
    let ([x, y], [x_end, y_end]) = if flipped { ([xe, ye], [xs, ys]) } else { ([xs, ys], [xe, ye]) };
    let slope = match (flat, steps) {
        (_, 0) => 0.0,
        (true, _) => (y_end - y) as f64 / dx as f64,
        (false, _) => (x_end - x) as f64 / dy as f64,
    };
    for step in 0..=steps {
        let t = if flipped { steps - step } else { step };
        let across = |start: i64| (start as f64 + slope * t as f64 + 0.5) as i64;
        path.push(if flat { [x + t, across(y)] } else { [across(x), y + t] });
    }
}
