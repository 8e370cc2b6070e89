//! Where numbers first stop being finite: a pass made again, looked at layer by layer.
//!
//! Layers tell [`layer`], [`block`] and [`part`] what they made. While nobody watches, which is always but in [`first_not_finite`], that costs the
//! reading of one flag and no look at any number.

use std::cell::Cell;

use burn::module::{Param, ParamId};
use burn::tensor::Tensor;

/// The layer or block in which numbers stopped being finite, by one of its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A parameter of it.
    pub parameter: ParamId,
    /// How many parts of that parameter's name come after the place's own: 1 of a layer's `weight`, 2 of a block's `conv1.weight`.
    pub below: usize,
}

#[derive(Clone, Copy)]
enum Watch {
    Off,
    On,
    Found(Place),
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Off) };
}

/// A layer, told by its own `parameter`, gave `x`.
pub fn layer<const P: usize, const D: usize>(parameter: &Param<Tensor<P>>, x: &Tensor<D>) {
    part(parameter, 1, x);
}

/// A block of layers, told by a `parameter` of one of these, gave `x`.
pub fn block<const P: usize, const D: usize>(parameter: &Param<Tensor<P>>, x: &Tensor<D>) {
    part(parameter, 2, x);
}

/// A part of a network, whose `parameter` is named by `below` parts more than it, gave `x`.
pub fn part<const P: usize, const D: usize>(parameter: &Param<Tensor<P>>, below: usize, x: &Tensor<D>) {
    if matches!(WATCH.get(), Watch::On) && !is_finite(x) {
        WATCH.set(Watch::Found(Place { parameter: parameter.id, below }));
    }
}

/// Whether all numbers of `x` are finite. This waits for the device.
#[must_use]
pub fn is_finite<const D: usize>(x: &Tensor<D>) -> bool {
    !has_flaw(flaw(x))
}

/// What [`has_flaw`] reads: one number, which is computed where `x` is and not waited for.
#[must_use]
pub fn flaw<const D: usize>(x: &Tensor<D>) -> Tensor<1> {
    // A sum of finite squares may overflow, a difference of a number and itself does not.
    (x.clone() - x.clone()).abs().sum()
}

/// Whether a number that is not finite was among those that this is the [`flaw`] of. This waits for the device.
#[must_use]
pub fn has_flaw(flaw: Tensor<1>) -> bool {
    flaw.into_scalar::<f32>() != 0.0
}

/// Makes a pass on this thread and tells the first place in it that gave numbers which are not finite.
pub fn first_not_finite(pass: impl FnOnce()) -> Option<Place> {
    /// Nobody watches any more, even after a panic.
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            WATCH.set(Watch::Off);
        }
    }
    WATCH.set(Watch::On);
    let _off = Off;
    pass();
    match WATCH.get() {
        Watch::Found(place) => Some(place),
        Watch::Off | Watch::On => None,
    }
}
