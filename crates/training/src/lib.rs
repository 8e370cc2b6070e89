//! One training loop for every model: steps, moving average, clipping, warm-up, checkpoints, bitwise resume; and the
//! data sets that it is fed from.
//!
//! A [`Trainer`] owns the loop, and the caller gives it the one thing that differs: a closure from the model and a
//! [`StepContext`] to the loss. An [`Observer`] is told what happens. The library prints nothing.
//!
//! A run lives in a folder:
//!
//! - `checkpoint-00001000.safetensors`: the newest checkpoint, and the one before it. Each is written whole or not at
//!   all, and holds the weights, their average, the optimizer's moments and the configuration: see
//!   [`TrainingState`].
//! - `losses.csv`: one row a step.
//!
//! Everything random in a step is a function of the seed and the step ([`StepContext`] says how), so that a run that
//! was stopped, or killed, goes on from its last checkpoint bit for bit as if it had not been.
//!
//! ```
//! use burn::module::{Module, Param};
//! use burn::tensor::{Device, Tensor};
//! use kiln_backend::noise;
//! use kiln_training::{Outcome, Trainer, TrainerConfig};
//!
//! #[derive(Module, Debug)]
//! struct Line {
//!     slope: Param<Tensor<1>>,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let line = Line { slope: Param::from_data([0.0], &Device::flex().autodiff()) };
//! let config = TrainerConfig { steps: 200, learning_rate: 0.05, ema_decay: 0.9, ..TrainerConfig::default() };
//! let dir = tempfile::tempdir()?;
//! let mut trainer = Trainer::new(config, line, dir.path())?;
//! let outcome = trainer.run(
//!     |line, context| {
//!         let x = noise::normal([context.batch_size], context.noise_key(0), context.device);
//!         Ok((x.clone() * line.slope.val() - x * 3.0).square().mean())
//!     },
//!     &mut (),
//! )?;
//! assert_eq!(outcome, Outcome::Finished { step: 200 });
//! assert!((trainer.averaged().slope.val().into_scalar::<f32>() - 3.0).abs() < 0.05);
//! # Ok(())
//! # }
//! ```

mod config;
pub mod data;
mod devices;
mod error;
mod exact;
mod losses;
mod observer;
mod state;
mod trainer;

pub use config::{Schedule, TrainerConfig};
pub use error::TrainingError;
pub use losses::LOSSES_FILE;
pub use observer::{BoxError, Observer, Outcome, StepReport};
pub use state::TrainingState;
pub use trainer::{StepContext, Trainer};
