//! The crate's integration tests, in one binary.

#[path = "detection/assignment.rs"]
mod assignment;
#[path = "detection/coco.rs"]
mod coco;
#[path = "detection/detr.rs"]
mod detr;
#[path = "detection/facebook.rs"]
mod facebook;
#[path = "detection/learning.rs"]
mod learning;
#[path = "detection/processor.rs"]
mod processor;
#[path = "detection/score.rs"]
mod score;
#[path = "detection/segments.rs"]
mod segments;
