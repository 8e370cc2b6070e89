//! A data set with its pictures, ready to be learnt from or looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_picture::{Channels, Picture, PictureError};
use thiserror::Error;

use super::{Annotation, CocoError, Dataset, Finding, lint};
use crate::training::{Object, Sample};

/// A data set's file, and the folder that its pictures are in.
#[derive(Clone, Debug)]
pub struct CocoFolder {
    data: Dataset,
    pictures: PathBuf,
    /// For each picture the places of its objects.
    objects: Vec<Vec<usize>>,
}

/// A data set that can't be learnt from.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Its file can't be read.
    #[error(transparent)]
    File(#[from] CocoError),
    /// The linter found something.
    #[error("{file}: {finding}{}", more(*.others))]
    Lint {
        /// Its file.
        file: String,
        /// What was found first.
        finding: Finding,
        /// How much more was found.
        others: usize,
    },
    /// There are no pictures in it.
    #[error("{file} names no pictures")]
    Empty {
        /// Its file.
        file: String,
    },
    /// A picture has another size than the file says.
    #[error("image {image} is of {} x {} pixels in {file}, and its file of {} x {}", said[0], said[1], found[0], found[1])]
    Size {
        /// Its file.
        file: String,
        /// The picture.
        image: u64,
        /// Width and height in the data set's file.
        said: [u32; 2],
        /// Those of the picture.
        found: [u32; 2],
    },
    /// A picture can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more)") }
}

impl CocoFolder {
    /// The folder that holds `annotations.json` and, in `images`, its pictures. With `classes`, numbers of classes must be below it.
    ///
    /// # Errors
    ///
    /// As [`with_pictures`](Self::with_pictures).
    pub fn open(folder: impl AsRef<Path>, classes: Option<u64>) -> Result<Self, FolderError> {
        let folder = folder.as_ref();
        Self::with_pictures(folder.join("annotations.json"), folder.join("images"), classes)
    }

    /// The data set of a file, and the folder of its pictures.
    ///
    /// # Errors
    ///
    /// [`FolderError::File`]; [`FolderError::Lint`] with the first that [`lint`] finds; [`FolderError::Empty`].
    pub fn with_pictures(
        file: impl AsRef<Path>,
        pictures: impl Into<PathBuf>,
        classes: Option<u64>,
    ) -> Result<Self, FolderError> {
        let (file, pictures) = (file.as_ref(), pictures.into());
        let data = Dataset::open(file)?;
        let file = file.display().to_string();
        let mut findings = lint(&data, classes, Some(&pictures));
        if !findings.is_empty() {
            let finding = findings.swap_remove(0);
            return Err(FolderError::Lint { file, finding, others: findings.len() });
        }
        if data.images.is_empty() {
            return Err(FolderError::Empty { file });
        }
        let places: BTreeMap<u64, usize> =
            data.images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
        let mut objects = vec![Vec::new(); data.images.len()];
        for (place, annotation) in data.annotations.iter().enumerate() {
            objects[places[&annotation.image_id]].push(place);
        }
        Ok(Self { data, pictures, objects })
    }

    /// What its file says.
    #[must_use]
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// How many classes a network needs whose classes are the data set's numbers: the largest of them and 1, as the published
    /// networks count them.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.data.categories.iter().map(|category| category.id as usize + 1).max().unwrap_or(0)
    }

    /// Objects, crowds left out, that have no mask to learn from.
    #[must_use]
    pub fn without_masks(&self) -> Vec<u64> {
        let objects = self.data.annotations.iter().filter(|annotation| annotation.iscrowd == 0);
        objects
            .filter(|annotation| annotation.segmentation.is_none())
            .map(|annotation| annotation.id)
            .collect()
    }

    /// How many pictures there are; at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.data.images.len()
    }

    /// A picture in colours, and its objects, crowds left out, masks where `masks` says so.
    ///
    /// # Errors
    ///
    /// [`FolderError::Picture`], [`FolderError::Size`], and [`FolderError::File`] where a mask can't be read.
    ///
    /// # Panics
    ///
    /// If there are not so many pictures.
    pub fn sample(&self, index: usize, masks: Masks) -> Result<Sample, FolderError> {
        let image = &self.data.images[index];
        let path = self.pictures.join(&image.file_name);
        let picture = Picture::open(&path)?.convert(Channels::Rgb);
        let found = [picture.width(), picture.height()];
        let said = [image.width, image.height];
        if found != said {
            return Err(FolderError::Size { file: path.display().to_string(), image: image.id, said, found });
        }
        let annotations = self.objects[index].iter().map(|&place| &self.data.annotations[place]);
        let objects = annotations.filter(|annotation| annotation.iscrowd == 0).map(|annotation| {
            let [left, top, width, height] = annotation.bbox.map(|side| side as f32);
            let (w, h) = (image.width as f32, image.height as f32);
            let corners = [
                left.clamp(0.0, w),
                top.clamp(0.0, h),
                (left + width).clamp(0.0, w),
                (top + height).clamp(0.0, h),
            ];
            let mask = match masks {
                Masks::Left => None,
                Masks::Read => Some(mask(annotation, said)?),
            };
            Ok(Object { class: annotation.category_id as usize, corners, mask })
        });
        Ok(Sample { objects: objects.collect::<Result<_, CocoError>>()?, picture })
    }
}

/// Whether masks are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masks {
    /// They are not.
    #[default]
    Left,
    /// They are; an object without one has its box.
    Read,
}

fn mask(annotation: &Annotation, [width, height]: [u32; 2]) -> Result<Vec<bool>, CocoError> {
    let fail = |source| CocoError::Mask { what: format!("annotation {}", annotation.id), source };
    let Some(segmentation) = &annotation.segmentation else {
        let [left, top, w, h] = annotation.bbox;
        let inside = |place: usize| {
            let (x, y) = ((place % width as usize) as f64 + 0.5, (place / width as usize) as f64 + 0.5);
            x >= left && x < left + w && y >= top && y < top + h
        };
        return Ok((0..width as usize * height as usize).map(inside).collect());
    };
    Ok(segmentation.to_rle(height, width).map_err(fail)?.decode())
}
