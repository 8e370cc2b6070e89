//! The loss of a set of predictions (Carion et al. 2020, section 3.1), with transformers' terms and weights.
//!
//! ```text
//! loss = ce + bbox_loss_coefficient L1 + giou_loss_coefficient (1 - GIoU)        over pairs of query and object
//!           + mask_loss_coefficient focal + dice_loss_coefficient dice           for the last layer
//! ```
//!
//! (where classes are told one by one, ce is their focal loss, summed, over the number of objects in the batch)
//!
//! and the same, masks left out, for each layer of the decoder before the last. Queries without an object learn the class "no
//! object", with the weight `eos_coefficient`. Boxes and masks are divided by the number of objects in the batch.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};
use kiln_backend::ops::{InterpolationMode, interpolate};

use super::masks::{dice_loss, sigmoid_focal_loss};
use super::target::Target;
use crate::boxes::generalized_iou_pairs;
use crate::detr::{DetrConfig, DetrOutput};
use crate::matching::{AssignmentError, MatchingCosts};
use crate::{Predictions, Probabilities};

/// Weight of what belongs to an object in the masks' focal loss.
const MASK_ALPHA: f64 = 0.25;

/// What a network is told of its answers; made from its config.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    /// Costs of the matching.
    pub costs: MatchingCosts,
    /// Weight of "no object", where there is such a class.
    pub no_object: f64,
    /// Weight of what is, against what is not, in the focal loss of classes that are told one by one.
    pub focal_alpha: f64,
    /// Weight of the boxes' L1 distance.
    pub bbox: f64,
    /// Weight of the boxes' generalised overlap.
    pub giou: f64,
    /// Weight of the masks' focal loss.
    pub mask: f64,
    /// Weight of the masks' dice loss.
    pub dice: f64,
}

impl From<&DetrConfig> for Criterion {
    fn from(config: &DetrConfig) -> Self {
        Self {
            costs: config.into(),
            no_object: config.eos_coefficient,
            focal_alpha: config.focal_alpha,
            bbox: config.bbox_loss_coefficient,
            giou: config.giou_loss_coefficient,
            mask: config.mask_loss_coefficient,
            dice: config.dice_loss_coefficient,
        }
    }
}

/// The loss and its terms.
#[derive(Clone, Debug)]
pub struct Losses {
    /// The weighted sum, which gradients are taken of: `[1]`.
    pub total: Tensor<1>,
    /// Each term without its weight, `[1]`, by transformers' names: `loss_ce`, `loss_bbox`, `loss_giou`, `loss_mask`, `loss_dice`,
    /// `cardinality_error` (which is told, not learned from); those of earlier layers end in `_0`, `_1`, ...
    pub terms: BTreeMap<String, Tensor<1>>,
}

impl Criterion {
    /// The losses of what a network said; `masks`, before the sigmoid, is `[batch, queries, rows, columns]`, and is compared
    /// where every target with objects has masks.
    ///
    /// # Errors
    ///
    /// As [`MatchingCosts::pairs`].
    ///
    /// # Panics
    ///
    /// If there are not as many targets as pictures, or one of them does not [validate](Target::validate).
    pub fn forward(
        &self,
        output: &DetrOutput,
        masks: Option<Tensor<4>>,
        targets: &[Target],
    ) -> Result<Losses, AssignmentError> {
        let Some(masks) = masks else { return self.losses(output, None, targets) };
        let [batch, queries, rows, columns] = masks.dims();
        let masks = masks.reshape([batch * queries, rows, columns]);
        let chosen = |pairs: &[(usize, usize)]| {
            let places = pairs.iter().map(|&(picture, query)| (picture * queries + query) as i64);
            let places = TensorData::new(places.collect::<Vec<_>>(), [pairs.len()]);
            masks.clone().select(0, Tensor::from_data(places, &masks.device()))
        };
        self.losses(output, Some(&chosen), targets)
    }

