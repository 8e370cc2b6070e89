//! The tensor-backend trait of Kiln: devices by name, fused operations, reproducible noise.
//!
//! In Burn a `Tensor<D>` is not generic over its backend: the [`Device`](burn::tensor::Device) carries the
//! choice. So Kiln's models take `&Device` and ordinary tensors, and this crate is the only one that names a
//! Burn backend. It holds
//!
//! - [`TensorBackend`], [`BACKENDS`] and [`open`]: which backends this build has, and a device of one by name;
//! - [`FusedOps`] and [`ops`]: the hot operations, each with a definition composed of Burn's own operations, a
//!   kernel where that pays, and a backward pass. Other crates call the plain functions of [`ops`];
//! - [`noise`]: random numbers that depend on (seed, sample, step) alone, the same on every backend and for any
//!   batch size, and `torch.manual_seed`'s normals;
//! - [`remote`]: devices of other machines, and the worker that lends this one's;
//! - `allocator`, with the feature `mimalloc`: how that allocator keeps memory for the next layer;
//! - [`watch`]: in which layer numbers stop being finite.
//!
//! ```
//! use burn::tensor::{Distribution, Tensor};
//! use kiln_backend::ops::{self, Activation};
//!
//! let device = kiln_backend::open(None)?; // the best backend compiled in
//! let x = Tensor::<4>::random([1, 8, 16, 16], Distribution::Default, &device);
//! let (weight, bias) = (Tensor::ones([8], &device), Tensor::zeros([8], &device));
//! let y = ops::group_norm_act(x, weight, bias, 4, 1e-5, Activation::Silu);
//! assert_eq!(y.dims(), [1, 8, 16, 16]);
//! # Ok::<(), kiln_backend::BackendError>(())
//! ```

#[cfg(feature = "mimalloc")]
pub mod allocator;
mod autodiff;
#[doc(hidden)] // public for the tests, which hold every kernel to these definitions
pub mod composed;
#[cfg(feature = "flex")]
mod flex;
mod fused;
pub mod noise;
pub mod ops;
pub mod remote;
mod tensor_backend;
pub mod testing;
pub mod watch;

pub use fused::{AttentionMask, Bias, FusedOps};
pub use tensor_backend::*;
