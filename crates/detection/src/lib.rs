//! Objects and segments in pictures: DETR, how it learns, and how it is scored.
//!
//! - [`detr`]: the network, from transformers' configs and checkpoints.

pub mod detr;

pub use detr::{Detr, DetrConfig, DetrOutput, DetrSegmentation, Predictions, SegmentationOutput};
pub use kiln_checkpoint::ConfigError;
