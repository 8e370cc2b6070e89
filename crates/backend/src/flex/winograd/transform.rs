//! The transforms of F(4 x 4, 3 x 3), on vectors of tiles or of kernels.
//!
//! Y = Aᵗ [(G g Gᵗ) ⊙ (Bᵗ d B)] A, with the matrices of Lavin and Gray (2016), whose points are 0, ±1, ±2 and ∞. Each
//! two-dimensional transform is its one-dimensional one along both axes. The kernels' gradient takes two more, the adjoints
//! of Aᵗ and of G.

use pulp::Simd;

/// Values in a tile of the picture, and in every transformed tile and kernel: 6 x 6.
pub(super) const POINTS: usize = 36;

/// Bᵗ d: what six neighbouring values of the picture become.
#[inline(always)]
fn along_input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let [two, four, minus_four, minus_five] = [2.0, 4.0, -4.0, -5.0].map(|v| simd.splat_f32s(v));
    let outer = simd.sub_f32s(d[4], d[2]);
    let inner = simd.sub_f32s(d[3], d[1]);
    [
        simd.mul_add_f32s(four, d[0], simd.mul_add_f32s(minus_five, d[2], d[4])),
        simd.mul_add_f32s(minus_four, simd.add_f32s(d[1], d[2]), simd.add_f32s(d[3], d[4])),
        simd.mul_add_f32s(four, simd.sub_f32s(d[1], d[2]), simd.sub_f32s(d[4], d[3])),
        simd.mul_add_f32s(two, inner, outer),
        simd.sub_f32s(outer, simd.mul_f32s(two, inner)),
        simd.mul_add_f32s(four, d[1], simd.mul_add_f32s(minus_five, d[3], d[5])),
    ]
}

/// G g: what three neighbouring values of a kernel become.
#[inline(always)]
fn along_kernel<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let [quarter, sixth, minus_sixth, twelfth, twenty_fourth] =
        [1.0 / 4.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|v| simd.splat_f32s(v));
    let ends = simd.add_f32s(g[0], g[2]);
    let weighed = simd.mul_add_f32s(twenty_fourth, g[0], simd.mul_f32s(sixth, g[2]));
    let middle = simd.mul_f32s(twelfth, g[1]);
    [
        simd.mul_f32s(quarter, g[0]),
        simd.mul_f32s(minus_sixth, simd.add_f32s(ends, g[1])),
        simd.mul_f32s(minus_sixth, simd.sub_f32s(ends, g[1])),
        simd.add_f32s(weighed, middle),
        simd.sub_f32s(weighed, middle),
        g[2],
    ]
}

/// Aᵗ m: four neighbouring outputs.
#[inline(always)]
fn along_output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|v| simd.splat_f32s(v));
    let (near, near_difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (far, far_difference) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(simd.add_f32s(m[0], near), far),
        simd.mul_add_f32s(two, far_difference, near_difference),
        simd.mul_add_f32s(four, far, near),
        simd.add_f32s(simd.mul_add_f32s(eight, far_difference, near_difference), m[5]),
    ]
}

/// A y: what the gradients of four neighbouring outputs become.
#[inline(always)]
fn along_gradient<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
    let [two, four] = [2.0, 4.0].map(|v| simd.splat_f32s(v));
    let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let far_even = simd.mul_add_f32s(four, y[2], y[0]);
    let far_odd = simd.mul_f32s(two, simd.mul_add_f32s(four, y[3], y[1]));
    [
        y[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(far_even, far_odd),
        simd.sub_f32s(far_even, far_odd),
        y[3],
    ]
}

/// Gᵗ m: the gradients of three neighbouring values of a kernel.
#[inline(always)]
fn along_kernel_gradient<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 3] {
    let [quarter, sixth, minus_sixth, twelfth, twenty_fourth] =
        [1.0 / 4.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|v| simd.splat_f32s(v));
    let near = simd.mul_f32s(minus_sixth, simd.add_f32s(m[1], m[2]));
    let far = simd.add_f32s(m[3], m[4]);
    [
        simd.mul_add_f32s(quarter, m[0], simd.mul_add_f32s(twenty_fourth, far, near)),
        simd.mul_add_f32s(
            sixth,
            simd.sub_f32s(m[2], m[1]),
            simd.mul_f32s(twelfth, simd.sub_f32s(m[3], m[4])),
        ),
        simd.add_f32s(simd.mul_add_f32s(sixth, far, near), m[5]),
    ]
}

/// A one-dimensional transform along the columns, then along the rows, of a square that `at` reads: `each` gets every
/// value of the result, with its place in row-major order.
#[inline(always)]
fn both_axes<V: Copy, const N: usize, const M: usize>(
    along: impl Fn([V; N]) -> [V; M],
    at: impl Fn(usize) -> V,
    mut each: impl FnMut(usize, V),
) {
    // Loops, and no `array::from_fn`: a closure that the standard library calls is compiled without the vectors.
    let mut columns = [[at(0); N]; M];
    #[allow(clippy::needless_range_loop, reason = "a column is spread over the rows")]
    for column in 0..N {
        let mut values = [at(column); N];
        for (row, value) in values.iter_mut().enumerate().skip(1) {
            *value = at(row * N + column);
        }
        let values = along(values);
        for (row, value) in values.into_iter().enumerate() {
            columns[row][column] = value;
        }
    }
    for (row, values) in columns.into_iter().enumerate() {
        let values = along(values);
        for (column, value) in values.into_iter().enumerate() {
            each(row * M + column, value);
        }
    }
}

/// Bᵗ d B.
#[inline(always)]
pub(super) fn input<S: Simd>(simd: S, at: impl Fn(usize) -> S::f32s, each: impl FnMut(usize, S::f32s)) {
    both_axes(
        #[inline(always)]
        |d| along_input(simd, d),
        at,
        each,
    );
}

/// G g Gᵗ.
#[inline(always)]
pub(super) fn kernel<S: Simd>(simd: S, at: impl Fn(usize) -> S::f32s, each: impl FnMut(usize, S::f32s)) {
    both_axes(
        #[inline(always)]
        |g| along_kernel(simd, g),
        at,
        each,
    );
}

/// Aᵗ m A.
#[inline(always)]
pub(super) fn output<S: Simd>(simd: S, at: impl Fn(usize) -> S::f32s, each: impl FnMut(usize, S::f32s)) {
    both_axes(
        #[inline(always)]
        |m| along_output(simd, m),
        at,
        each,
    );
}

/// A ∂y Aᵗ.
#[inline(always)]
pub(super) fn gradient<S: Simd>(simd: S, at: impl Fn(usize) -> S::f32s, each: impl FnMut(usize, S::f32s)) {
    both_axes(
        #[inline(always)]
        |y| along_gradient(simd, y),
        at,
        each,
    );
}

/// Gᵗ m G.
#[inline(always)]
pub(super) fn kernel_gradient<S: Simd>(
    simd: S,
    at: impl Fn(usize) -> S::f32s,
    each: impl FnMut(usize, S::f32s),
) {
    both_axes(
        #[inline(always)]
        |m| along_kernel_gradient(simd, m),
        at,
        each,
    );
}
