//! One step of Adam in one pass: four arrays read, three written (AMSGrad: five and four), in place where they are not
//! shared.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CHUNK, FlexTensor, contiguous, owned, values, vectorised};
use crate::ops::{AdamWHyper, Decay};

pub(super) fn step(
    param: FlexTensor,
    grad: FlexTensor,
    first_moment: FlexTensor,
    second_moment: FlexTensor,
    hyper: AdamWHyper,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let grad = contiguous(grad);
    let [mut param, mut first, mut second] = [param, first_moment, second_moment].map(owned);
    let numbers = Numbers::of(hyper);
    let span = span_of(values(&grad).len());
    let spans = param
        .storage_mut::<f32>()
        .chunks_mut(span)
        .zip(first.storage_mut::<f32>().chunks_mut(span))
        .zip(second.storage_mut::<f32>().chunks_mut(span))
        .zip(values(&grad).chunks(span))
        .map(|(((p, m), v), g)| {
            p.chunks_mut(CHUNK).zip(m.chunks_mut(CHUNK)).zip(v.chunks_mut(CHUNK)).zip(g.chunks(CHUNK))
        });
    shared_out(spans, |(((p, m), v), g)| match hyper.decay {
        Decay::Cautious => vectorised(
            #[inline(always)]
            move || {
                for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    (*m, *v) = numbers.moments(*p, g, *m, *v);
                    *p = numbers.step(numbers.decayed_cautiously(*p, *m), *m, *v);
                }
            },
        ),
        Decay::Decoupled | Decay::Coupled => vectorised(
            #[inline(always)]
            move || {
                for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    (*m, *v) = numbers.moments(*p, g, *m, *v);
                    *p = numbers.step(*p * numbers.keep, *m, *v);
                }
            },
        ),
    });
    (param, first, second)
}

pub(super) fn amsgrad_step(
    param: FlexTensor,
    grad: FlexTensor,
    first_moment: FlexTensor,
    second_moment: FlexTensor,
    largest: FlexTensor,
    hyper: AdamWHyper,
) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
    let grad = contiguous(grad);
    let [mut param, mut first, mut second, mut largest] =
        [param, first_moment, second_moment, largest].map(owned);
    let numbers = Numbers::of(hyper);
    let span = span_of(values(&grad).len());
    let spans = param
        .storage_mut::<f32>()
        .chunks_mut(span)
        .zip(first.storage_mut::<f32>().chunks_mut(span))
        .zip(second.storage_mut::<f32>().chunks_mut(span))
        .zip(largest.storage_mut::<f32>().chunks_mut(span))
        .zip(values(&grad).chunks(span))
        .map(|((((p, m), v), w), g)| {
            let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK)).zip(w.chunks_mut(CHUNK));
            p.chunks_mut(CHUNK).zip(moments).zip(g.chunks(CHUNK))
        });
    shared_out(spans, |((p, ((m, v), w)), g)| match hyper.decay {
        Decay::Cautious => vectorised(
            #[inline(always)]
            move || {
                for ((((p, m), v), w), &g) in p.iter_mut().zip(m).zip(v).zip(w).zip(g) {
                    (*m, *v) = numbers.moments(*p, g, *m, *v);
                    *w = larger(*w, *v);
                    *p = numbers.step(numbers.decayed_cautiously(*p, *m), *m, *w);
                }
            },
        ),
        Decay::Decoupled | Decay::Coupled => vectorised(
            #[inline(always)]
            move || {
                for ((((p, m), v), w), &g) in p.iter_mut().zip(m).zip(v).zip(w).zip(g) {
                    (*m, *v) = numbers.moments(*p, g, *m, *v);
                    *w = larger(*w, *v);
                    *p = numbers.step(*p * numbers.keep, *m, *w);
                }
            },
        ),
    });
    (param, first, second, largest)
}

/// As the definition, which keeps the largest one where the new one is no number.
#[inline(always)]
fn larger(largest: f32, v: f32) -> f32 {
    if largest < v { v } else { largest }
}

/// The coefficients in the type of the values. Loops take them by value (`move`): behind a reference they might change with
/// what is written, as far as the compiler knows, and no loop would be vectorised.
#[derive(Clone, Copy)]
struct Numbers {
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    sign: f32,
    penalty: f32,
    /// 1 - lr λ.
    keep: f32,
    step_size: f32,
    root_scale: f32,
    eps: f32,
}

impl Numbers {
    fn of(hyper: AdamWHyper) -> Self {
        let c = hyper.coefficients();
        Self {
            beta1: c.beta1 as f32,
            beta2: c.beta2 as f32,
            rest1: (1.0 - c.beta1) as f32,
            rest2: (1.0 - c.beta2) as f32,
            sign: c.sign as f32,
            penalty: c.penalty as f32,
            keep: (1.0 - c.decay) as f32,
            step_size: c.step_size as f32,
            root_scale: c.root_scale as f32,
            eps: c.eps as f32,
        }
    }

    /// The new m and v.
    #[inline(always)]
    fn moments(&self, p: f32, g: f32, m: f32, v: f32) -> (f32, f32) {
        let g = p.mul_add(self.penalty, self.sign * g);
        (m.mul_add(self.beta1, self.rest1 * g), v.mul_add(self.beta2, self.rest2 * g * g))
    }

    #[inline(always)]
    fn decayed_cautiously(&self, p: f32, m: f32) -> f32 {
        if m * p < 0.0 { p } else { p * self.keep }
    }

    #[inline(always)]
    fn step(&self, decayed: f32, m: f32, v: f32) -> f32 {
        decayed - self.step_size * (m / v.sqrt().mul_add(self.root_scale, self.eps))
    }
}

/// How many values in a row are one thread's: whole chunks.
fn span_of(length: usize) -> usize {
    length.div_ceil(rayon::current_num_threads()).next_multiple_of(CHUNK).max(CHUNK)
}

/// Turns of waiting in a loop, some tenth of a millisecond: as long as a chunk may take.
const SPINS: usize = 1 << 13;

/// Does `work` for each chunk of each span, on this thread and on those of the pool.
///
/// A thread goes through its own span from the front, since memory is read ahead only of whoever goes straight on. Then it
/// takes from the backs of the others' spans, so that a thread that comes late holds up nobody. A training step does this a
/// hundred times in a row: so this thread works too, and waits awake for the last chunks, where a parallel iterator would
/// put it to sleep and have it woken each time.
fn shared_out<T, S>(spans: impl Iterator<Item = S>, work: impl Fn(T) + Sync)
where
    S: DoubleEndedIterator<Item = T> + ExactSizeIterator + Send,
{
    let spans: Vec<S> = spans.collect();
    let chunks: usize = spans.iter().map(ExactSizeIterator::len).sum();
    let spans: Vec<Mutex<S>> = spans.into_iter().map(Mutex::new).collect();
    let done = AtomicUsize::new(0);
    let drain = |own: usize| {
        let front = || spans[own].lock().ok()?.next();
        let others = || (1..spans.len()).map(|i| &spans[(own + i) % spans.len()]);
        let back = || others().find_map(|span| span.lock().ok()?.next_back());
        while let Some(chunk) = front().or_else(back) {
            work(chunk);
            done.fetch_add(1, Ordering::Release);
        }
    };
    let drain = &drain;
    rayon::in_place_scope(|scope| {
        for own in 1..spans.len() {
            scope.spawn(move |_| drain(own));
        }
        drain(0);
        for _ in 0..SPINS {
            if done.load(Ordering::Acquire) == chunks {
                break;
            }
            std::hint::spin_loop();
        }
    });
}
