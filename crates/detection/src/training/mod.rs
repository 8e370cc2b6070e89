//! How a detector learns: what it is shown ([`Sample`], changed by an [`Augmentation`]), what it is to answer ([`Target`]), and what
//! it is told of its answers ([`Criterion`]).

mod augment;
mod criterion;
mod masks;
mod sample;
mod target;

pub use augment::Augmentation;
pub use criterion::{Criterion, Losses};
pub use masks::{dice_loss, sigmoid_focal_loss};
pub use sample::{Object, Sample, batch};
pub use target::{Target, TargetError};
