//! IDX, the format of MNIST: a magic number, the sizes, the bytes.
//!
//! ```text
//! 00 00 08 03   unsigned bytes in three dimensions (labels: 00 00 08 01, one dimension)
//! count, height, width   u32 each, most significant byte first (labels: count)
//! the values, the last dimension fastest
//! ```
//!
//! Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats". Gzip is told by its first bytes,
//! not by the file's name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{DataError, Pictures};

/// Which half of a data set, by the prefix of MNIST's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Split {
    /// What to learn from: `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`.
    #[default]
    Train,
    /// What was held out: `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`.
    Test,
}

impl Split {
    /// The name of the file of pictures, without `.gz`.
    pub(super) fn pictures_file(self) -> &'static str {
        match self {
            Self::Train => "train-images-idx3-ubyte",
            Self::Test => "t10k-images-idx3-ubyte",
        }
    }
}

const PICTURES: [u8; 4] = [0, 0, 8, 3];
const LABELS: [u8; 4] = [0, 0, 8, 1];

impl Pictures {
    /// Reads an IDX data set: grey pictures of unsigned bytes, and their labels if there are any.
    ///
    /// `path` is a folder with MNIST's file names (of this `split`), or the file of pictures itself (whatever `split`
    /// says). Labels are looked for beside it, under the same name with `labels` for `images` and `idx1` for `idx3`, with
    /// or without `.gz`; where there are none, the data set has no labels. The classes are 0 to the largest label, named
    /// by their digits.
    ///
    /// No more memory is taken than the files hold, whatever their headers announce.
    ///
    /// # Errors
    ///
    /// [`DataError::Read`], [`DataError::WrongMagic`], [`DataError::CutShort`], [`DataError::TrailingBytes`],
    /// [`DataError::SizeOverflow`], [`DataError::Gzip`], [`DataError::CountMismatch`], [`DataError::NothingFound`],
    /// [`DataError::Empty`].
    pub fn idx(path: impl AsRef<Path>, split: Split) -> Result<Self, DataError> {
        let path = path.as_ref();
        let file = if path.is_dir() {
            find(path, split.pictures_file()).ok_or_else(|| DataError::NothingFound {
                path: path.to_owned(),
                idx: split.pictures_file().to_owned(),
            })?
        } else {
            path.to_owned()
        };
        let ([count, height, width], samples) = read(&file, PICTURES, "pictures")?;
        if samples.is_empty() {
            return Err(DataError::Empty { path: file });
        }
        let pictures = Pictures::new([count, 1, height, width], samples)?;

        let Some(labels_file) = labels_beside(&file) else { return Ok(pictures) };
        let ([labels], values) = read(&labels_file, LABELS, "labels")?;
        if labels != count {
            return Err(DataError::CountMismatch {
                pictures_path: file,
                pictures: count,
                labels_path: labels_file,
                labels,
            });
        }
        let classes = values.iter().max().map_or(0, |&label| u32::from(label) + 1);
        let class_names = (0..classes).map(|class| class.to_string()).collect();
        pictures.with_labels(values.into_iter().map(u32::from).collect(), class_names)
    }
}

/// Whether a folder holds the file of pictures of this split.
pub(super) fn is_idx_folder(folder: &Path, split: Split) -> bool {
    find(folder, split.pictures_file()).is_some()
}

/// A file of this name in the folder, plain or gzipped, under either of the two spellings in use
/// (`…-idx3-ubyte`, `….idx3-ubyte`).
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let dotted = name.replace("-idx", ".idx");
    [name.to_owned(), format!("{name}.gz"), format!("{dotted}.gz"), dotted]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

/// The labels of a file of pictures, if they lie beside it under the usual name.
fn labels_beside(pictures: &Path) -> Option<PathBuf> {
    let name = pictures.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    if !name.contains("images") {
        return None;
    }
    let folder = pictures.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    find(folder, &name.replace("images", "labels").replace("idx3", "idx1"))
}

/// The sizes and the values of an IDX file of `D` dimensions.
fn read<const D: usize>(
    path: &Path,
    magic: [u8; 4],
    what: &'static str,
) -> Result<([usize; D], Vec<u8>), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let gzipped = file.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
    let mut source: Box<dyn Read> =
        if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    // What is missing of a gzip stream that ends early; what it gave before tells how much is missing of the data.
    let mut ended_early = None;
    let mut take = |limit: u64| -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        match source.as_mut().take(limit).read_to_end(&mut bytes) {
            Err(error) if gzipped && error.kind() == io::ErrorKind::UnexpectedEof => {
                ended_early = Some(error);
            }
            Err(source) if gzipped => return Err(DataError::Gzip { path: path.to_owned(), source }),
            Err(error) => return Err(unreadable(error)),
            Ok(_) => {}
        }
        Ok(bytes)
    };

    let header = 4 + 4 * D as u64;
    let head = take(header)?;
    if !head.starts_with(&magic) {
        let found = head.into_iter().take(4).collect();
        return Err(DataError::WrongMagic { path: path.to_owned(), what, expected: magic, found });
    }
    if (head.len() as u64) < header {
        return Err(DataError::CutShort {
            path: path.to_owned(),
            expected: header,
            found: head.len() as u64,
        });
    }
    let (sizes, _) = head[4..].as_chunks::<4>();
    let sizes: [u32; D] = std::array::from_fn(|i| u32::from_be_bytes(sizes[i]));
    let values = sizes.iter().try_fold(1_u64, |product, &size| product.checked_mul(size.into()));
    let expected = values
        .and_then(|values| values.checked_add(header))
        .filter(|&expected| isize::try_from(expected).is_ok())
        .ok_or_else(|| DataError::SizeOverflow { path: path.to_owned(), sizes: sizes.to_vec() })?;

    // The buffer grows with what comes, not with what the header announces. One byte more tells of a longer file.
    let mut values = take(expected - header + 1)?;
    let found = header + values.len() as u64;
    if found < expected {
        return Err(DataError::CutShort { path: path.to_owned(), expected, found });
    }
    if found > expected {
        return Err(DataError::TrailingBytes { path: path.to_owned(), expected });
    }
    // All values are there, but not the checksum that vouches for them.
    if let Some(source) = ended_early {
        return Err(DataError::Gzip { path: path.to_owned(), source });
    }
    values.shrink_to_fit();
    Ok((sizes.map(|size| size as usize), values))
}
