//! A product of two matrices that lie as its loop reads them: what convolutions and attention are made of, on one thread.

use pulp::Simd;

/// Rows and columns stand together in this number, whatever the width of a vector is.
pub(super) const BLOCK: usize = 16;

/// Vectors in [`BLOCK`] values.
#[inline(always)]
pub(super) fn vectors<S: Simd>() -> usize {
    BLOCK / S::F32_LANES
}

/// Rows of a product that are summed at once.
const ROWS: usize = 8;

/// `out (+)= left right`, `[rows, depth]` by `[depth, columns]`.
pub(super) struct Product<'a, V> {
    /// `[row block][depth][BLOCK]`
    pub(super) left: &'a [f32],
    /// Blocks of columns, [`BLOCK`] values of each depth in one piece.
    pub(super) right: &'a [V],
    /// Where in `right` the next block begins, and the next depth.
    pub(super) strides: [usize; 2],
    /// `[row][column block][vectors]`
    pub(super) out: &'a mut [V],
    /// Whole eights.
    pub(super) rows: usize,
    /// In vectors.
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Whether `out` has a sum already.
    pub(super) accumulate: bool,
}

impl<V: Copy> Product<'_, V> {
    /// Makes `out`.
    #[inline(always)]
    pub(super) fn run<S: Simd<f32s = V>>(&mut self, simd: S) {
        let per_block = vectors::<S>();
        // As many sums as there are registers for, beside a column's vectors and a kernel's value.
        let at_once = if S::REGISTER_COUNT >= 32 { 3 } else { 1 };
        let mut column = 0;
        while column < self.columns {
            let left = self.columns - column;
            // 4 goes as 2 + 2.
            let width = if left == 4 { at_once.min(2) } else { left.min(at_once) };
            for row in (0..self.rows).step_by(ROWS) {
                match width {
                    3 => self.tile::<S, 3>(simd, row, column, per_block),
                    2 => self.tile::<S, 2>(simd, row, column, per_block),
                    _ => self.tile::<S, 1>(simd, row, column, per_block),
                }
            }
            column += width;
        }
    }

    /// Eight rows by `N` vectors of columns.
    #[inline(always)]
    fn tile<S: Simd<f32s = V>, const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        per_block: usize,
    ) {
        let [of_block, of_depth] = self.strides;
        let mut right = [self.right; N];
        for (i, right) in right.iter_mut().enumerate() {
            let (block, vector) = ((column + i) / per_block, (column + i) % per_block);
            *right = &self.right[block * of_block + vector..];
        }
        let left = &self.left[(row / BLOCK) * self.depth * BLOCK..][..self.depth * BLOCK];
        let mut sums = [[simd.splat_f32s(0.0); N]; ROWS];
        let first = row % BLOCK;
        for (depth, left) in left.chunks_exact(BLOCK).enumerate() {
            let mut values = [right[0][depth * of_depth]; N];
            // By number: a loop over an iterator of these is not unrolled, and the vectors would go through memory.
            for i in 1..N {
                values[i] = right[i][depth * of_depth];
            }
            let left = &left[first..first + ROWS];
            for row in 0..ROWS {
                let factor = simd.splat_f32s(left[row]);
                for i in 0..N {
                    sums[row][i] = simd.mul_add_f32s(factor, values[i], sums[row][i]);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[(row + i) * self.columns + column..][..N];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if self.accumulate { simd.add_f32s(*out, sum) } else { sum };
            }
        }
    }
}
