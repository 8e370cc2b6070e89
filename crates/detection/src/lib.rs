//! Objects and segments in pictures: DETR, how it learns, and how it is scored.
//!
//! - [`detr`]: the network, from transformers' configs and checkpoints.
//! - [`matching`]: which query answers for which object: the exact assignment of least cost.
//! - [`training`]: targets and losses.
//! - [`processor`], [`results`]: from a picture to the network, and from the network to objects and segments.
//! - [`boxes`]: forms of boxes, and their overlap.
//! - [`coco`]: data sets and results in COCO's JSON; masks as runs and outlines.
//! - [`score`]: average precision and panoptic quality.

pub mod boxes;
pub mod coco;
pub mod detr;
pub mod matching;
pub mod processor;
pub mod results;
pub mod score;
pub mod training;

pub use detr::{
    Detr, DetrConfig, DetrOutput, DetrSegmentation, ModelType, Predictions, Probabilities, Seen,
    SegmentationOutput,
};
pub use kiln_checkpoint::ConfigError;
