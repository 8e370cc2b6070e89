//! How a detector learns: what it is shown ([`Target`]), and what it is told of its answers ([`Criterion`]).

mod criterion;
mod masks;
mod target;

pub use criterion::{Criterion, Losses};
pub use masks::{dice_loss, sigmoid_focal_loss};
pub use target::{Target, TargetError};
