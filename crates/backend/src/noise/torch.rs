//! The generator behind `torch.manual_seed` on the CPU, so that a seed gives here what it gives there.
//!
//! The bits are MT19937's (Matsumoto, Nishimura 1998), seeded with the low 32 bits of the seed. How they become normals is torch's own
//! (`aten/src/ATen/native/cpu/DistributionTemplates.h`, `aten/src/ATen/core/DistributionsHelper.h`), and depends on how many are
//! asked for at once:
//!
//! - below 16 elements, pairs by Box-Muller in f64 from 53-bit uniforms, the sine kept for the next element, even across calls;
//! - from 16 on, the whole array is filled with 24-bit uniforms, and each block of 16 turns into normals in place, the first eight
//!   giving radii and the last eight angles; where the size is no multiple of 16, the last 16 elements are drawn anew.
//!
//! torch computes the second form with vector approximations of log, cos and sin, so values agree to 1e-6, not bit for bit.

use std::f64::consts::TAU;

use super::mersenne::MersenneTwister;

/// Below this many elements torch draws normals one at a time.
const BLOCK: usize = 16;

/// Random numbers as torch 2.15 draws them on the CPU after `torch.manual_seed(seed)`.
///
/// State is carried from call to call as in torch, so the same calls in the same order give the same numbers.
///
/// ```
/// use kiln_backend::noise::TorchGenerator;
///
/// let mut generator = TorchGenerator::new(0);
/// // torch.manual_seed(0); torch.randn(3)
/// assert_eq!(generator.randn(3), [1.540_996_1, -0.293_428_9, -2.178_789_4]);
/// ```
#[derive(Clone, Debug)]
pub struct TorchGenerator {
    engine: MersenneTwister,
    /// The sine of the last Box-Muller pair, waiting for the next scalar draw.
    kept: Option<f64>,
}

impl TorchGenerator {
    /// The generator after `torch.manual_seed(seed)`. A negative seed in Python is the `u64` with the same bits (`-1_i64 as u64`).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // torch's engine takes a 32-bit seed; the rest of the seed is dropped.
        Self { engine: MersenneTwister::new(seed as u32), kept: None }
    }

    /// `torch.randn(n)`: standard normals in f32.
    #[must_use]
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.scalar_normal() as f32).collect();
        }
        let mut values = self.rand(n);
        for block in values.chunks_exact_mut(BLOCK) {
            normals_in_place(block);
        }
        if !n.is_multiple_of(BLOCK) {
            let tail = &mut values[n - BLOCK..];
            tail.copy_from_slice(&self.rand(BLOCK));
            normals_in_place(tail);
        }
        values
    }

    /// `torch.rand(n)`: uniforms on `[0, 1)` with 24 bits, in f32.
    #[must_use]
    pub fn rand(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.engine.next_word() & 0x00FF_FFFF) as f32 / 16_777_216.0).collect()
    }

    /// One normal by Box-Muller in f64, two at a time.
    fn scalar_normal(&mut self) -> f64 {
        if let Some(sine) = self.kept.take() {
            return sine;
        }
        let angle = TAU * self.uniform53();
        let radius = (-2.0 * libm::log1p(-self.uniform53())).sqrt();
        self.kept = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// A uniform on `[0, 1)` with 53 bits, from two words, the high one first.
    fn uniform53(&mut self) -> f64 {
        let high = u64::from(self.engine.next_word());
        let low = u64::from(self.engine.next_word());
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }
}

/// Box-Muller on 16 uniforms: radii from the first eight, angles from the last eight; cosines first, then sines.
fn normals_in_place(block: &mut [f32]) {
    let (first, last) = block.split_at_mut(BLOCK / 2);
    for (u, v) in first.iter_mut().zip(last) {
        // torch rounds the radius and the angle to f32; cos and sin of that angle follow.
        let radius = (-2.0 * libm::logf(1.0 - *u)).sqrt();
        let (sine, cosine) = libm::sincosf(std::f32::consts::TAU * *v);
        (*u, *v) = (radius * cosine, radius * sine);
    }
}
