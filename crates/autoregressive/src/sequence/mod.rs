//! Variables as a sequence: a network reads x one place late, and tells of each what it has read so far.

pub mod recurrent;
pub mod transformer;
pub mod wavenet;

use burn::tensor::Tensor;

pub use recurrent::{Recurrent, RecurrentConfig};
pub use transformer::{Transformer, TransformerConfig};
pub use wavenet::{WaveNet, WaveNetConfig};

/// What the network reads at each place: the value before it, and whether there is none, `[batch, n, 2]`, from values by place,
/// `[batch, n]`, as networks are shown them.
pub(crate) fn one_late(x: Tensor<2>) -> Tensor<3> {
    let [batch, n] = x.dims();
    let start = first(batch, &x);
    let value = Tensor::<1>::from_data([1.0, 0.0], (&x.device(), x.dtype())).reshape([1, 1, 2]);
    let rest = x.narrow(1, 0, n - 1).unsqueeze_dim::<3>(2) * value;
    Tensor::cat(vec![start.unsqueeze_dim::<3>(1), rest], 1)
}

/// What it reads at the first place, `[batch, 2]`, like `x` in kind.
pub(crate) fn first(batch: usize, x: &Tensor<2>) -> Tensor<2> {
    Tensor::<1>::from_data([0.0, 1.0], (&x.device(), x.dtype())).reshape([1, 2]).expand([batch, 2])
}

/// What it reads after `value`, `[batch, 1]`: `[batch, 2]`.
pub(crate) fn after(value: &Tensor<2>) -> Tensor<2> {
    Tensor::cat(vec![value.clone(), value.zeros_like()], 1)
}
