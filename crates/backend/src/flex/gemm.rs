//! A matrix product on slices, by the `gemm` crate, on one thread: the kernels that call it are parallel already.
#![allow(unsafe_code)]

/// A matrix inside a slice: element (i, j) stands at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Row after row, `columns` values each.
pub(super) fn row_major(columns: usize) -> Strides {
    Strides { row: columns, column: 1 }
}

/// The transpose of a row-major matrix whose rows have `columns` values.
pub(super) fn transposed(columns: usize) -> Strides {
    Strides { row: 1, column: columns }
}

/// What becomes of the values that stand in the destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    Overwrite,
    Accumulate,
}

/// `out (+)= scale * lhs rhs`, with `lhs` `[m, k]`, `rhs` `[k, n]`, and `out` `[m, n]` whose rows start its second part
/// apart.
///
/// # Panics
/// If a slice is too short for its matrix.
pub(super) fn gemm(
    [m, n, k]: [usize; 3],
    (out, out_row): (&mut [f32], usize),
    destination: Destination,
    lhs: (&[f32], Strides),
    rhs: (&[f32], Strides),
    scale: f32,
) {
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, columns: usize, s: Strides| (rows - 1) * s.row + (columns - 1) * s.column;
    assert!(
        out_row >= n && out.len() >= (m - 1) * out_row + n,
        "gemm: {} values, {out_row} a row, for a destination of {m} x {n}",
        out.len()
    );
    assert!(k == 0 || lhs.0.len() > last(m, k, lhs.1), "gemm: {} values for {m} x {k}", lhs.0.len());
    assert!(k == 0 || rhs.0.len() > last(k, n, rhs.1), "gemm: {} values for {k} x {n}", rhs.0.len());
    // SAFETY: the asserts above put the last element of each matrix, which has the largest offset since strides are
    // not negative, inside its slice; `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            destination == Destination::Accumulate,
            lhs.0.as_ptr(),
            lhs.1.column as isize,
            lhs.1.row as isize,
            rhs.0.as_ptr(),
            rhs.1.column as isize,
            rhs.1.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
