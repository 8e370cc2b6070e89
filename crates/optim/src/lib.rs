//! Optimizers as PyTorch defines them, gradients of functions, and quadratic forms with the methods that minimise them.
//!
//! To train a Burn module:
//!
//! - [`Adam`] and [`AdamW`], which differ in where the weight decay goes; with AMSGrad, cautious decay, and upwards too.
//!   Optimizers in Burn's sense ([`burn::optim::Optimizer`]), so that they serve in its `ModuleOptimizer` and Learner;
//! - [`NamedOptimizer`]: steps a whole module in [`Group`]s, with its state keyed by the parameter's path in the module
//!   (`"blocks.0.conv.weight"`), which survives the process as Burn's parameter ids do not; [`from_torch`] reads a state
//!   that PyTorch saved;
//! - [`Ema`]: the moving average of a module's weights, with diffusers' warm-up;
//! - [`clip_by_global_norm`]: all gradients scaled by one number, as `torch.nn.utils.clip_grad_norm_` does;
//! - [`weights`]: a module's tensors by path, out and in again, bit for bit.
//!
//! Learning-rate schedules are Burn's: [`lr_scheduler`].
//!
//! To look at a function: [`calculus`] (partial and directional derivatives, products with the Jacobian and the Hessian, a
//! check of gradients) and [`quadratic`] (forms 1/2 x'Ax + b'x + c from a polynomial's text, what kind they are, steepest
//! descent, conjugate gradients, L-BFGS).
//!
//! ```
//! use burn::module::{Module, Param};
//! use burn::optim::GradientsParams;
//! use burn::tensor::{Device, Tensor};
//! use kiln_optim::{AdamWConfig, NamedOptimizer, clip_by_global_norm};
//!
//! #[derive(Module, Debug)]
//! struct Line {
//!     slope: Param<Tensor<1>>,
//! }
//!
//! let device = Device::flex().autodiff();
//! let mut line = Line { slope: Param::from_data([0.0], &device) };
//! let mut optimizer = NamedOptimizer::new(AdamWConfig::new().build());
//! for _ in 0..300 {
//!     let loss = (line.slope.val() - 3.0).square().sum();
//!     let mut gradients = GradientsParams::from_grads(loss.backward(), &line);
//!     clip_by_global_norm(&mut gradients, &line, 1.0);
//!     line = optimizer.step(0.05, line, gradients);
//! }
//! assert!((line.slope.val().into_scalar::<f32>() - 3.0).abs() < 0.05);
//! ```

mod adam;
mod adamw;
pub mod calculus;
mod clip;
mod ema;
mod error;
mod group;
mod moments;
mod named;
pub mod quadratic;
mod torch;
pub mod weights;

pub use adam::{Adam, AdamConfig};
pub use adamw::{AdamW, AdamWConfig, DecayRule};
pub use burn::lr_scheduler;
pub use clip::{clip_by_global_norm, global_norm};
pub use ema::{Ema, EmaConfig, Warmup};
pub use error::{GroupError, StateError};
pub use group::{Group, NORMS_AND_BIASES};
pub use kiln_backend::ops::Objective;
pub use moments::{AdamState, Variant};
pub use named::{NamedOptimizer, StateDict};
pub use torch::{from_torch, torch_names};
