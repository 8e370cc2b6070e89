//! The products between the transforms: for each of the 36 points, a small matrix of kernels by one of tiles.

use pulp::Simd;

/// Rows (output channels) and columns (tiles) stand together in this number, whatever the width of a vector is.
pub(super) const BLOCK: usize = 16;

/// Vectors in [`BLOCK`] values.
#[inline(always)]
pub(super) fn vectors<S: Simd>() -> usize {
    BLOCK / S::F32_LANES
}

/// Rows of a product that are summed at once.
const ROWS: usize = 8;

/// One point's matrices. A block of rows or columns is stored channel after channel, so that a product reads
/// straight on.
pub(super) struct Product<'a, V> {
    /// `[row block][channel][BLOCK]`
    pub(super) kernels: &'a [f32],
    /// `[tile block][channel][vectors]`
    pub(super) tiles: &'a [V],
    /// `[row][tile block][vectors]`
    pub(super) out: &'a mut [V],
    pub(super) rows: usize,
    pub(super) channels: usize,
    /// Whether `out` has the sum over earlier channels.
    pub(super) accumulate: bool,
}

impl<V: Copy> Product<'_, V> {
    /// `out (+)= kernels tiles`; rows are whole eights.
    #[inline(always)]
    pub(super) fn run<S: Simd<f32s = V>>(&mut self, simd: S) {
        let per_block = vectors::<S>();
        let columns = self.tiles.len() / self.channels;
        // As many sums as there are registers for, beside a column's vectors and a kernel's value.
        let at_once = if S::REGISTER_COUNT >= 32 { 3 } else { 1 };
        let mut column = 0;
        while column < columns {
            let left = columns - column;
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
        let columns = self.tiles.len() / self.channels;
        let length = self.channels * per_block;
        let mut tiles = [self.tiles; N];
        for (i, tiles) in tiles.iter_mut().enumerate() {
            let (block, vector) = ((column + i) / per_block, (column + i) % per_block);
            *tiles = &self.tiles[block * length + vector..(block + 1) * length];
        }
        let kernels = &self.kernels[(row / BLOCK) * self.channels * BLOCK..][..self.channels * BLOCK];
        let mut sums = [[simd.splat_f32s(0.0); N]; ROWS];
        let first = row % BLOCK;
        for (channel, kernel) in kernels.chunks_exact(BLOCK).enumerate() {
            let mut values = [tiles[0][channel * per_block]; N];
            // By number: a loop over an iterator of these is not unrolled, and the vectors would go through memory.
            for i in 1..N {
                values[i] = tiles[i][channel * per_block];
            }
            let kernel = &kernel[first..first + ROWS];
            for row in 0..ROWS {
                let weight = simd.splat_f32s(kernel[row]);
                for i in 0..N {
                    sums[row][i] = simd.mul_add_f32s(weight, values[i], sums[row][i]);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[(row + i) * columns + column..][..N];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if self.accumulate { simd.add_f32s(*out, sum) } else { sum };
            }
        }
    }
}
