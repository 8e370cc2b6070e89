//! Elementary functions written so that loops over them vectorise: no branch, no table, no call.

use std::f32::consts::{LN_2, LOG2_E};

/// eˣ for x from -87.3 to 88.7, relative error below 2e-7 + 6e-8 |x|; anything outside, but a NaN stays one.
///
/// With x / ln 2 = n + r, |r| ≤ 1/2: a polynomial of degree 6 for 2ʳ (Cephes' exp2f), and n added to its exponent.
#[inline(always)]
fn exp_within(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    let shifted = x.mul_add(LOG2_E, MAGIC);
    let r = x.mul_add(LOG2_E, MAGIC - shifted);
    let p = 1.535_336_2e-4_f32;
    let p = p.mul_add(r, 1.339_887_4e-3);
    let p = p.mul_add(r, 9.618_437e-3);
    let p = p.mul_add(r, 5.550_332_5e-2);
    let p = p.mul_add(r, 0.240_226_48);
    let p = p.mul_add(r, LN_2);
    let p = p.mul_add(r, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// eˣ of a number that is not positive, as [`exp_within`]; 0 below -87.3.
#[inline(always)]
pub(super) fn exp_nonpositive(x: f32) -> f32 {
    let y = exp_within(x);
    if x < -87.3 { 0.0 } else { y }
}

/// 1 / (1 + e⁻ˣ). Below -87 that of -87: 1.6e-38.
#[inline(always)]
pub(super) fn logistic(x: f32) -> f32 {
    // The comparisons keep a NaN.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    1.0 / (1.0 + exp_within(-x))
}

/// tanh x = 2 / (1 + e⁻²ˣ) - 1: exact to about 1e-7 absolutely, which is what GELU needs.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    2.0 * logistic(2.0 * x) - 1.0
}

/// Φ(x), the normal distribution function, with an error below 2e-7: 1/2 + x P(x²) / Q(x²), five degrees each (least squares
/// of the error of Φ, weighted until it is level), which is exactly 0 and 1 at ∓5.35, beyond which it stays so.
#[inline(always)]
pub(super) fn normal_cdf(x: f32) -> f32 {
    const END: f32 = 5.35;
    // The comparisons keep a NaN.
    let x = if x < -END { -END } else { x };
    let x = if x > END { END } else { x };
    let s = x * x;
    let p = 2.371_582_4e-8_f32;
    let p = p.mul_add(s, 6.367_996_3e-6);
    let p = p.mul_add(s, 1.622_497_7e-4);
    let p = p.mul_add(s, 4.638_894e-3);
    let p = p.mul_add(s, 3.314_722e-2);
    let p = p.mul_add(s, 0.398_942_26);
    let q = 1.226_699_7e-6_f32;
    let q = q.mul_add(s, 7.184_663e-5);
    let q = q.mul_add(s, 1.847_317_1e-3);
    let q = q.mul_add(s, 2.825_458_7e-2);
    let q = q.mul_add(s, 0.249_753_92);
    let q = q.mul_add(s, 1.0);
    0.5 + x * p / q
}

/// Σ x, over sixteen running sums, so that it vectorises and rounds less than one sum would.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f(v);
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|&v| f(v)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Σ f(x, y) over two slices of one length.
#[inline(always)]
pub(super) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let mut xs = x.chunks_exact(16);
    let mut ys = y.chunks_exact(16);
    for (xc, yc) in (&mut xs).zip(&mut ys) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(xc).zip(yc) {
            *lane += f(a, b);
        }
    }
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(&a, &b)| f(a, b)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The largest value; -∞ of nothing. A NaN is passed over.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    lanes.iter().copied().fold(rest, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ(x) = 1/2 + φ(x) Σ_k x²ᵏ⁺¹ / (2k + 1)!!
    fn exact_normal_cdf(x: f64) -> f64 {
        let terms = (0..200_u32).scan(1.0, |term, k| {
            *term *= x / f64::from(2 * k + 1) * if k == 0 { 1.0 } else { x };
            Some(*term)
        });
        0.5 + (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt() * terms.sum::<f64>()
    }

    #[test]
    fn the_normal_cdf_is_exact_to_its_bound() {
        for i in -70_000..=70_000 {
            let x = i as f32 * 1e-4;
            let error = f64::from(normal_cdf(x)) - exact_normal_cdf(f64::from(x));
            assert!(error.abs() < 2e-7, "{x}: {error:e}");
        }
        assert_eq!(
            [f32::NEG_INFINITY, -6.0, 0.0, 6.0, f32::INFINITY].map(normal_cdf),
            [0.0, 0.0, 0.5, 1.0, 1.0]
        );
        assert!(normal_cdf(f32::NAN).is_nan());
    }
}
