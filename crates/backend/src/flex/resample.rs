//! Resampling, one plane a thread: columns first, into rows that then add up as a whole.
//!
//! Enlarging by a whole factor n reads, at outputs n apart, inputs that are 1 apart with the same weights. So the outputs of
//! one remainder of n are sums of moved rows, which vectorise, and the n of them are put between one another.

use std::ops::Range;

use burn::backend::TensorMetadata;

use super::fresh::pieces_with;
use super::interleave::interleave;
use super::{FlexTensor, contiguous, tensor, values, vectorised};
use crate::ops::Taps;

pub(super) fn forward(x: FlexTensor, rows: &Taps, columns: &Taps) -> FlexTensor {
    let [batch, channels, height, width] = x.shape().dims();
    let shape = [batch, channels, rows.outputs(), columns.outputs()];
    let x = contiguous(x);
    let area = rows.outputs() * columns.outputs();
    if height * width == 0 {
        return tensor(vec![0.0; shape.iter().product()], shape);
    }
    let across = Columns::of(columns);
    let x = values(&x);
    let out = pieces_with(
        batch * channels,
        area,
        || (vec![0.0; height * columns.outputs()], Vec::new()),
        |(narrow, sums), plane, out| {
            let plane = &x[plane * height * width..][..height * width];
            vectorised(
                #[inline(always)]
                || {
                    let narrowed = narrow.chunks_exact_mut(columns.outputs());
                    for (row, narrow) in plane.chunks_exact(width).zip(narrowed) {
                        across.apply(row, sums, narrow);
                    }
                    let line = |i: u32| &narrow[i as usize * columns.outputs()..][..columns.outputs()];
                    for (i, out) in out.chunks_exact_mut(columns.outputs()).enumerate() {
                        match rows.row(i) {
                            &[(input, 1.0)] => out.copy_from_slice(line(input)),
                            &[(a, u), (b, v)] => two([line(a), line(b)], [u, v], out),
                            &[(a, u), (b, v), (c, w), (d, x)] => {
                                four([line(a), line(b), line(c), line(d)], [u, v, w, x], out);
                            }
                            taps => {
                                for &(input, weight) in taps {
                                    add(line(input), weight, out);
                                }
                            }
                        }
                    }
                },
            );
        },
    );
    tensor(out, shape)
}

/// `out = Σ weights[k] rows[k]` of two rows.
#[inline(always)]
fn two([a, b]: [&[f32]; 2], [u, v]: [f32; 2], out: &mut [f32]) {
    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *o = b.mul_add(v, a * u);
    }
}

/// The same of four.
#[inline(always)]
fn four([a, b, c, d]: [&[f32]; 4], [u, v, w, x]: [f32; 4], out: &mut [f32]) {
    for ((((o, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *o = d.mul_add(x, c.mul_add(w, b.mul_add(v, a * u)));
    }
}

#[inline(always)]
fn add(row: &[f32], weight: f32, out: &mut [f32]) {
    for (o, &v) in out.iter_mut().zip(row) {
        *o = v.mul_add(weight, *o);
    }
}

/// A matrix as it is applied to rows.
struct Columns<'a> {
    taps: &'a Taps,
    /// The outputs that repeat: a whole number of times as many as there are `phases`.
    repeating: Range<usize>,
    /// What the first outputs of these read. The next so many read the same, one input further on.
    phases: Vec<&'a [(u32, f32)]>,
}

/// The largest factor that is looked for.
const MOST_PHASES: usize = 4;

impl<'a> Columns<'a> {
    fn of(taps: &'a Taps) -> Self {
        let outputs = taps.outputs();
        let best = (1..=MOST_PHASES)
            .map(|period| (period, repeating(taps, period)))
            .max_by_key(|(_, outputs)| outputs.len())
            // What little repeats is not worth its buffers.
            .filter(|(_, repeating)| 2 * repeating.len() > outputs);
        let (period, repeating) = best.unwrap_or((1, 0..0));
        let phases = repeating.clone().take(period).map(|i| taps.row(i)).collect();
        Self { taps, repeating, phases }
    }

    #[inline(always)]
    fn apply(&self, row: &[f32], sums: &mut Vec<f32>, out: &mut [f32]) {
        for i in (0..self.repeating.start).chain(self.repeating.end..out.len()) {
            out[i] = self.taps.row(i).iter().map(|&(input, weight)| row[input as usize] * weight).sum();
        }
        if self.repeating.is_empty() {
            return;
        }
        let count = self.repeating.len() / self.phases.len();
        sums.resize(self.repeating.len(), 0.0);
        for (sums, taps) in sums.chunks_exact_mut(count).zip(&self.phases) {
            let from = |input: u32| &row[input as usize..][..count];
            match **taps {
                // Copied, it is read where it stands.
                [(_, 1.0)] => {}
                [(a, u), (b, v)] => two([from(a), from(b)], [u, v], sums),
                [(a, u), (b, v), (c, w), (d, x)] => {
                    four([from(a), from(b), from(c), from(d)], [u, v, w, x], sums);
                }
                ref taps => {
                    sums.fill(0.0);
                    for &(input, weight) in taps {
                        add(from(input), weight, sums);
                    }
                }
            }
        }
        let phase = |k: usize| match *self.phases[k] {
            [(input, 1.0)] => &row[input as usize..][..count],
            _ => &sums[k * count..][..count],
        };
        interleave(self.phases.len(), phase, &mut out[self.repeating.clone()]);
    }
}

/// The longest run about the middle in which output `i + period` reads what output `i` reads, one input further on.
fn repeating(taps: &Taps, period: usize) -> Range<usize> {
    let outputs = taps.outputs();
    let follows = |i: usize| {
        let (a, b) = (taps.row(i), taps.row(i + period));
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 + 1 == b.0 && a.1 == b.1)
    };
    if outputs < 4 * period {
        return 0..0;
    }
    let middle = outputs / 2 - period;
    if !(middle..middle + period).all(follows) {
        return 0..0;
    }
    let start = (0..middle).rev().take_while(|&i| follows(i)).last().unwrap_or(middle);
    let end = (middle + period..outputs - period).take_while(|&i| follows(i)).last();
    let end = end.map_or(middle + 2 * period, |last| last + period + 1);
    start..start + (end - start) / period * period
}
