//! Linear attention: φ(Q) (φ(K)ᵗ V) / (φ(Q) φ(K)ᵗ 1).

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use crate::ops::FeatureFunction;

pub fn forward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    function: FeatureFunction,
    floor: f64,
) -> FloatTensor<B> {
    let (query, key) = (features::<B>(query, function), features::<B>(key, function));
    let total = B::float_transpose(B::float_sum_dim(key.clone(), 2));
    let sums = B::float_matmul(B::float_transpose(key), value);
    let divisor = B::float_clamp_min(B::float_matmul(query.clone(), total), floor.into());
    B::float_div(B::float_matmul(query, sums), divisor)
}

fn features<B: Backend>(x: FloatTensor<B>, function: FeatureFunction) -> FloatTensor<B> {
    match function {
        FeatureFunction::Identity => x,
        // The exponential of what is not positive: neither it nor its gradient can overflow.
        FeatureFunction::EluPlusOne => B::float_add(
            B::float_clamp_min(x.clone(), 0.0.into()),
            B::float_exp(B::float_clamp_max(x, 0.0.into())),
        ),
        FeatureFunction::Relu => B::float_clamp_min(x, 0.0.into()),
        FeatureFunction::SquaredRelu => {
            let x = B::float_clamp_min(x, 0.0.into());
            B::float_mul(x.clone(), x)
        }
    }
}
