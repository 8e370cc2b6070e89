//! How good a detector is, as COCO counts: [`average_precision`] of boxes and masks, [`panoptic_quality`] of whole pictures.

mod average_precision;
mod matches;
mod panoptic;

pub use average_precision::{AveragePrecision, Regions, average_precision};
pub use panoptic::{
    PanopticEntry, PanopticFile, PanopticImage, PanopticQuality, PanopticScore, PanopticTally, Segment,
    ids_of, panoptic_files, panoptic_quality, picture_of,
};
