//! Losses of masks: predictions before the sigmoid against ones and zeros, `[objects, pixels]` both.

use burn::tensor::{Tensor, activation};

/// `sum over objects of 1 - (2 p·t + 1) / (sum p + sum t + 1)` over `count`, with p = sigmoid x (Milletari et al. 2016).
#[must_use]
pub fn dice_loss(x: Tensor<2>, targets: Tensor<2>, count: f64) -> Tensor<1> {
    let p = activation::sigmoid(x);
    let common = (p.clone() * targets.clone()).sum_dim(1) * 2.0 + 1.0;
    let all = p.sum_dim(1) + targets.sum_dim(1) + 1.0;
    (common / all - 1.0).neg().sum() / count
}

/// `sum over objects of mean over pixels of -alpha_t (1 - p_t)^gamma log p_t` over `count`, `alpha` for ones and 1 - `alpha` for zeros, gamma 2 (Lin et al. 2017,
/// "Focal Loss for Dense Object Detection").
#[must_use]
pub fn sigmoid_focal_loss(x: Tensor<2>, targets: Tensor<2>, alpha: f64, count: f64) -> Tensor<1> {
    // -log p_t, without overflow: max(x, 0) - x t + log(1 + e^-|x|).
    let entropy =
        activation::relu(x.clone()) - x.clone() * targets.clone() + (x.clone().abs().neg().exp() + 1.0).log();
    let p = activation::sigmoid(x);
    let missed = p.clone() * (targets.clone() * -1.0 + 1.0) + (p * -1.0 + 1.0) * targets.clone();
    let alpha = targets * (2.0 * alpha - 1.0) + (1.0 - alpha);
    (alpha * missed.square() * entropy).mean_dim(1).sum() / count
}
