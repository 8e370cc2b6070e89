//! DETR (Carion et al. 2020, "End-to-End Object Detection with Transformers"), with transformers' configs and checkpoints.
//!
//! ```text
//! picture --ResNet--> feature map --1x1--> places --encoder--> memory
//! queries --decoder, looking at the memory--> one state a query --> class (or none), box --> (mask)
//! ```
//!
//! | file | what it computes |
//! |---|---|
//! | [`resnet`] | the backbone |
//! | `positions` | where a place of the feature map is |
//! | `transformer` | encoder and decoder |
//! | `conditional` | the decoder whose queries look around a point |
//! | `model` | [`Detr`]: classes and boxes |
//! | `segmentation` | [`DetrSegmentation`]: masks too |
//! | `names` | what other files call the parameters |

mod activation;
mod conditional;
mod config;
mod model;
mod names;
mod positions;
pub mod resnet;
mod segmentation;
mod transformer;

pub use activation::ActivationFunction;
pub use config::{DetrConfig, ModelType, PositionEmbeddingType};
pub use model::{Detr, DetrOutput, Predictions, Probabilities};
pub use segmentation::{DetrSegmentation, Seen, SegmentationOutput};