    /// As [`forward`](Self::forward), with masks drawn when it is known which are compared: `masks` gets pairs of a picture and a
    /// query, at least one, and gives `[pairs, rows, columns]`, before the sigmoid
    /// ([`DetrSegmentation::masks_of`](crate::DetrSegmentation::masks_of)).
    ///
    /// # Errors
    ///
    /// As [`MatchingCosts::pairs`].
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_drawing(
        &self,
        output: &DetrOutput,
        masks: impl Fn(&[(usize, usize)]) -> Tensor<3>,
        targets: &[Target],
    ) -> Result<Losses, AssignmentError> {
        self.losses(output, Some(&masks), targets)
    }

    /// The weighted loss of the masks alone, `[1]`, for a detector that does not learn; 0 where no object of the batch has a mask.
    /// Arguments as in [`forward_drawing`](Self::forward_drawing).
    ///
    /// # Errors
    ///
    /// As [`MatchingCosts::pairs`].
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn of_masks(
        &self,
        output: &DetrOutput,
        masks: impl Fn(&[(usize, usize)]) -> Tensor<3>,
        targets: &[Target],
    ) -> Result<Tensor<1>, AssignmentError> {
        let count = counted(&output.predictions, targets);
        let last = Matched::new(&output.predictions, targets, self.costs)?;
        Ok(match last.masks(&masks, targets, count) {
            Some((focal, dice)) if !last.is_empty() => focal * self.mask + dice * self.dice,
            // Of some mask, so that there is something to take gradients of.
            _ => masks(&[(0, 0)]).sum() * 0.0,
        })
    }

    fn losses(
        &self,
        output: &DetrOutput,
        masks: Option<Drawn<'_>>,
        targets: &[Target],
    ) -> Result<Losses, AssignmentError> {
        let count = counted(&output.predictions, targets);
        let mut terms = BTreeMap::new();
        let last = Matched::new(&output.predictions, targets, self.costs)?;
        let mut total = self.layer(&last, targets, count, "", &mut terms);
        if let Some(masks) = masks
            && let Some((focal, dice)) = last.masks(masks, targets, count)
        {
            total = total + focal.clone() * self.mask + dice.clone() * self.dice;
            terms.insert("loss_mask".to_owned(), focal);
            terms.insert("loss_dice".to_owned(), dice);
        }
        for (index, predictions) in output.auxiliary.iter().enumerate() {
            let layer = Matched::new(predictions, targets, self.costs)?;
            total = total + self.layer(&layer, targets, count, &format!("_{index}"), &mut terms);
        }
        Ok(Losses { total, terms })
    }

    /// The weighted loss of one set of predictions by itself: `[1]`.
    ///
    /// # Errors
    ///
    /// As [`MatchingCosts::pairs`].
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn of_predictions(
        &self,
        predictions: &Predictions,
        targets: &[Target],
    ) -> Result<Tensor<1>, AssignmentError> {
        let count = counted(predictions, targets);
        let matched = Matched::new(predictions, targets, self.costs)?;
        Ok(self.layer(&matched, targets, count, "", &mut BTreeMap::new()))
    }

    fn layer(
        &self,
        layer: &Matched<'_>,
        targets: &[Target],
        count: f64,
        suffix: &str,
        terms: &mut BTreeMap<String, Tensor<1>>,
    ) -> Tensor<1> {
        let entropy = match layer.predictions.probabilities {
            Probabilities::Softmax => layer.cross_entropy(targets, self.no_object),
            Probabilities::Sigmoid => layer.focal(targets, self.focal_alpha, count),
        };
        let (distance, overlap) = layer.boxes(targets, count);
        let total = entropy.clone() + distance.clone() * self.bbox + overlap.clone() * self.giou;
        for (name, term) in [
            ("loss_ce", entropy),
            ("loss_bbox", distance),
            ("loss_giou", overlap),
            ("cardinality_error", layer.cardinality_error(targets)),
        ] {
            terms.insert(format!("{name}{suffix}"), term);
        }
        total
    }
}

