//! What can be wrong with a picture, a file of one, or a request about one.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Channels, Format};

/// Why a picture could not be read, made or written.
///
/// Whatever concerns a file is [`PictureError::InFile`] around the reason, so that the message names the file once;
/// [`PictureError::reason`] looks through it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The reason, and the file that it concerns.
    #[error("{}: {reason}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What was wrong with it; never itself an `InFile`.
        reason: Box<PictureError>,
    },

    /// The file could not be opened or read.
    #[error("can't be read: {0}")]
    Read(io::Error),

    /// The file could not be written; what stood at its place before still does.
    #[error("can't be written: {0}")]
    Write(io::Error),

    /// The picture can't be held by a file of this format.
    #[error("can't be written as {format}: {reason}")]
    Unencodable {
        /// The format that was asked for.
        format: Format,
        /// What it does not hold.
        reason: String,
    },

    /// The first bytes are those of no format that this crate reads.
    #[error("is not a PNG, JPEG or WebP picture")]
    UnknownFormat,

    /// The bytes start as a picture but do not go on as one.
    #[error("is a broken {format} picture: {message}")]
    Malformed {
        /// What the first bytes say it is.
        format: Format,
        /// What the decoder met.
        message: String,
    },

    /// The picture is, or would become, larger than allowed. Nothing of that size was allocated.
    #[error(
        "{width} x {height} pixels are more than allowed (at most {max_side} a side and {max_pixels} in all); \
         reduce the picture, or raise the limits"
    )]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The longest side that is allowed.
        max_side: u32,
        /// The number of pixels that is allowed.
        max_pixels: u64,
    },

    /// There is not enough memory for a picture of this size.
    #[error("there is no memory for a picture of {width} x {height} pixels")]
    OutOfMemory {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// A picture has at least one pixel.
    #[error("a picture can't be {width} x {height}: both sides must be at least 1")]
    EmptySize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// The samples handed over are not `width * height * channels`.
    #[error("{width} x {height} {channels} takes {expected} samples, got {found}")]
    SampleCount {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The layout of a pixel.
        channels: Channels,
        /// `width * height * channels`.
        expected: u64,
        /// The number of samples handed over.
        found: usize,
    },

    /// The part to cut out does not lie within the picture.
    #[error(
        "a part of {width} x {height} at ({left}, {top}) does not lie within {picture_width} x {picture_height}"
    )]
    OutsidePicture {
        /// First column of the part.
        left: u32,
        /// First row of the part.
        top: u32,
        /// Width of the part.
        width: u32,
        /// Height of the part.
        height: u32,
        /// Width of the picture.
        picture_width: u32,
        /// Height of the picture.
        picture_height: u32,
    },

    /// A grid takes at least one picture and one column.
    #[error("a grid takes at least one picture and one column, got {pictures} pictures in {columns} columns")]
    EmptyGrid {
        /// Number of pictures handed over.
        pictures: usize,
        /// Number of columns asked for.
        columns: usize,
    },

    /// The pictures of a grid must be of one size and layout.
    #[error(
        "picture {index} of the grid is {} x {} {}, the first is {} x {} {}: make them alike first",
        found.0, found.1, found.2, expected.0, expected.1, expected.2
    )]
    UnlikeInGrid {
        /// Which picture, from 0.
        index: usize,
        /// Width, height and layout of the first picture.
        expected: (u32, u32, Channels),
        /// Width, height and layout of this one.
        found: (u32, u32, Channels),
    },

    /// A PNG text entry that the format does not allow.
    #[error("{keyword:?} can't be the keyword of a PNG text: {problem}")]
    TextKeyword {
        /// The keyword.
        keyword: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
}

impl PictureError {
    /// The reason alone, without the file that it concerns.
    pub fn reason(&self) -> &PictureError {
        match self {
            Self::InFile { reason, .. } => reason,
            other => other,
        }
    }

    /// The file that the error concerns, where one was named.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::InFile { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The same error, naming the file (once).
    pub(crate) fn in_file(self, path: &Path) -> PictureError {
        match self {
            named @ Self::InFile { .. } => named,
            reason => Self::InFile { path: path.to_owned(), reason: Box::new(reason) },
        }
    }
}
