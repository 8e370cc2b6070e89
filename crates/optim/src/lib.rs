//! Optimizers, moving averages of weights and gradient clipping for Burn modules.
//!
//! The definitions and defaults are PyTorch's, and a step costs one pass over memory:
//!
//! - [`AdamW`]: Adam with decoupled weight decay, an optimizer in Burn's sense
//!   ([`burn::optim::Optimizer`]), so that it serves in Burn's own `ModuleOptimizer` and Learner too;
//! - [`NamedOptimizer`]: steps a whole module, with its state keyed by the parameter's path in the module
//!   (`"blocks.0.conv.weight"`), which survives the process as Burn's parameter ids do not;
//! - [`Ema`]: the moving average of a module's weights, with diffusers' warm-up;
//! - [`clip_by_global_norm`]: all gradients scaled by one number, as `torch.nn.utils.clip_grad_norm_` does;
//! - [`weights`]: a module's tensors by path, out and in again, bit for bit.
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

mod adamw;
mod clip;
mod ema;
mod error;
mod named;
pub mod weights;

pub use adamw::{AdamW, AdamWConfig, AdamWState};
pub use clip::{clip_by_global_norm, global_norm};
pub use ema::{Ema, EmaConfig};
pub use error::StateError;
pub use named::{NamedOptimizer, StateDict};
