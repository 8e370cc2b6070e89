//! Networks that make a picture larger, and networks that label its pixels.

mod dat;
mod espcn;
mod segmentation;
mod sequential;
mod srvgg;

pub use dat::{Dat, DatConfig, Reconstruction, ResidualConvolution};
pub use espcn::{Espcn, EspcnConfig};
pub use segmentation::{Fcn, FcnConfig, FcnStride, SegmentationUNet, SegmentationUNetConfig};
pub use srvgg::{SrVgg, SrVggActivation, SrVggConfig};
