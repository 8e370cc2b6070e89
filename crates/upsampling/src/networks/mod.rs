//! Networks that make a picture larger, and networks that label its pixels.

pub mod dat;
pub mod espcn;
pub mod segmentation;
mod sequential;
pub mod srvgg;

pub use dat::{Dat, DatConfig, Reconstruction, ResidualConvolution};
pub use espcn::{Espcn, EspcnConfig};
pub use segmentation::{Fcn, FcnConfig, FcnStride, SegmentationUNet, SegmentationUNetConfig};
pub use srvgg::{SrVgg, SrVggActivation, SrVggConfig};
