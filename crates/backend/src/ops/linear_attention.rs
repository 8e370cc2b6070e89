//! Linear attention.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::FusedOps;

/// What makes features of queries and keys, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureFunction {
    /// They are features already.
    Identity,
    /// elu(x) + 1: x + 1 above 0, eˣ below.
    EluPlusOne,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    SquaredRelu,
}

/// φ(Q) (φ(K)ᵗ V) / (φ(Q) φ(K)ᵗ 1): attention in time linear in the sequence's length. Where the divisor is less than
/// `floor`, it is `floor`.
///
/// # Shapes
/// - `query`: `[batch, heads, queries, features]`
/// - `key`: `[batch, heads, keys, features]`
/// - `value`: `[batch, heads, keys, value_dim]`
/// - output: `[batch, heads, queries, value_dim]`
///
/// # Panics
/// If the shapes do not fit together.
///
/// Source: Katharopoulos et al. 2020, equation 6.
pub fn linear_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    function: FeatureFunction,
    floor: f64,
) -> Tensor<4> {
    let [batch, heads, _, features] = query.dims();
    let [_, _, keys, value_dim] = value.dims();
    assert!(
        key.dims() == [batch, heads, keys, features] && value.dims() == [batch, heads, keys, value_dim],
        "linear_attention: query {:?}, key {:?} and value {:?} do not fit together",
        query.dims(),
        key.dims(),
        value.dims()
    );
    Tensor::from_dispatch(<Dispatch as FusedOps>::linear_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        function,
        floor,
    ))
}
