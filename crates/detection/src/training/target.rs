//! The objects of a picture, as a detector learns them.

use burn::tensor::Tensor;
use thiserror::Error;

use crate::boxes::Centred;

/// The objects of one picture.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The class of each.
    pub classes: Vec<usize>,
    /// Its box as shares of the picture's sides.
    pub boxes: Vec<Centred>,
    /// Masks of ones and zeros, `[objects, height, width]`, where masks are learned.
    pub masks: Option<Tensor<3>>,
}

/// A target that no loss is defined for.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TargetError {
    /// Not as many of one thing as of another.
    #[error("{classes} classes and {others} {what} in a target")]
    Counts {
        /// Classes in it.
        classes: usize,
        /// What is not as many.
        what: &'static str,
        /// How many there are.
        others: usize,
    },
    /// A class that the network has not.
    #[error("object {object} is of class {class}, and there are {classes}")]
    Class {
        /// Which object.
        object: usize,
        /// Its class.
        class: usize,
        /// How many the network knows.
        classes: usize,
    },
    /// A box whose width or height is below 0, or that holds what is no number.
    #[error("object {object} has the box {found:?}; expected finite numbers, and width and height from 0")]
    Box {
        /// Which object.
        object: usize,
        /// Its box.
        found: Centred,
    },
}

impl Target {
    /// Check that each object has a class below `classes` and a box.
    ///
    /// # Errors
    ///
    /// [`TargetError`] with the first that has not.
    pub fn validate(&self, classes: usize) -> Result<(), TargetError> {
        let count = self.classes.len();
        let counts = |what, others| {
            if others == count { Ok(()) } else { Err(TargetError::Counts { classes: count, what, others }) }
        };
        counts("boxes", self.boxes.len())?;
        if let Some(masks) = &self.masks {
            counts("masks", masks.dims()[0])?;
        }
        for (object, &class) in self.classes.iter().enumerate() {
            if class >= classes {
                return Err(TargetError::Class { object, class, classes });
            }
        }
        for (object, &found) in self.boxes.iter().enumerate() {
            if found.iter().any(|number| !number.is_finite()) || found[2] < 0.0 || found[3] < 0.0 {
                return Err(TargetError::Box { object, found });
            }
        }
        Ok(())
    }
}
