//! What can be wrong with a data set.

use std::io;
use std::path::PathBuf;

use kiln_picture::PictureError;

/// Why a data set could not be read. Every message names the file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be opened or read.
    #[error("{}: can't be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// An IDX file starts with other bytes than it must.
    #[error(
        "{}: is no IDX file of {what}: it starts with {found:02x?}, not {expected:02x?} (unsigned bytes in {} dimensions)",
        path.display(), expected[3]
    )]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// "pictures" or "labels".
        what: &'static str,
        /// The four bytes that it must start with.
        expected: [u8; 4],
        /// The bytes that it starts with, at most four.
        found: Vec<u8>,
    },

    /// An IDX file ends before all that its header announces.
    #[error("{}: is cut short: {expected} bytes expected, {found} found (after unpacking, if gzipped)", path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
        /// The length that the header announces, itself included, in bytes.
        expected: u64,
        /// The length found, in bytes.
        found: u64,
    },

    /// An IDX file goes on after all that its header announces.
    #[error("{}: goes on after the {expected} bytes that its header announces", path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// The length that the header announces, itself included, in bytes.
        expected: u64,
    },

    /// An IDX header announces more bytes than can be counted.
    #[error("{}: announces {sizes:?} values, more than any file holds", path.display())]
    SizeOverflow {
        /// The file.
        path: PathBuf,
        /// The sizes in its header.
        sizes: Vec<u32>,
    },

    /// The gzip stream itself is broken.
    #[error("{}: can't be unpacked: {source}", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decoder met.
        source: io::Error,
    },

    /// Pictures and labels are not equally many.
    #[error(
        "{}: holds {labels} labels, but {} holds {pictures} pictures: they must be a pair",
        labels_path.display(), pictures_path.display()
    )]
    CountMismatch {
        /// The file of pictures.
        pictures_path: PathBuf,
        /// How many pictures it holds.
        pictures: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// How many labels it holds.
        labels: usize,
    },

    /// A folder holds neither an IDX pair of the split asked for nor pictures.
    #[error(
        "{}: holds neither PNG, JPEG or WebP pictures (directly, or in one subfolder a class) nor {idx} (or {idx}.gz)",
        path.display()
    )]
    NothingFound {
        /// The folder.
        path: PathBuf,
        /// The name of the IDX file that was looked for.
        idx: String,
    },

    /// A data set of no pictures, or of pictures without pixels.
    #[error("{}: holds no pictures", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },

    /// A folder holds pictures beside subfolders of pictures, so that their class is not clear.
    #[error(
        "{}: holds pictures beside the subfolder {class:?} of pictures: put them all into subfolders, one a class, or none",
        path.display()
    )]
    MixedFolder {
        /// The folder.
        path: PathBuf,
        /// A subfolder that holds pictures.
        class: String,
    },

    /// A class without pictures: left in, nothing could be learnt of it; left out, the other classes would change number.
    #[error("{}: holds no pictures, but the subfolders beside it do: fill it or remove it", path.display())]
    EmptyClass {
        /// The subfolder.
        path: PathBuf,
    },

    /// Pictures of a folder could not be decoded.
    #[error("{first} ({broken} of {total} pictures are broken: mend or remove them)")]
    BrokenPictures {
        /// What is wrong with the first of them, in the order of their names; it names the file.
        first: PictureError,
        /// How many are broken.
        broken: usize,
        /// How many there are.
        total: usize,
    },

    /// The data set does not fit into memory.
    #[error("{}: {pictures} pictures of {bytes} bytes each do not fit into memory", path.display())]
    OutOfMemory {
        /// The file or folder.
        path: PathBuf,
        /// How many pictures.
        pictures: usize,
        /// Bytes a picture.
        bytes: u64,
    },

    /// Pictures of a folder can't be made this large.
    #[error("pictures can't be made {size} x {size}: 1 to 16384 a side")]
    Size {
        /// The side asked for.
        size: u32,
    },

    /// A data set in memory whose parts do not fit together.
    #[error("a data set of {shape:?} (pictures, channels, height, width) does not go with {what}")]
    Inconsistent {
        /// `[count, channels, height, width]`.
        shape: [usize; 4],
        /// What does not fit it.
        what: String,
    },
}
