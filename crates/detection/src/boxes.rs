//! Boxes: their two forms, and how much two of them have in common.
//!
//! ```text
//! IoU(a, b)  = |a ∩ b| / |a ∪ b|
//! GIoU(a, b) = IoU - (|c| - |a ∪ b|) / |c|      c the smallest box around both (Rezatofighi et al. 2019)
//! ```

use burn::tensor::Tensor;

/// Centre x, centre y, width, height.
pub type Centred = [f32; 4];

/// Left, top, right, bottom of a centred box.
#[must_use]
pub fn corners([x, y, width, height]: Centred) -> [f32; 4] {
    [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height]
}

/// GIoU of two boxes by their corners; not a number where both are points.
#[must_use]
pub fn generalized_iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |c: [f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let side = |near: f32, far: f32| (far - near).max(0.0);
    let common = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let union = area(a) + area(b) - common;
    let around = side(a[0].min(b[0]), a[2].max(b[2])) * side(a[1].min(b[1]), a[3].max(b[3]));
    common / union - (around - union) / around
}

/// GIoU of each of `a` with its counterpart in `b`, centred boxes `[n, 4]` both; the result is `[n, 1]`.
#[must_use]
pub fn generalized_iou_pairs(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let corners = |boxes: Tensor<2>| {
        let (centre, half) = (boxes.clone().narrow(1, 0, 2), boxes.narrow(1, 2, 2) * 0.5);
        (centre.clone() - half.clone(), centre + half)
    };
    let area = |size: Tensor<2>| size.clone().narrow(1, 0, 1) * size.narrow(1, 1, 1);
    let ((a_near, a_far), (b_near, b_far)) = (corners(a), corners(b));
    let common =
        (a_far.clone().min_pair(b_far.clone()) - a_near.clone().max_pair(b_near.clone())).clamp_min(0.0);
    let around =
        (a_far.clone().max_pair(b_far.clone()) - a_near.clone().min_pair(b_near.clone())).clamp_min(0.0);
    let (common, around) = (area(common), area(around));
    let union = area(a_far - a_near) + area(b_far - b_near) - common.clone();
    common / union.clone() - (around.clone() - union) / around
}
