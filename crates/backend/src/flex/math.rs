//! Elementary functions written so that loops over them vectorise: no branch, no table, no call.

use std::f32::consts::LOG2_E;

/// eˣ within 2 units in the last place on [-87.3, 88.7]; 0 below, and +∞ above 88.73.
///
/// With x = n ln 2 + r, |r| ≤ ln 2 / 2: a polynomial of degree 6 for eʳ (Cephes' expf), and 2ⁿ by the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding this rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the result is 0 or infinite; the comparisons keep a NaN.
    let clamped = if x < -104.0 { -104.0 } else { x };
    let clamped = if clamped > 89.0 { 89.0 } else { clamped };
    let shifted = clamped.mul_add(LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_HIGH, clamped);
    let r = n.mul_add(-LN2_LOW, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 0.166_666_65);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    // 2ⁿ in two factors, so that neither leaves the range of normal numbers.
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let half = n >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
    y * power(half) * power(n.wrapping_sub(half))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x = 1 - 2 / (e²ˣ + 1): exact to about 1e-7 absolutely, which is what GELU needs.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
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
    let half = 0.5 * p * t * exp(-z * z);
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
