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

/// The left side, whose values are taken one by one.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// `[row block][depth][BLOCK]`
    Blocks(&'a [f32]),
    /// Rows of the values after the first `start`, each row's so many after the one before it. As they are, without a copy: for products of
    /// few columns, which would not pay for one.
    Rows { values: &'a [f32], start: usize, stride: usize },
}

/// `out (+)= left right`, `[rows, depth]` by `[depth, columns]`.
pub(super) struct Product<'a, V> {
    pub(super) left: Left<'a>,
    /// Blocks of columns, [`BLOCK`] values of each depth in one piece.
    pub(super) right: &'a [V],
    /// Where in `right` the next block begins, and the next depth.
    pub(super) strides: [usize; 2],
    /// `[row][column block][vectors]`, with rows up to a whole eight.
    pub(super) out: &'a mut [V],
    /// Of blocks, whole eights.
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
        match self.left {
            // The right side's columns stay in the cache, and the left side goes by.
            Left::Blocks(_) => self.each_column::<S>(
                #[inline(always)]
                |product: &mut Self, column, width| {
                    for row in (0..product.rows).step_by(ROWS) {
                        product.tile(simd, row, column, width);
                    }
                },
            ),
            // The left side's rows do.
            Left::Rows { .. } => {
                for row in (0..self.rows).step_by(ROWS) {
                    self.each_column::<S>(
                        #[inline(always)]
                        |product, column, width| product.tile(simd, row, column, width),
                    );
                }
            }
        }
    }

    /// The columns, as many at once as there are registers for sums, beside a column's vectors and a value of the left side.
    #[inline(always)]
    fn each_column<S: Simd<f32s = V>>(&mut self, mut tile: impl FnMut(&mut Self, usize, usize)) {
        let at_once = if S::REGISTER_COUNT >= 32 { 3 } else { 1 };
        let mut column = 0;
        while column < self.columns {
            let left = self.columns - column;
            // 4 goes as 2 + 2.
            let width = if left == 4 { at_once.min(2) } else { left.min(at_once) };
            tile(self, column, width);
            column += width;
        }
    }

    #[inline(always)]
    fn tile<S: Simd<f32s = V>>(&mut self, simd: S, row: usize, column: usize, width: usize) {
        match width {
            3 => self.tile_of::<S, 3>(simd, row, column),
            2 => self.tile_of::<S, 2>(simd, row, column),
            _ => self.tile_of::<S, 1>(simd, row, column),
        }
    }

    /// Eight rows by `N` vectors of columns.
    #[inline(always)]
    fn tile_of<S: Simd<f32s = V>, const N: usize>(&mut self, simd: S, row: usize, column: usize) {
        let per_block = vectors::<S>();
        let depth = self.depth;
        let mut right = [self.right; N];
        for (i, right) in right.iter_mut().enumerate() {
            let (block, vector) = ((column + i) / per_block, (column + i) % per_block);
            *right = &self.right[block * self.strides[0] + vector..];
        }
        let sums = match self.left {
            Left::Blocks(values) => {
                let values = &values[(row / BLOCK) * depth * BLOCK..][..depth * BLOCK];
                let first = row % BLOCK;
                let parts = values.chunks_exact(BLOCK).map(
                    #[inline(always)]
                    |part| {
                        let part = &part[first..first + ROWS];
                        #[inline(always)]
                        move |row: usize| part[row]
                    },
                );
                self.sums::<S, N, _>(simd, right, parts, true)
            }
            Left::Rows { values, start, stride } => {
                let mut rows = [values; ROWS];
                for (i, rows) in rows.iter_mut().enumerate() {
                    // Beyond the last row that one again.
                    *rows = &values[start + (row + i).min(self.rows - 1) * stride..][..depth];
                }
                let parts = (0..depth).map(
                    #[inline(always)]
                    |depth| {
                        #[inline(always)]
                        move |row: usize| rows[row][depth]
                    },
                );
                self.sums::<S, N, _>(simd, right, parts, false)
            }
        };
        for (i, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[(row + i) * self.columns + column..][..N];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if self.accumulate { simd.add_f32s(*out, sum) } else { sum };
            }
        }
    }

    /// `left`: for each depth the values of eight rows. `ahead`: whether to ask for the next columns meanwhile, for those who go by
    /// columns and find each of them in the last cache.
    #[allow(clippy::needless_range_loop, reason = "indices are unrolled, and iterators over vectors are not")]
    #[inline(always)]
    fn sums<S: Simd<f32s = V>, const N: usize, F: Fn(usize) -> f32>(
        &self,
        simd: S,
        right: [&[V]; N],
        left: impl Iterator<Item = F>,
        ahead: bool,
    ) -> [[V; N]; ROWS] {
        let of_depth = self.strides[1];
        let mut sums = [[simd.splat_f32s(0.0); N]; ROWS];
        for (depth, left) in left.enumerate() {
            if ahead {
                for i in 0..N {
                    prefetch(right[i].as_ptr().wrapping_add(N * self.strides[0] + depth * of_depth));
                }
            }
            let mut values = [right[0][depth * of_depth]; N];
            // By number: a loop over an iterator of these is not unrolled, and the vectors would go through memory.
            for i in 1..N {
                values[i] = right[i][depth * of_depth];
            }
            for row in 0..ROWS {
                let factor = simd.splat_f32s(left(row));
                for i in 0..N {
                    sums[row][i] = simd.mul_add_f32s(factor, values[i], sums[row][i]);
                }
            }
        }
        sums
    }
}

/// Asks the processor for a value that will be read soon; does nothing where there is no such request.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "only x86-64 has a stable request")
)]
#[inline(always)]
fn prefetch<V>(at: *const V) {
    // SAFETY: a request is only a hint, and may be for any address: it reads nothing and never faults.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "the request takes a pointer")]
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
}
