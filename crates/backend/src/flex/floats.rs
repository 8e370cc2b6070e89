//! Numbers of 16 or 32 bits: kernels compute in f32, and widen what is narrower a piece at a time, in the cache. That is
//! exact, and weights that came in 16 bits take half the memory.

use std::ops::Range;

use burn::tensor::{DType, bf16, f16};
use half::slice::HalfFloatSliceExt;

use super::FlexTensor;

/// The values of a contiguous tensor.
#[derive(Clone, Copy)]
pub(super) enum Floats<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    BF16(&'a [bf16]),
}

impl<'a> Floats<'a> {
    /// Whether a tensor of this type has any.
    pub(super) fn are(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
    }

    pub(super) fn of(x: &'a FlexTensor) -> Self {
        let values = match x.dtype() {
            DType::F16 => x.as_slice().map(Self::F16),
            DType::BF16 => x.as_slice().map(Self::BF16),
            _ => x.as_slice().map(Self::F32),
        };
        values.expect("kernels make their inputs contiguous and are called for floats alone")
    }

    /// Those of `range` as they are, or widened into `space`.
    pub(super) fn widened<'s>(&self, range: Range<usize>, space: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        if let Self::F32(values) = self {
            return &values[range];
        }
        space.clear();
        self.widen(range, space);
        space
    }

    /// Adds those of `range` to `space`.
    pub(super) fn widen(&self, range: Range<usize>, space: &mut Vec<f32>) {
        let start = space.len();
        space.resize(start + range.len(), 0.0);
        match self {
            Self::F32(values) => space[start..].copy_from_slice(&values[range]),
            Self::F16(values) => values[range].convert_to_f32_slice(&mut space[start..]),
            Self::BF16(values) => values[range].convert_to_f32_slice(&mut space[start..]),
        }
    }
}
