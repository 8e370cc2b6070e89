//! What can go wrong with a picture model.

use kiln_checkpoint::CheckpointError;
use kiln_diffusion::DiffusionError;
use kiln_picture::PictureError;
use thiserror::Error;

/// What can go wrong with a picture model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file can't be read, or its tensors are not the network's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file holds no picture model.
    #[error("{file} is no picture model of kiln: its metadata has no `{key}`")]
    Kind {
        /// The file.
        file: String,
        /// The metadata key that is missing.
        key: &'static str,
    },
    /// The file's description of the model can't be read.
    #[error("the model in {file} can't be used: {reason}")]
    Description {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The parts of a model do not fit together.
    #[error("the model can't be used: {reason}")]
    Card {
        /// What does not fit.
        reason: String,
    },
    /// A class was asked for, and the model has none.
    #[error("the model has no classes, and class {wanted} was asked for")]
    NoClasses {
        /// What was asked for.
        wanted: String,
    },
    /// The class asked for is not one of the model's.
    #[error("there is no class {wanted}: the model has {count}, numbered 0 to {last}")]
    Class {
        /// What was asked for.
        wanted: String,
        /// How many there are.
        count: usize,
        /// The last one's number.
        last: usize,
    },
    /// What a picture is to show was told in another way than the model takes.
    #[error("{reason}")]
    Label {
        /// What the model takes.
        reason: String,
    },
    /// The solver, its steps or the process can't be used.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// A picture could not be made.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The numbers drawn are not finite.
    #[error(
        "the network drew values that are not finite (picture {picture}): try a smaller --guidance or more --steps"
    )]
    NotFinite {
        /// The first picture they are in, from 0.
        picture: usize,
    },
    /// The caller's progress callback ended the drawing.
    #[error("the drawing was stopped: {0}")]
    Stopped(String),
}
