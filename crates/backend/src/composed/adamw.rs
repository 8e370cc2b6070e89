//! One step of Adam and its kin.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};

use crate::ops::{AdamWHyper, Decay, Objective};

pub fn step<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    first_moment: FloatTensor<B>,
    second_moment: FloatTensor<B>,
    hyper: AdamWHyper,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (m, v) = moments::<B>(&param, grad, first_moment, second_moment, hyper);
    let param = descend::<B>(param, &m, v.clone(), hyper);
    (param, m, v)
}

pub fn amsgrad_step<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    first_moment: FloatTensor<B>,
    second_moment: FloatTensor<B>,
    largest: FloatTensor<B>,
    hyper: AdamWHyper,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (m, v) = moments::<B>(&param, grad, first_moment, second_moment, hyper);
    let bools = get_or_init_device_settings::<B>(&v.device()).bool_dtype;
    let outgrown = B::float_lower(largest.clone(), v.clone(), bools);
    let largest = B::float_mask_where(largest, outgrown, v.clone());
    let param = descend::<B>(param, &m, largest.clone(), hyper);
    (param, m, v, largest)
}

fn moments<B: Backend>(
    param: &FloatTensor<B>,
    grad: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    hyper: AdamWHyper,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let c = hyper.coefficients();
    let mut grad = match hyper.objective {
        Objective::Minimise => grad,
        Objective::Maximise => B::float_neg(grad),
    };
    if c.penalty != 0.0 {
        grad = B::float_add(grad, B::float_mul_scalar(param.clone(), c.penalty.into()));
    }
    let square = B::float_mul(grad.clone(), grad.clone());
    let m = B::float_add(
        B::float_mul_scalar(first, c.beta1.into()),
        B::float_mul_scalar(grad, (1.0 - c.beta1).into()),
    );
    let v = B::float_add(
        B::float_mul_scalar(second, c.beta2.into()),
        B::float_mul_scalar(square, (1.0 - c.beta2).into()),
    );
    (m, v)
}

/// The decayed parameter, less the step along `m` under the root of `v`.
fn descend<B: Backend>(
    param: FloatTensor<B>,
    m: &FloatTensor<B>,
    v: FloatTensor<B>,
    hyper: AdamWHyper,
) -> FloatTensor<B> {
    let c = hyper.coefficients();
    let root = B::float_mul_scalar(B::float_sqrt(v), c.root_scale.into());
    let update = B::float_div(m.clone(), B::float_add_scalar(root, c.eps.into()));
    let decayed = B::float_mul_scalar(param.clone(), (1.0 - c.decay).into());
    let decayed = match hyper.decay {
        Decay::Decoupled | Decay::Coupled => decayed,
        Decay::Cautious => {
            let bools = get_or_init_device_settings::<B>(&m.device()).bool_dtype;
            let apart = B::float_lower_elem(B::float_mul(m.clone(), param.clone()), 0.0.into(), bools);
            B::float_mask_where(decayed, apart, param)
        }
    };
    B::float_sub(decayed, B::float_mul_scalar(update, c.step_size.into()))
}
