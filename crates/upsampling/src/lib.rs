//! Ways to make a picture larger, and to make it smaller again.
//!
//! | | what it computes | parameters to learn |
//! |---|---|---|
//! | [`Upsample`] | nearest, nearest-exact, linear to trilinear, bicubic, Lanczos (PyTorch's `Upsample`) | none |
//! | [`nearest`], [`nearest_unpool`] | pixels repeated | none |
//! | [`PixelShuffle`], [`PixelUnshuffle`] | channels become pixels, and back | none |
//! | [`MaxUnpool1d`], [`MaxUnpool2d`], [`MaxUnpool3d`], [`bed_of_nails`] | pixels with zeros between | none |
//! | [`ConvTranspose1d`], [`ConvTranspose2d`], [`ConvTranspose3d`], [`convolve_transposed`], [`bilinear_transposed`] | the adjoint of a convolution | its kernel |
//! | [`ResizeConvolution`] | interpolation, then a convolution | its kernel |
//! | [`icnr_convolution`], [`icnr`] | a start for pixel shuffle without a checkerboard | its kernel |
//! | [`Carafe`] | neighbours weighed by what the picture shows | two convolutions |
//! | [`DySample`] | bilinear, at places that are learned | one convolution |
//! | [`upfirdn`], [`fir_upsample`], [`fir_downsample`] | zeros between pixels, a filter, every n-th pixel | none |
//! | [`Espcn`], [`SrVgg`], [`Dat`] | super-resolution | networks |
//! | [`Fcn`], [`SegmentationUNet`] | labels of pixels | networks |
//!
//! What is a linear map along each axis runs as such, through the backend's `resample`. Everything has a gradient on every
//! backend.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_upsampling::{BINOMIAL, Mode, Target, Upsample, fir_downsample};
//!
//! let device = Device::flex();
//! let picture = Tensor::<4>::ones([1, 3, 8, 6], &device);
//! let larger = Upsample::new(Target::Factor([2.0, 2.0]), Mode::Bicubic).forward(picture);
//! assert_eq!(larger.dims(), [1, 3, 16, 12]);
//! assert_eq!(fir_downsample(larger, &BINOMIAL, 2).dims(), [1, 3, 8, 6]);
//! ```

mod axis;
pub mod carafe;
mod convolution;
pub mod dysample;
mod fir;
mod interpolation;
pub mod networks;
mod resize_convolution;
mod shuffle;
mod tiles;
mod transposed;
mod unpooling;
pub mod weights;

pub use burn::nn::conv::{
    ConvTranspose1d, ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d,
    ConvTranspose3dConfig,
};
pub use carafe::{Carafe, CarafeConfig};
pub use dysample::{DySample, DySampleConfig};
pub use fir::{BINOMIAL, Edges, Rates, fir_downsample, fir_upsample, fir_upsample_to, upfirdn};
pub use interpolation::{
    Antialias, Mode, Target, Upsample, nearest, upsampling_bilinear_2d, upsampling_nearest_2d,
};
pub use kiln_backend::ops::AlignCorners;
pub use networks::{
    Dat, DatConfig, Espcn, EspcnConfig, Fcn, FcnConfig, FcnStride, Reconstruction, ResidualConvolution,
    SegmentationUNet, SegmentationUNetConfig, SrVgg, SrVggActivation, SrVggConfig,
};
pub use resize_convolution::ResizeConvolution;
pub use shuffle::{PixelShuffle, PixelShuffleConfig, PixelUnshuffle, PixelUnshuffleConfig};
pub use tiles::{Next, Tiles, TilesError, enlarge, enlarge_by_bands};
pub use transposed::{bilinear_transposed, convolve_transposed, icnr, icnr_convolution};
pub use unpooling::{MaxUnpool, MaxUnpool1d, MaxUnpool2d, MaxUnpool3d, bed_of_nails, nearest_unpool};
