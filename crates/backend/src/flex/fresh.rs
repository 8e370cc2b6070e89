//! Results in memory that nobody cleared before: a result larger than the caches is otherwise written twice, once with zeros
//! by one thread.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rayon::prelude::*;

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
