//! Annotators: what a control network is shown, drawn from a photograph or from the points of a pose.
//!
//! | | from | gives |
//! |---|---|---|
//! | [`canny`] | a picture | thin edges, white on black (Canny 1986) |
//! | [`Hed`] | a picture | soft edges that a network finds (Xie and Tu 2015) |
//! | [`Poses`] | OpenPose's JSON, or COCO's | skeletons in colours on black |
//!
//! ```
//! use kiln_conditioning::annotators::{Thresholds, canny};
//! use kiln_picture::{Channels, Picture};
//!
//! let half = (0..32 * 32).map(|i| if i % 32 < 16 { 0 } else { 255 }).collect();
//! let edges = canny(&Picture::new(32, 32, Channels::Grey, half)?, Thresholds::default())?;
//! assert!(edges.samples()[15 * 32..][14..18].contains(&255));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod canny;
mod error;
mod hed;
mod limbs;
mod poses;

pub use canny::{Thresholds, canny};
pub use error::AnnotatorError;
pub use hed::{Hed, HedConfig, HedLayout};
pub use limbs::{JOINT_COLOURS, LIMBS};
pub use poses::{Body, Point, Poses};
