//! Which query answers for which object (Carion et al. 2020, section 3.1).
//!
//! ```text
//! cost(q, o) = class_cost (-p_q(class of o)) + bbox_cost |b_q - b_o|_1 + giou_cost (-GIoU(b_q, b_o))
//! ```
//!
//! (a conditional DETR's classes cost `f(p) - g(p)`, the focal loss of what is less that of what is not: f(p) = -0.25 (1 - p)² log p,
//! g(p) = -0.75 p² log(1 - p)), and of all assignments of queries to objects the one of least cost.

mod assignment;

pub use assignment::{AssignmentError, assign};

use crate::boxes::{corners, generalized_iou};
use crate::detr::DetrConfig;
use crate::training::Target;
use crate::{Predictions, Probabilities};

/// Weights of the three costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatchingCosts {
    /// Of the class's probability.
    pub class: f32,
    /// Of the L1 distance of boxes.
    pub bbox: f32,
    /// Of the generalised overlap.
    pub giou: f32,
}

impl From<&DetrConfig> for MatchingCosts {
    fn from(config: &DetrConfig) -> Self {
        Self { class: config.class_cost as f32, bbox: config.bbox_cost as f32, giou: config.giou_cost as f32 }
    }
}

impl MatchingCosts {
    /// Pairs (query, object) for each picture, by query.
    ///
    /// Where two boxes are points and have no overlap to speak of, the cost is the largest of f32, so that such a query is taken
    /// last, as transformers does.
    ///
    /// # Errors
    ///
    /// [`AssignmentError::NotANumber`], if the network has diverged, and says what is no number.
    ///
    /// # Panics
    ///
    /// If there are not as many targets as pictures, or a class is none of the network's.
    pub fn pairs(
        self,
        predictions: &Predictions,
        targets: &[Target],
    ) -> Result<Vec<Vec<(usize, usize)>>, AssignmentError> {
        let [batch, queries, _] = predictions.logits.dims();
        assert_eq!(batch, targets.len(), "a target a picture");
        let read = |data: burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        let probabilities = predictions.probabilities.of(predictions.logits.clone().detach());
        let [.., classes] = probabilities.dims();
        let probabilities = read(probabilities.into_data());
        let boxes = read(predictions.boxes.clone().detach().into_data());
        let pictures = probabilities.chunks(queries * classes).zip(boxes.chunks(queries * 4));
        let pairs = pictures.zip(targets).map(|((probabilities, boxes), target)| {
            let mut costs = Vec::with_capacity(queries * target.classes.len());
            for (probabilities, found) in probabilities.chunks(classes).zip(boxes.chunks(4)) {
                let found = [found[0], found[1], found[2], found[3]];
                for (&class, &wanted) in target.classes.iter().zip(&target.boxes) {
                    let distance: f32 = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).sum();
                    let overlap = generalized_iou(corners(found), corners(wanted));
                    let class_cost = class_cost(predictions.probabilities, probabilities[class]);
                    let cost = self.bbox * distance + self.class * class_cost - self.giou * overlap;
                    let degenerate =
                        overlap.is_nan() && distance.is_finite() && probabilities[class].is_finite();
                    costs.push(if degenerate { f32::MAX } else { cost });
                }
            }
            assign(&costs, queries, target.classes.len())
        });
        pairs.collect()
    }
}

/// What it costs to take a query for an object of a class that it says with probability `p`.
fn class_cost(probabilities: Probabilities, p: f32) -> f32 {
    match probabilities {
        Probabilities::Softmax => -p,
        Probabilities::Sigmoid => {
            let is = 0.25 * (1.0 - p) * (1.0 - p) * -(p + 1e-8).ln();
            let is_not = 0.75 * p * p * -(1.0 - p + 1e-8).ln();
            is - is_not
        }
    }
}
