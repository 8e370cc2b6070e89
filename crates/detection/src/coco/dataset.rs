//! The files: `instances_*.json` and results.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::rle::{Rle, RleError};

/// A picture of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its number.
    pub id: u64,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// Its file, within the folder of pictures.
    #[serde(default)]
    pub file_name: String,
}

/// A class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// Its number, which need not count on.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// In panoptic data: 1 for what can be counted, 0 for what can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isthing: Option<u8>,
}

/// Where an object is, pixel by pixel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segmentation {
    /// Outlines, each x, y, x, y, ... in pixels.
    Polygons(Vec<Vec<f64>>),
    /// Lengths of runs as text.
    Compressed {
        /// Height, width.
        size: [u32; 2],
        /// The runs.
        counts: String,
    },
    /// Lengths of runs as numbers.
    Uncompressed {
        /// Height, width.
        size: [u32; 2],
        /// The runs.
        counts: Vec<u32>,
    },
}

impl Segmentation {
    /// The mask of a picture of `height` x `width`.
    ///
    /// # Errors
    ///
    /// [`RleError`], if an outline has no three points or a number that is none, or runs do not fill their size.
    pub fn to_rle(&self, height: u32, width: u32) -> Result<Rle, RleError> {
        match self {
            Self::Polygons(polygons) => Rle::from_polygons(polygons, height, width),
            Self::Compressed { size: [height, width], counts } => Rle::from_text(counts, *height, *width),
            Self::Uncompressed { size: [height, width], counts } => Rle::new(counts.clone(), *height, *width),
        }
    }
}

impl From<&Rle> for Segmentation {
    fn from(rle: &Rle) -> Self {
        Self::Compressed { size: [rle.height(), rle.width()], counts: rle.to_text() }
    }
}

/// An object of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Its number.
    #[serde(default)]
    pub id: u64,
    /// Its picture.
    pub image_id: u64,
    /// Its class.
    pub category_id: u64,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// Its pixels; width times height if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<f64>,
    /// 1 for a crowd, which counts neither for nor against a detector.
    #[serde(default)]
    pub iscrowd: u8,
    /// Its pixels one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Segmentation>,
}

impl Annotation {
    /// Its pixels.
    #[must_use]
    pub fn area(&self) -> f64 {
        self.area.unwrap_or(self.bbox[2] * self.bbox[3])
    }
}

/// A data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its pictures.
    pub images: Vec<Image>,
    /// Its objects.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    /// Its classes.
    #[serde(default)]
    pub categories: Vec<Category>,
}

/// What a detector found, in COCO's result format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The picture.
    pub image_id: u64,
    /// The class.
    pub category_id: u64,
    /// Left, top, width, height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[f64; 4]>,
    /// The mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Segmentation>,
    /// How sure the detector is, from 0 to 1.
    pub score: f64,
}

/// A file that is none of COCO's, or contradicts itself.
#[derive(Debug, Error)]
pub enum CocoError {
    /// The file can't be read.
    #[error("{file} can't be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not what COCO writes.
    #[error("{what}: {source}")]
    Json {
        /// What was expected, or the file.
        what: String,
        /// Where and why not.
        source: serde_json::Error,
    },
    /// A mask can't be used.
    #[error("the mask of {what}: {source}")]
    Mask {
        /// Whose.
        what: String,
        /// Why.
        source: RleError,
    },
    /// Something refers to what is not there, or is given twice.
    #[error("{0}")]
    Inconsistent(String),
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CocoError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| CocoError::Read { file: file.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| CocoError::Json { what: file, source })
}

impl Dataset {
    /// Read a data set's file.
    ///
    /// # Errors
    ///
    /// [`CocoError::Read`] and [`CocoError::Json`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CocoError> {
        read(path.as_ref())
    }

    /// Read a data set's text.
    ///
    /// # Errors
    ///
    /// [`CocoError::Json`].
    pub fn from_json(text: &str) -> Result<Self, CocoError> {
        serde_json::from_str(text)
            .map_err(|source| CocoError::Json { what: "the data set".to_owned(), source })
    }

    /// The objects of each picture, pictures without any too.
    #[must_use]
    pub fn by_image(&self) -> BTreeMap<u64, Vec<&Annotation>> {
        let mut objects: BTreeMap<u64, Vec<&Annotation>> =
            self.images.iter().map(|image| (image.id, Vec::new())).collect();
        for annotation in &self.annotations {
            objects.entry(annotation.image_id).or_default().push(annotation);
        }
        objects
    }
}

/// Read a file of results: a list of [`Detection`].
///
/// # Errors
///
/// [`CocoError::Read`] and [`CocoError::Json`].
pub fn detections(path: impl AsRef<Path>) -> Result<Vec<Detection>, CocoError> {
    read(path.as_ref())
}
