//! What a LoRA adds to one weight.
//!
//! ```text
//! linear, 1 x 1   W[o, i]       += w s Σ_r U[o, r] D[r, i]
//! 3 x 3 (LoCon)   W[o, i, h, w] += w s Σ_r U[o, r] D[r, i, h, w]
//! with a core     W[o, i, h, w] += w s Σ_rq U[o, r] M[r, q, h, w] D[q, i]
//! ```
//!
//! s is the file's own scale, alpha / rank, and w what the LoRA is asked to weigh (Hu et al. 2021, "LoRA"; Yeh et al. 2023, "LyCORIS"). Sums
//! are made in f32 and then rounded once, to the type that is computed in.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::LoraError;
use crate::CheckpointError;
use crate::entry::{Entry, Orientation};

/// Factors of one weight, or of several that are fused in the LoRA.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    pub(super) up: Factor,
    pub(super) down: Factor,
    pub(super) mid: Option<Factor>,
    /// alpha / rank.
    pub(super) scale: f64,
    /// Which rows of the product this weight's are, range after range; empty for all.
    pub(super) rows: Vec<Range<usize>>,
}

/// One tensor of a LoRA.
#[derive(Clone, Debug)]
pub(super) struct Factor {
    pub(super) key: String,
    pub(super) entry: Arc<Entry>,
}

impl Factor {
    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    /// As a matrix of its first side and all others.
    fn matrix(&self, device: &Device) -> Result<Tensor<2>, CheckpointError> {
        let data = self.entry.read_as(&self.key, DType::F32, Orientation::AsStored)?;
        let rows = self.shape().first().copied().unwrap_or(1);
        let columns = self.shape().iter().skip(1).product::<usize>();
        Ok(Tensor::<1>::from_data(flat(data), (device, DType::F32)).reshape([rows, columns]))
    }

    fn wrong(&self, file: &str, expected: String) -> LoraError {
        LoraError::Shape {
            file: file.to_owned(),
            key: self.key.clone(),
            found: self.shape().to_vec(),
            expected,
        }
    }
}

impl Delta {
    /// Checks that the product is of the weight's shape.
    pub(super) fn check(&self, file: &str, name: &str, weight: &[usize]) -> Result<(), LoraError> {
        let Self { up, down, mid, rows, .. } = self;
        let of_weight = || format!("`{name}`, which is {weight:?}");
        let [outputs, inner @ ..] = weight else { return Err(up.wrong(file, of_weight())) };
        let [rank, reads @ ..] = down.shape() else { return Err(down.wrong(file, of_weight())) };
        // 1 x 1 convolutions and linear layers are written as one another.
        let (inner, reads) = (without_ones(inner), without_ones(reads));
        let mut takes = *rank;
        let fits = match mid {
            None => inner == reads,
            Some(core) => {
                let [first, second, sides @ ..] = core.shape() else {
                    return Err(core.wrong(file, of_weight()));
                };
                if second != rank {
                    return Err(core.wrong(file, format!("`{}`, which is {:?}", down.key, down.shape())));
                }
                takes = *first;
                let channels = inner.first().map_or(&[][..], std::slice::from_ref);
                if without_ones(sides) != inner.get(1..).unwrap_or_default() {
                    return Err(core.wrong(file, of_weight()));
                }
                channels == reads
            }
        };
        if !fits || *rank == 0 {
            return Err(down.wrong(file, of_weight()));
        }
        let [gives, ranks, ones @ ..] = up.shape() else { return Err(up.wrong(file, of_weight())) };
        if *ranks != takes || ones.iter().any(|side| *side != 1) {
            return Err(up.wrong(file, format!("`{}`, which is {:?}", down.key, down.shape())));
        }
        let kept = if rows.is_empty() { *gives } else { rows.iter().map(Range::len).sum() };
        if kept != *outputs || rows.iter().any(|rows| rows.end > *gives) {
            return Err(up.wrong(file, of_weight()));
        }
        Ok(())
    }

    /// s U D, `[outputs, all else]`.
    fn product(&self, device: &Device) -> Result<Tensor<2>, CheckpointError> {
        let mut up = self.up.matrix(device)?;
        if !self.rows.is_empty() {
            let part = |rows: &Range<usize>| up.clone().slice([rows.clone()]);
            up = Tensor::cat(self.rows.iter().map(part).collect(), 0);
        }
        let mut down = self.down.matrix(device)?;
        if let Some(core) = &self.mid {
            let [first, second, sides @ ..] = core.shape() else { unreachable!("checked") };
            let (places, [_, inputs]) = (sides.iter().product::<usize>(), down.dims());
            let core: Tensor<3> = core.matrix(device)?.reshape([*first, *second, places]).swap_dims(1, 2);
            let full = core.reshape([first * places, *second]).matmul(down);
            let full: Tensor<3> = full.reshape([*first, places, inputs]).swap_dims(1, 2);
            down = full.reshape([*first, inputs * places]);
        }
        Ok(up.matmul(down) * self.scale)
    }
}

/// A stored weight with all that is added to it, each with its weight, as `dtype`.
pub(crate) fn added(
    entry: &Entry,
    name: &str,
    deltas: &[(Arc<Delta>, f64)],
    (dtype, orientation): (DType, Orientation),
    device: &Device,
) -> Result<TensorData, CheckpointError> {
    let base = entry.read_as(name, DType::F32, Orientation::AsStored)?;
    let (mut shape, rows) = (entry.shape.clone(), entry.shape.first().copied().unwrap_or(1));
    let columns = shape.iter().skip(1).product::<usize>();
    let mut sum = Tensor::<1>::from_data(flat(base), (device, DType::F32)).reshape([rows, columns]);
    for (delta, weight) in deltas {
        sum = sum + delta.product(device)? * *weight;
    }
    if orientation == Orientation::Transposed && shape.len() == 2 {
        sum = sum.transpose();
        shape.reverse();
    }
    let fail = |reason: String| CheckpointError::Entry {
        file: entry.file().to_owned(),
        tensor: name.to_owned(),
        reason: format!("with a LoRA: {reason}"),
    };
    let data = sum.try_into_data().map_err(|error| fail(error.to_string()))?;
    let data = data.try_cast(dtype).map_err(|error| fail(error.to_string()))?;
    let (bytes, _, dtype) = data.into_parts();
    TensorData::try_from_bytes(bytes, shape, dtype).map_err(|error| fail(error.to_string()))
}

/// The same numbers in one row.
fn flat(data: TensorData) -> TensorData {
    let elements = data.num_elements();
    let (bytes, _, dtype) = data.into_parts();
    TensorData::from_bytes(bytes, [elements], dtype)
}

/// Sides up to the last that is not 1.
fn without_ones(sides: &[usize]) -> &[usize] {
    // The first is of channels, however many.
    let last = (1..sides.len()).rev().find(|&at| sides[at] != 1).unwrap_or(0);
    &sides[..sides.len().min(last + 1)]
}
