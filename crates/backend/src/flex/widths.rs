//! For tests: kernels at every width of vectors that the machine has.

use pulp::{Simd, WithSimd};

/// What must be true of a kernel at any width.
pub(super) trait Holds {
    fn holds<S: Simd>(&self, simd: S);
}

/// Without vectors, with eight lanes where there are such, and with the widest.
pub(super) fn at_every_width(test: &impl Holds) {
    struct Widest<'a, T>(&'a T);
    impl<T: Holds> WithSimd for Widest<'_, T> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.holds(simd);
        }
    }
    test.holds(pulp::Scalar::new());
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(simd) = pulp::x86::V3::try_new() {
        test.holds(simd);
    }
    pulp::Arch::new().dispatch(Widest(test));
}

/// Numbers in [-0.5, 0.5) that follow no pattern a kernel could have.
pub(super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}