/// Masks of pairs of a picture and a query: `[pairs, rows, columns]`.
type Drawn<'a> = &'a dyn Fn(&[(usize, usize)]) -> Tensor<3>;

/// How many objects there are to learn, 1 if none.
fn counted(predictions: &Predictions, targets: &[Target]) -> f64 {
    let scores = predictions.logits.dims()[2];
    let classes = scores + 1 - predictions.probabilities.scores(1);
    for target in targets {
        if let Err(error) = target.validate(classes) {
            panic!("{error}");
        }
    }
    targets.iter().map(|target| target.classes.len()).sum::<usize>().max(1) as f64
}

/// Predictions with the object that each query answers for.
struct Matched<'a> {
    predictions: &'a Predictions,
    pairs: Vec<Vec<(usize, usize)>>,
    device: Device,
}

impl<'a> Matched<'a> {
    fn new(
        predictions: &'a Predictions,
        targets: &[Target],
        costs: MatchingCosts,
    ) -> Result<Self, AssignmentError> {
        let pairs = costs.pairs(predictions, targets)?;
        Ok(Self { predictions, pairs, device: predictions.logits.device() })
    }

    /// Each pair as (picture, query, object).
    fn triples(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let pictures = self.pairs.iter().enumerate();
        pictures
            .flat_map(|(picture, pairs)| pairs.iter().map(move |&(query, object)| (picture, query, object)))
    }

    /// Places of the matched queries in the batch, all queries in a row.
    fn places(&self) -> Tensor<1, Int> {
        let queries = self.predictions.logits.dims()[1];
        let places: Vec<i64> =
            self.triples().map(|(picture, query, _)| (picture * queries + query) as i64).collect();
        let count = places.len();
        Tensor::from_data(TensorData::new(places, [count]), &self.device)
    }

