//! The gradient of one number in x, by one backward pass.

use burn::tensor::Tensor;

/// `grad f` at x, without autodiff; 0 where f does not depend on x.
///
/// # Shapes
/// - x and the gradient: the same; `f` gives `[1]`.
pub(crate) fn of<const D: usize>(x: &Tensor<D>, f: impl FnOnce(Tensor<D>) -> Tensor<1>) -> Tensor<D> {
    let leaf = x.clone().without_autodiff().autodiff().require_grad();
    let value = f(leaf.clone());
    let gradient =
        if value.is_autodiff() && value.is_tracked() { leaf.grad(&value.backward()) } else { None };
    gradient.unwrap_or_else(|| leaf.without_autodiff().zeros_like())
}
