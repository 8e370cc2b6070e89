//! COCO's JSON: what a data set says of its pictures, and what a detector says of them.
//!
//! | file | what it holds |
//! |---|---|
//! | `dataset` | [`Dataset`], its pictures, objects and classes; [`Detection`], a result |
//! | `rle` | [`Rle`], masks as lengths of runs |
//! | `polygon` | outlines to masks |
//! | `folder` | [`CocoFolder`], a data set with its pictures |
//! | `lint` | what is wrong with a data set |

mod dataset;
mod folder;
mod lint;
mod polygon;
mod rle;

pub use dataset::{Annotation, Category, CocoError, Dataset, Detection, Image, Segmentation, detections};
pub use folder::{CocoFolder, FolderError, Masks};
pub use lint::{Finding, lint};
pub use rle::{Rle, RleError};
