//! What can be wrong with what an annotator is given.

use kiln_checkpoint::CheckpointError;
use kiln_picture::PictureError;

/// Why there is no annotation.
#[derive(Debug, thiserror::Error)]
pub enum AnnotatorError {
    /// Thresholds of Canny's edges that are no numbers, negative, or the wrong way round.
    #[error(
        "Canny's thresholds {low} and {high}: they must be numbers from 0, the low one not above the high one"
    )]
    Thresholds {
        /// The low one.
        low: f32,
        /// The high one.
        high: f32,
    },
    /// A picture that the network halves away.
    #[error(
        "{width} x {height} pixels are too few for HED, which needs {least} on each side: enlarge the picture"
    )]
    TooSmall {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The shortest side that the network takes.
        least: u32,
    },
    /// Weights of another network.
    #[error(
        "{file} holds no HED: neither ControlNet's names (norm, block1.projection.weight) nor VGG's (dsn1.weight)"
    )]
    NotHed {
        /// The file.
        file: String,
    },
    /// Weights that can't be read.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// A picture that can't be made.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Text that is no JSON, or JSON of another form.
    #[error(
        "the poses are neither OpenPose's JSON (people, pose_keypoints_2d) nor COCO's (annotations, keypoints): {0}"
    )]
    NotPoses(String),
    /// A person with another number of points.
    #[error("{field} of person {person} holds {numbers} numbers; {expected} were to be there")]
    Points {
        /// The field that holds them.
        field: &'static str,
        /// Which person, from 0.
        person: usize,
        /// How many numbers it holds.
        numbers: usize,
        /// How many it may hold, in words.
        expected: &'static str,
    },
    /// COCO's annotations of several pictures, of which one was to be drawn.
    #[error("the poses are of {pictures} pictures: say which by its image_id")]
    SeveralPictures {
        /// How many.
        pictures: usize,
    },
}
