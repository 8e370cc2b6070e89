//! One axis of PyTorch's `interpolate`, as a sparse matrix.
//!
//! ```text
//! corners not aligned   source(i) = scale (i + 1/2) - 1/2          scale = in / out, or 1 / factor where a factor is given
//! corners aligned       source(i) = i (in - 1) / (out - 1)
//! nearest               floor(scale i)                             nearest-exact    floor(scale (i + 1/2))
//! ```
//!
//! Antialiased, as PIL does it: the kernel is stretched by `scale` where the picture shrinks, and the weights of an output
//! have the sum 1. Positions are in single precision, as PyTorch has them: which pixel is the nearest hangs on it.

use std::f32::consts::PI;

use kiln_backend::ops::{AlignCorners, Taps};

use crate::interpolation::{Antialias, Mode};

/// How one axis is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub inputs: usize,
    pub outputs: usize,
    /// What the caller wants the axis multiplied with, where it was not the size that was given.
    pub factor: Option<f64>,
    pub mode: Mode,
    pub corners: AlignCorners,
    pub antialias: Antialias,
}

impl Axis {
    pub(crate) fn taps(self) -> Taps {
        if self.inputs == self.outputs && self.factor.is_none_or(|factor| factor == 1.0) {
            return Taps::new(self.inputs, (0..self.inputs).map(|i| vec![(i, 1.0)]));
        }
        Taps::new(
            self.inputs,
            (0..self.outputs).map(|i| match (self.mode, self.antialias) {
                (Mode::Nearest, _) => vec![(self.within((i as f32 * self.scale()).floor()), 1.0)],
                (Mode::NearestExact, _) => {
                    vec![(self.within(((i as f32 + 0.5) * self.scale()).floor()), 1.0)]
                }
                (_, Antialias::Yes) => self.stretched(i),
                (Mode::Linear | Mode::Bilinear | Mode::Trilinear, Antialias::No) => {
                    let x = self.source(i).max(0.0);
                    let t = x - x.floor();
                    vec![(self.within(x.floor()), 1.0 - t), (self.within(x.floor() + 1.0), t)]
                }
                (Mode::Bicubic, Antialias::No) => self.kernel(i, 2, |x| cubic(x, -0.75)),
                (Mode::Lanczos, Antialias::No) => self.kernel(i, 3, lanczos),
            }),
        )
    }

    /// Input pixels in an output pixel.
    fn scale(self) -> f32 {
        let by_size = self.inputs as f32 / self.outputs as f32;
        match self.corners {
            AlignCorners::Yes if self.outputs > 1 => (self.inputs - 1) as f32 / (self.outputs - 1) as f32,
            AlignCorners::Yes => 0.0,
            AlignCorners::No => self.factor.map_or(by_size, |factor| (1.0 / factor) as f32),
        }
    }

    /// Where the centre of output `i` is, in input pixels.
    fn source(self, i: usize) -> f32 {
        match self.corners {
            AlignCorners::Yes => i as f32 * self.scale(),
            AlignCorners::No => (i as f32 + 0.5) * self.scale() - 0.5,
        }
    }

    fn within(self, place: f32) -> usize {
        (place.max(0.0) as usize).min(self.inputs - 1)
    }

    /// `2 reach` pixels around output `i`; beyond the picture, its edge goes on.
    fn kernel(self, i: usize, reach: i64, weight: impl Fn(f32) -> f32) -> Vec<(usize, f32)> {
        let x = self.source(i);
        let t = x - x.floor();
        let taps: Vec<_> =
            (1 - reach..=reach).map(|k| (self.within(x.floor() + k as f32), weight(t - k as f32))).collect();
        normalised(taps)
    }

    /// PIL's way: the pixels under the stretched kernel that lie in the picture. Aligned corners change the scale alone, as
    /// in PyTorch, so that the corners' centres do not coincide then.
    fn stretched(self, i: usize) -> Vec<(usize, f32)> {
        let (support, weight): (f32, fn(f32) -> f32) = match self.mode {
            Mode::Lanczos => (3.0, lanczos),
            Mode::Bicubic => (2.0, |x| cubic(x, -0.5)),
            _ => (1.0, |x| (1.0 - x.abs()).max(0.0)),
        };
        let scale = self.scale();
        let stretch = scale.max(1.0);
        let center = scale * (i as f32 + 0.5);
        let reach = support * stretch;
        let first = ((center - reach + 0.5) as i64).max(0);
        let end = ((center + reach + 0.5) as i64).min(self.inputs as i64);
        let taps = (first..end).map(|j| (j as usize, weight((j as f32 - center + 0.5) / stretch)));
        normalised(taps.collect())
    }
}

/// With the sum 1.
fn normalised(mut taps: Vec<(usize, f32)>) -> Vec<(usize, f32)> {
    let sum: f32 = taps.iter().map(|(_, weight)| weight).sum();
    if sum != 0.0 {
        taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
    }
    taps
}

/// Keys' cubic convolution.
fn cubic(x: f32, a: f32) -> f32 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// sinc(x) sinc(x / 3) over three lobes.
fn lanczos(x: f32) -> f32 {
    let sinc = |x: f32| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}
