//! One step of AdamW in one pass: four arrays read, three written, in place where they are not shared.

use rayon::prelude::*;

use super::{CHUNK, FlexTensor, contiguous, owned, values, vectorised};
use crate::ops::AdamWHyper;

pub(super) fn step(
    param: FlexTensor,
    grad: FlexTensor,
    first_moment: FlexTensor,
    second_moment: FlexTensor,
    hyper: AdamWHyper,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let c = hyper.coefficients();
    let (beta1, beta2) = (c.beta1 as f32, c.beta2 as f32);
    let (rest1, rest2) = ((1.0 - c.beta1) as f32, (1.0 - c.beta2) as f32);
    let (decay, step_size, root_scale, eps) =
        (c.decay as f32, c.step_size as f32, c.root_scale as f32, c.eps as f32);

    let grad = contiguous(grad);
    let [mut param, mut first, mut second] = [param, first_moment, second_moment].map(owned);
    param
        .storage_mut::<f32>()
        .par_chunks_mut(CHUNK)
        .zip(first.storage_mut::<f32>().par_chunks_mut(CHUNK))
        .zip(second.storage_mut::<f32>().par_chunks_mut(CHUNK))
        .zip(values(&grad).par_chunks(CHUNK))
        .for_each(|(((param, m), v), grad)| {
            vectorised(
                #[inline(always)]
                || {
                    for (((p, m), v), &g) in param.iter_mut().zip(m).zip(v).zip(grad) {
                        *m = m.mul_add(beta1, rest1 * g);
                        *v = v.mul_add(beta2, rest2 * g * g);
                        *p = p.mul_add(decay, -step_size * (*m / v.sqrt().mul_add(root_scale, eps)));
                    }
                },
            );
        });
    (param, first, second)
}
