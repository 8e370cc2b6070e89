//! One step of AdamW.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use crate::ops::AdamWHyper;

pub fn step<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    first_moment: FloatTensor<B>,
    second_moment: FloatTensor<B>,
    hyper: AdamWHyper,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let c = hyper.coefficients();
    let square = B::float_mul(grad.clone(), grad.clone());
    let m = B::float_add(
        B::float_mul_scalar(first_moment, c.beta1.into()),
        B::float_mul_scalar(grad, (1.0 - c.beta1).into()),
    );
    let v = B::float_add(
        B::float_mul_scalar(second_moment, c.beta2.into()),
        B::float_mul_scalar(square, (1.0 - c.beta2).into()),
    );
    let root = B::float_mul_scalar(B::float_sqrt(v.clone()), c.root_scale.into());
    let update = B::float_div(m.clone(), B::float_add_scalar(root, c.eps.into()));
    let param = B::float_sub(
        B::float_mul_scalar(param, c.decay.into()),
        B::float_mul_scalar(update, c.step_size.into()),
    );
    (param, m, v)
}