    /// Numbers on the device, in the type of the predictions.
    fn floats<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        let dtype = self.predictions.logits.dtype();
        Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (&self.device, dtype))
    }

    fn is_empty(&self) -> bool {
        self.pairs.iter().all(Vec::is_empty)
    }

    /// The mean over queries of -log p(class), each with its class's weight.
    fn cross_entropy(&self, targets: &[Target], no_object: f64) -> Tensor<1> {
        let [batch, queries, width] = self.predictions.logits.dims();
        let mut classes = vec![width - 1; batch * queries];
        for (picture, query, object) in self.triples() {
            classes[picture * queries + query] = targets[picture].classes[object];
        }
        // One row a query, its weight where its class is, and 0 elsewhere.
        let mut weights = vec![0_f32; batch * queries * width];
        let mut sum = 0.0;
        for (row, &class) in weights.chunks_mut(width).zip(&classes) {
            let weight = if class == width - 1 { no_object } else { 1.0 };
            row[class] = weight as f32;
            sum += weight;
        }
        let weights = self.floats(weights, [batch, queries, width]);
        let logs = activation::log_softmax(self.predictions.logits.clone(), 2);
        (logs * weights).sum().neg() / sum
    }

    /// The focal loss of every class of every query, summed, over `count`.
    fn focal(&self, targets: &[Target], alpha: f64, count: f64) -> Tensor<1> {
        let [batch, queries, width] = self.predictions.logits.dims();
        let mut classes = vec![0_f32; batch * queries * width];
        for (picture, query, object) in self.triples() {
            classes[(picture * queries + query) * width + targets[picture].classes[object]] = 1.0;
        }
        let rows = [batch * queries, width];
        let logits = self.predictions.logits.clone().reshape(rows);
        sigmoid_focal_loss(logits, self.floats(classes, rows), alpha, count) * width as f64
    }

    /// L1 distance and 1 - GIoU, summed over pairs, over `count`.
    fn boxes(&self, targets: &[Target], count: f64) -> (Tensor<1>, Tensor<1>) {
        if self.is_empty() {
            let nothing = self.predictions.boxes.clone().sum() * 0.0;
            return (nothing.clone(), nothing);
        }
        let [batch, queries, _] = self.predictions.boxes.dims();
        let found = self.predictions.boxes.clone().reshape([batch * queries, 4]).select(0, self.places());
        let wanted: Vec<f32> =
            self.triples().flat_map(|(picture, _, object)| targets[picture].boxes[object]).collect();
        let pairs = wanted.len() / 4;
        let wanted = self.floats(wanted, [pairs, 4]);
        let distance = (found.clone() - wanted.clone()).abs().sum() / count;
        let overlap = (generalized_iou_pairs(found, wanted) - 1.0).neg().sum() / count;
        (distance, overlap)
    }

    /// How far the number of queries that see an object is from the number of objects, on average over pictures.
    fn cardinality_error(&self, targets: &[Target]) -> Tensor<1> {
        let [batch, queries, width] = self.predictions.logits.dims();
        let logits: Vec<f32> = self.predictions.logits.clone().detach().into_data().iter::<f32>().collect();
        let mut error = 0.0;
        for (picture, target) in logits.chunks(queries * width).zip(targets) {
            let most = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let seen = picture.chunks(width).filter(|scores| match self.predictions.probabilities {
                // The first of equal scores counts.
                Probabilities::Softmax => most(&scores[..width - 1]) >= scores[width - 1],
                Probabilities::Sigmoid => most(scores) > 0.0,
            });
            error += (seen.count() as f64 - target.classes.len() as f64).abs();
        }
        let mean = (error / batch as f64) as f32;
        Tensor::from_data(TensorData::from([mean]), (&self.device, DType::F32))
    }

    /// Focal and dice loss, where every target with objects has masks; predictions are brought to their size. None where nothing
    /// is compared.
    fn masks(&self, drawn: Drawn<'_>, targets: &[Target], count: f64) -> Option<(Tensor<1>, Tensor<1>)> {
        let matched = self.pairs.iter().zip(targets).filter(|(pairs, _)| !pairs.is_empty());
        let wanted: Vec<(&Vec<(usize, usize)>, &Tensor<3>)> =
            matched.map(|(pairs, target)| Some((pairs, target.masks.as_ref()?))).collect::<Option<_>>()?;
        let sides = wanted.iter().map(|(_, masks)| masks.dims());
        let (height, width) = sides.fold((0, 0), |(h, w), [_, height, width]| (h.max(height), w.max(width)));
        if height * width == 0 {
            // With masks that are none, the terms are there, and 0.
            let nothing = self.floats(vec![0.0], [1]);
            let told = targets.iter().all(|target| target.masks.is_some());
            return told.then(|| (nothing.clone(), nothing));
        }
        let places: Vec<(usize, usize)> =
            self.triples().map(|(picture, query, _)| (picture, query)).collect();
        let pairs = places.len();
        let found = drawn(&places).unsqueeze_dim(1);
        let found = interpolate(found, [height, width], InterpolationMode::Bilinear);
        let chosen = wanted.into_iter().map(|(pairs, masks)| {
            let objects: Vec<i64> = pairs.iter().map(|&(_, object)| object as i64).collect();
            let objects = Tensor::from_data(TensorData::new(objects, [pairs.len()]), &self.device);
            let [_, rows, columns] = masks.dims();
            let padded = Tensor::zeros([pairs.len(), height, width], (&self.device, found.dtype()));
            padded.slice_assign([0..pairs.len(), 0..rows, 0..columns], masks.clone().select(0, objects))
        });
        let wanted: Tensor<3> = Tensor::cat(chosen.collect(), 0);
        let (found, wanted) =
            (found.reshape([pairs, height * width]), wanted.reshape([pairs, height * width]));
        Some((
            sigmoid_focal_loss(found.clone(), wanted.clone(), MASK_ALPHA, count),
            dice_loss(found, wanted, count),
        ))
    }
}
