//! Ways to make a picture larger, and to make it smaller again.
//!
//! | | what it computes | parameters to learn |
//! |---|---|---|
//! | [`Upsample`] | nearest, bilinear or bicubic interpolation (PyTorch's `Upsample`) | none |
//! | [`nearest`] | pixels repeated, to any size | none |
//! | [`upfirdn`] | zeros between pixels, a filter, every n-th pixel | none |
//! | [`fir_upsample`], [`fir_downsample`] | the two halves of it, as StyleGAN and score SDE have them | none |
//!
//! Every one is a linear map along each axis and runs as such, through the backend's `resample`; so every one has a
//! gradient, the transposed map, on every backend.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kiln_backend::ops::InterpolationMode;
//! use kiln_upsampling::{BINOMIAL, Target, Upsample, fir_downsample};
//!
//! let device = Device::flex();
//! let picture = Tensor::<4>::ones([1, 3, 8, 6], &device);
//! let larger = Upsample::new(Target::Factor([2, 2]), InterpolationMode::Bicubic).forward(picture);
//! assert_eq!(larger.dims(), [1, 3, 16, 12]);
//! assert_eq!(fir_downsample(larger, &BINOMIAL, 2).dims(), [1, 3, 8, 6]);
//! ```

mod fir;
mod interpolation;

pub use fir::{BINOMIAL, Edges, Rates, fir_downsample, fir_upsample, fir_upsample_to, upfirdn};
pub use interpolation::{Target, Upsample, nearest};
