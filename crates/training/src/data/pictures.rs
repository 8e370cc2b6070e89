//! A data set of pictures of one size, in memory.

use std::path::Path;

use kiln_picture::{Channels, Picture};

use super::{DataError, FolderOptions, Split, idx};

/// How [`Pictures::open`] reads what it finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Which half of an IDX data set; a folder of pictures has none.
    pub split: Split,
    /// What to make of a folder of pictures; IDX pictures keep their size.
    pub folder: FolderOptions,
}

/// Pictures of one size as bytes, `[count, channels, height, width]`, with or without labels.
///
/// There is at least one picture, of at least one pixel and 1 to 4 channels (grey, grey and alpha, RGB, RGBA).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    shape: [usize; 4],
    samples: Vec<u8>,
    labels: Option<Labels>,
}

/// One class a picture, and the name of each class.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Labels {
    of_pictures: Vec<u32>,
    class_names: Vec<String>,
}

/// Some pictures of a data set, ready to become a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch, channels, height, width]`.
    pub shape: [usize; 4],
    /// `x / 127.5 - 1` for each byte `x`, in the order of `shape`: black is -1, white 1.
    pub pixels: Vec<f32>,
    /// The class of each picture, if the data set has labels.
    pub labels: Option<Vec<u32>>,
}

impl Pictures {
    /// A data set from its bytes, `[count, channels, height, width]`, without labels.
    ///
    /// # Errors
    ///
    /// [`DataError::Inconsistent`] when a size is 0, when there are more than 4 channels, or when `samples` has another
    /// length than `shape` says.
    pub fn new(shape: [usize; 4], samples: Vec<u8>) -> Result<Self, DataError> {
        let length = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        if length != Some(samples.len()) {
            let what = format!("{} samples", samples.len());
            return Err(DataError::Inconsistent { shape, what });
        }
        if samples.is_empty() || shape[1] > 4 || shape.iter().any(|&size| u32::try_from(size).is_err()) {
            let what = "a data set: every size must be at least 1, and channels at most 4".to_owned();
            return Err(DataError::Inconsistent { shape, what });
        }
        Ok(Self { shape, samples, labels: None })
    }

    /// The same pictures with one label each; label `i` is the class `class_names[i]`.
    ///
    /// # Errors
    ///
    /// [`DataError::Inconsistent`] when labels and pictures are not equally many, or a label has no class.
    pub fn with_labels(mut self, labels: Vec<u32>, class_names: Vec<String>) -> Result<Self, DataError> {
        if labels.len() != self.len() {
            let what = format!("{} labels", labels.len());
            return Err(DataError::Inconsistent { shape: self.shape, what });
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= class_names.len()) {
            let what = format!("a label {label} for {} classes", class_names.len());
            return Err(DataError::Inconsistent { shape: self.shape, what });
        }
        self.labels = Some(Labels { of_pictures: labels, class_names });
        Ok(self)
    }

    /// Reads whichever data set `path` is: a file is IDX; a folder is IDX if it holds the file of pictures of the split
    /// ([`Pictures::idx`]), and a folder of pictures otherwise ([`Pictures::folder`]).
    ///
    /// # Errors
    ///
    /// Those of the two, and [`DataError::NothingFound`] for a folder that is neither.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        let metadata =
            std::fs::metadata(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        if !metadata.is_dir() || idx::is_idx_folder(path, options.split) {
            return Self::idx(path, options.split);
        }
        Self::folder(path, &options.folder).map_err(|error| match error {
            DataError::Empty { path } => {
                DataError::NothingFound { path, idx: options.split.pictures_file().to_owned() }
            }
            error => error,
        })
    }

    /// How many pictures; at least one.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Always false: a data set has at least one picture.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// `[count, channels, height, width]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Channels of a picture, 1 to 4.
    pub fn channels(&self) -> usize {
        self.shape[1]
    }

    /// Height of a picture in pixels.
    pub fn height(&self) -> usize {
        self.shape[2]
    }

    /// Width of a picture in pixels.
    pub fn width(&self) -> usize {
        self.shape[3]
    }

    /// The class of each picture, if known.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_ref().map(|labels| labels.of_pictures.as_slice())
    }

    /// The name of each class: the subfolders' names, or the digits of the label for IDX. Empty without labels.
    pub fn class_names(&self) -> &[String] {
        self.labels.as_ref().map_or(&[], |labels| labels.class_names.as_slice())
    }

    /// The bytes of one picture, `[channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If there is no picture `index`.
    pub fn sample(&self, index: usize) -> &[u8] {
        assert!(index < self.len(), "picture {index} of a data set of {}", self.len());
        let length = self.samples.len() / self.len();
        &self.samples[index * length..][..length]
    }

    /// One picture, to look at.
    ///
    /// # Panics
    ///
    /// If there is no picture `index`.
    pub fn picture(&self, index: usize) -> Picture {
        let planes = self.sample(index);
        let [_, count, height, width] = self.shape;
        let channels = match count {
            1 => Channels::Grey,
            2 => Channels::GreyAlpha,
            3 => Channels::Rgb,
            _ => Channels::Rgba,
        };
        let area = height * width;
        let samples = (0..area).flat_map(|at| planes[at..].iter().step_by(area).copied()).collect();
        Picture::new(width as u32, height as u32, channels, samples)
            .expect("sizes are checked by Pictures::new")
    }

    /// The pictures of these indices (in this order, repeats allowed) as `f32` in -1..1, with their labels.
    ///
    /// # Panics
    ///
    /// If there is no picture of one of the indices.
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let [_, channels, height, width] = self.shape;
        let mut pixels = Vec::with_capacity(indices.len() * channels * height * width);
        for &index in indices {
            pixels.extend(self.sample(index).iter().map(|&sample| f32::from(sample) / 127.5 - 1.0));
        }
        let labels = self.labels().map(|labels| indices.iter().map(|&index| labels[index]).collect());
        Batch { shape: [indices.len(), channels, height, width], pixels, labels }
    }
}
