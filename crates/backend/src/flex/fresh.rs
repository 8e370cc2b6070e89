//! Results in memory that nobody cleared before: a result larger than the caches is otherwise written twice, once with zeros
//! by one thread.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{CHUNK, vectorised};

/// `fill` writes each value of a piece from its place on, on all threads.
///
/// # Safety
/// `fill` writes every value that it is given.
unsafe fn written(total: usize, fill: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync) -> Vec<f32> {
    let mut out = Vec::<f32>::with_capacity(total);
    let pieces = out.spare_capacity_mut()[..total].par_chunks_mut(CHUNK).enumerate();
    pieces.for_each(|(i, piece)| fill(i * CHUNK, piece));
    // SAFETY: the first `total` values are in the capacity, as the slice of it shows, and each was written, as the chunks cover
    // that slice and the caller promises. If `fill` panics, this is not reached.
    unsafe { out.set_len(total) };
    out
}

/// Zeros, by all threads; `vec![0.0; total]` asks the system for cleared pages, one by one.
pub(super) fn zeros(total: usize) -> Vec<f32> {
    // SAFETY: each value is written.
    unsafe { written(total, |_, out| out.fill(MaybeUninit::new(0.0))) }
}

/// `f` of each value.
pub(super) fn mapped(x: &[f32], f: impl Fn(f32) -> f32 + Copy + Sync) -> Vec<f32> {
    let fill = |first: usize, out: &mut [MaybeUninit<f32>]| {
        let x = &x[first..][..out.len()];
        vectorised(
            #[inline(always)]
            || {
                for (out, &x) in out.iter_mut().zip(x) {
                    out.write(f(x));
                }
            },
        );
    };
    // SAFETY: `x` has as many values as `out`, and each is written.
    unsafe { written(x.len(), fill) }
}

/// `f` of each value of `x` and of `y` at the same place.
///
/// # Panics
/// If `y` is shorter.
pub(super) fn zipped(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Copy + Sync) -> Vec<f32> {
    let fill = |first: usize, out: &mut [MaybeUninit<f32>]| {
        let (x, y) = (&x[first..][..out.len()], &y[first..][..out.len()]);
        vectorised(
            #[inline(always)]
            || {
                for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                    out.write(f(x, y));
                }
            },
        );
    };
    // SAFETY: both have as many values as `out`, and each of its values is written.
    unsafe { written(x.len(), fill) }
}

/// `count` pieces of `length` values. Each is zeros when `fill` gets it, with its number, on any thread.
pub(super) fn pieces(count: usize, length: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    pieces_with(count, length, || (), |(), i, piece| fill(i, piece))
}

/// As [`pieces`], with something that each thread makes for itself by `init`.
pub(super) fn pieces_with<T>(
    count: usize,
    length: usize,
    init: impl Fn() -> T + Sync + Send,
    fill: impl Fn(&mut T, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let total = count * length;
    let mut out = Vec::<f32>::with_capacity(total);
    if total > 0 {
        let pieces = out.spare_capacity_mut()[..total].par_chunks_mut(length).enumerate();
        pieces.for_each_init(init, |own, (i, piece)| {
            piece.fill(MaybeUninit::new(0.0));
            // SAFETY: each of its values was just written.
            fill(own, i, unsafe { piece.assume_init_mut() });
        });
    }
    // SAFETY: the first `total` values are in the capacity, as the slice of it shows, and each was written: the chunks cover
    // that slice, and none is passed over. If `fill` panics, this is not reached.
    unsafe { out.set_len(total) };
    out
}

/// Small, and of several chunks where it matters: Miri runs them, too.
#[cfg(test)]
mod tests {
    use super::*;

    /// Not whole chunks.
    const LENGTH: usize = CHUNK + 5;

    fn counted(length: usize) -> Vec<f32> {
        (0..length).map(|i| i as f32).collect()
    }

    #[test]
    fn every_value_is_written() {
        assert!(zeros(LENGTH).iter().all(|&v| v == 0.0));
        let x = counted(LENGTH);
        let expected = |f: fn(f32) -> f32| x.iter().map(|&v| f(v)).collect::<Vec<_>>();
        assert_eq!(mapped(&x, |v| v + 1.0), expected(|v| v + 1.0));
        assert_eq!(zipped(&x, &x, |a, b| a - 2.0 * b), expected(|v| -v));
        for empty in [zeros(0), mapped(&[], |v| v), zipped(&[], &[], |a, _| a), pieces(0, 3, |_, _| ())] {
            assert!(empty.is_empty());
        }
        assert!(pieces(3, 0, |_, _| panic!("there is no piece")).is_empty());
    }

    #[test]
    fn pieces_come_cleared_and_numbered() {
        let out = pieces_with(
            3,
            4,
            || 10.0_f32,
            |own, i, piece| {
                assert_eq!(piece, [0.0; 4]);
                piece[..2].fill(*own * i as f32);
            },
        );
        assert_eq!(out, [0.0, 0.0, 0.0, 0.0, 10.0, 10.0, 0.0, 0.0, 20.0, 20.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "range end index")]
    fn of_two_lists_the_second_is_not_shorter() {
        let _ = zipped(&[1.0, 2.0], &[1.0], |a, _| a);
    }
}
