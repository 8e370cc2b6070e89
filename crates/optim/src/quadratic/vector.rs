//! Vectors of f64: each function is one pass over memory, on all threads where a vector is long.
//!
//! Sums go by chunks of a fixed size, whatever the number of threads, so that they have the same bits each time.

use rayon::prelude::*;

/// Long enough that handing it to a thread costs nothing beside it; a share of the L2 cache.
const CHUNK: usize = 1 << 14;

fn is_long(x: &[f64]) -> bool {
    x.len() >= 4 * CHUNK
}

/// a · b.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    match is_long(a) {
        false => lanes(a, b),
        true => {
            let sums: Vec<f64> =
                a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| lanes(a, b)).collect();
            sums.iter().sum()
        }
    }
}

/// Eight sums beside each other, which a vector unit takes at once: one sum would wait for itself.
#[inline(always)]
fn lanes(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + rest
}

pub(super) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// x ← x + α p, r ← r - α q, and the new r · r.
pub(super) fn advance(x: &mut [f64], p: &[f64], r: &mut [f64], q: &[f64], alpha: f64) -> f64 {
    let work = |x: &mut [f64], p: &[f64], r: &mut [f64], q: &[f64]| {
        for (((x, p), r), q) in x.iter_mut().zip(p).zip(r.iter_mut()).zip(q) {
            *x += alpha * p;
            *r -= alpha * q;
        }
        // Still in the cache.
        lanes(r, r)
    };
    match is_long(x) {
        false => work(x, p, r, q),
        true => {
            let chunks = x.par_chunks_mut(CHUNK).zip(p.par_chunks(CHUNK));
            let chunks = chunks.zip(r.par_chunks_mut(CHUNK)).zip(q.par_chunks(CHUNK));
            let sums: Vec<f64> = chunks.map(|(((x, p), r), q)| work(x, p, r, q)).collect();
            sums.iter().sum()
        }
    }
}

/// p ← z + β p.
pub(super) fn turn(p: &mut [f64], z: &[f64], beta: f64) {
    let work = |p: &mut [f64], z: &[f64]| p.iter_mut().zip(z).for_each(|(p, z)| *p = *z + beta * *p);
    match is_long(p) {
        false => work(p, z),
        true => p.par_chunks_mut(CHUNK).zip(z.par_chunks(CHUNK)).for_each(|(p, z)| work(p, z)),
    }
}

/// y[i] = row(i), in pieces over all threads: `rows` fills the piece that begins at a row.
pub(super) fn fill(y: &mut [f64], rows: impl Fn(usize, &mut [f64]) + Sync) {
    match is_long(y) {
        false => rows(0, y),
        true => y.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, y)| rows(chunk * CHUNK, y)),
    }
}
