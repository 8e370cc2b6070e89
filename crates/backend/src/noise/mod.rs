//! Random numbers that are the same everywhere: a pure function of a seed, a sample, a step and a position.
//!
//! Burn's devices each have their own generator, so a seed would give another picture on another device, and another one again when the
//! batch is split. Here numbers are made on the host, in f32, and then sent to the device. Value `i` of a sample is a function of
//! ([`NoiseKey::seed`], [`NoiseKey::sample`], [`NoiseKey::step`], `i`) alone: four pictures drawn at once are the four drawn one by one,
//! bit for bit, on every backend.
//!
//! # How a number is made
//!
//! With `P(key; counter)` = [`Philox4x32`], words low first:
//!
//! ```text
//! stream  = P(seed lo, seed hi; step lo, step hi, sample lo, sample hi)       once a (sample, step)
//! words b = P(stream[0], stream[1]; b lo, b hi, stream[2], stream[3])         block b holds values 4 b .. 4 b + 3
//! ```
//!
//! For one seed the first line is a bijection of (step, sample), so no two streams share a key and a counter: they never overlap,
//! though all four numbers have 64 bits. A uniform is the top 24 bits of its word over 2^24. Normals come in pairs `(w, v)` of words by
//! Box-Muller in f64, rounded to f32 at the end; there is no rejection, so positions never shift:
//!
//! ```text
//! radius = sqrt(-2 ln((w + 1) / 2^32)),  angle = 2 pi v / 2^32,  values = radius cos(angle), radius sin(angle)
//! ```
//!
//! The largest normal is sqrt(64 ln 2) = 6.66. Logarithm, cosine and sine are those of the `libm` crate, not of the system, so the bits
//! are the same on every operating system too.
//!
//! [`TorchGenerator`] is the other source: the numbers of `torch.manual_seed`, for pictures equal to those of diffusers.

mod mersenne;
mod philox;
mod torch;

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

pub use philox::Philox4x32;
use philox::split;
pub use torch::TorchGenerator;

/// What a stream of noise depends on, and nothing else.
///
/// ```
/// use kiln_backend::noise::NoiseKey;
///
/// let first = NoiseKey { seed: 7, sample: 0, step: 0 };
/// assert_eq!(first.at_step(3), NoiseKey { seed: 7, sample: 0, step: 3 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoiseKey {
    /// The user's seed.
    pub seed: u64,
    /// Which sample of the run: for a batch, that of its first row; row `i` has `sample + i`.
    pub sample: u64,
    /// Which draw of that sample: 0 for the starting noise, then one a step, or whatever the caller counts.
    pub step: u64,
}

impl NoiseKey {
    /// The key of the first draw of sample 0 under a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, sample: 0, step: 0 }
    }

    /// The same seed and step at another sample.
    #[must_use]
    pub const fn at_sample(self, sample: u64) -> Self {
        Self { sample, ..self }
    }

    /// The same seed and sample at another step.
    #[must_use]
    pub const fn at_step(self, step: u64) -> Self {
        Self { step, ..self }
    }

    fn stream(self) -> Stream {
        let (seed_low, seed_high) = split(self.seed);
        let (step_low, step_high) = split(self.step);
        let (sample_low, sample_high) = split(self.sample);
        let [k0, k1, c2, c3] =
            Philox4x32::new([seed_low, seed_high]).block([step_low, step_high, sample_low, sample_high]);
        Stream { philox: Philox4x32::new([k0, k1]), high: [c2, c3] }
    }
}

/// Standard normals, row `i` of the batch being those of sample `key.sample + i`.
///
/// # Shapes
/// - `shape`: `[batch, ...]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kiln_backend::noise::{NoiseKey, normal};
///
/// let device = Device::flex();
/// let key = NoiseKey::new(7);
/// let batch: Tensor<2> = normal([2, 5], key, &device);
/// let second: Tensor<2> = normal([1, 5], key.at_sample(1), &device);
/// assert_eq!(batch.narrow(0, 1, 1).into_data(), second.into_data());
/// ```
#[must_use]
pub fn normal<const D: usize>(shape: [usize; D], key: NoiseKey, device: &Device) -> Tensor<D> {
    to_device(rows(shape, key, normals), shape, device)
}

/// Uniforms on `[0, 1)`, row `i` of the batch being those of sample `key.sample + i`.
///
/// # Shapes
/// - `shape`: `[batch, ...]`.
#[must_use]
pub fn uniform<const D: usize>(shape: [usize; D], key: NoiseKey, device: &Device) -> Tensor<D> {
    to_device(rows(shape, key, uniforms), shape, device)
}

/// The first `n` standard normals of a key, on the host.
#[must_use]
pub fn normal_values(n: usize, key: NoiseKey) -> Vec<f32> {
    rows([1, n], key, normals)
}

/// The first `n` uniforms on `[0, 1)` of a key, on the host.
#[must_use]
pub fn uniform_values(n: usize, key: NoiseKey) -> Vec<f32> {
    rows([1, n], key, uniforms)
}

/// The Philox stream of one (seed, sample, step).
#[derive(Clone, Copy)]
struct Stream {
    philox: Philox4x32,
    high: [u32; 2],
}

impl Stream {
    fn words(self, block: u64) -> [u32; 4] {
        let (low, high) = split(block);
        self.philox.block([low, high, self.high[0], self.high[1]])
    }
}

/// Values that one call of the generator gives.
const BLOCK: usize = 4;
/// Blocks that one task fills: enough work (some 20 microseconds) to be worth a task.
const BLOCKS_PER_TASK: usize = 256;

/// Fills the rows of a batch, in parallel; what a value is depends on its row and position only, not on how the work was cut.
fn rows<const D: usize>(shape: [usize; D], key: NoiseKey, fill: fn([u32; 4]) -> [f32; BLOCK]) -> Vec<f32> {
    let row_len: usize = shape.iter().skip(1).product();
    let total = row_len * shape.first().copied().unwrap_or(1);
    let mut values = vec![0.0; total];
    if total == 0 {
        return values;
    }
    values.par_chunks_mut(row_len).enumerate().for_each(|(row, values)| {
        let stream = key.at_sample(key.sample.wrapping_add(row as u64)).stream();
        values.par_chunks_mut(BLOCKS_PER_TASK * BLOCK).enumerate().for_each(|(task, values)| {
            for (block, values) in values.chunks_mut(BLOCK).enumerate() {
                let words = stream.words((task * BLOCKS_PER_TASK + block) as u64);
                values.copy_from_slice(&fill(words)[..values.len()]);
            }
        });
    });
    values
}

fn to_device<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn uniforms(words: [u32; 4]) -> [f32; BLOCK] {
    words.map(|word| (word >> 8) as f32 / 16_777_216.0)
}

fn normals([w0, v0, w1, v1]: [u32; 4]) -> [f32; BLOCK] {
    let (first, second) = box_muller(w0, v0);
    let (third, fourth) = box_muller(w1, v1);
    [first, second, third, fourth]
}

fn box_muller(w: u32, v: u32) -> (f32, f32) {
    const SCALE: f64 = 1.0 / 4_294_967_296.0;
    // (w + 1) / 2^32 lies in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * libm::log((f64::from(w) + 1.0) * SCALE)).sqrt();
    let (sine, cosine) = libm::sincos(TAU * (f64::from(v) * SCALE));
    ((radius * cosine) as f32, (radius * sine) as f32)
}
