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

/// Φ(x) = erfc(-x / √2) / 2, the normal distribution function, with erfc by formula 7.1.26 of Abramowitz and Stegun, whose
/// error is below 1.5e-7; PyTorch's vectorised erf is the same formula.
#[inline(always)]
pub(super) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1_f32.mul_add(z, 1.0);
    let p = 1.061_405_4_f32;
    let p = p.mul_add(t, -1.453_152_1);
    let p = p.mul_add(t, 1.421_413_8);
    let p = p.mul_add(t, -0.284_496_72);
    let p = p.mul_add(t, 0.254_829_6);
    let half = 0.5 * p * t * exp_nonpositive(-z * z);
    if x < 0.0 { half } else { 1.0 - half }
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
