//! What is wrong with a data set, before hours are spent on it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::dataset::Dataset;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Two pictures, objects or classes of one number.
    Twice {
        /// `image`, `annotation` or `category`.
        what: &'static str,
        /// The number.
        id: u64,
    },
    /// An object in a picture that there is not.
    NoImage {
        /// The object.
        annotation: u64,
        /// Its picture.
        image: u64,
    },
    /// An object of a class that there is not.
    NoCategory {
        /// The object.
        annotation: u64,
        /// Its class.
        category: u64,
    },
    /// An object whose class is beyond those that a network counts.
    BeyondClasses {
        /// The object.
        annotation: u64,
        /// Its class.
        category: u64,
        /// How many the network has.
        classes: u64,
    },
    /// A box without width or height, or with what is no number.
    EmptyBox {
        /// The object.
        annotation: u64,
        /// Its box.
        bbox: [f64; 4],
    },
    /// A box that is not within its picture.
    OutOfPicture {
        /// The object.
        annotation: u64,
        /// Its box.
        bbox: [f64; 4],
        /// Width and height of the picture.
        sides: [u32; 2],
    },
    /// A mask that can't be read.
    Mask {
        /// The object.
        annotation: u64,
        /// Why not.
        reason: String,
    },
    /// A file that is not there.
    NoFile {
        /// The picture.
        image: u64,
        /// Its file.
        file_name: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { what, id } => write!(f, "{what} {id} is there twice"),
            Self::NoImage { annotation, image } => {
                write!(f, "annotation {annotation} is in image {image}, which is not there")
            }
            Self::NoCategory { annotation, category } => {
                write!(f, "annotation {annotation} is of category {category}, which is not there")
            }
            Self::BeyondClasses { annotation, category, classes } => {
                write!(
                    f,
                    "annotation {annotation} is of category {category}, and the network has {classes} classes from 0"
                )
            }
            Self::EmptyBox { annotation, bbox } => {
                write!(f, "annotation {annotation} has the empty box {bbox:?}")
            }
            Self::OutOfPicture { annotation, bbox, sides: [width, height] } => {
                write!(f, "annotation {annotation} has the box {bbox:?} in a picture of {width} x {height}")
            }
            Self::Mask { annotation, reason } => write!(f, "the mask of annotation {annotation}: {reason}"),
            Self::NoFile { image, file_name } => {
                write!(f, "image {image} is in {file_name:?}, which is not there")
            }
        }
    }
}

/// All that is wrong with `data`. With `classes`, class numbers must be below it; with `folder`, the pictures must be there.
/// Boxes may stick out by a pixel, as COCO's own do.
#[must_use]
pub fn lint(data: &Dataset, classes: Option<u64>, folder: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unique = |what, ids: &mut dyn Iterator<Item = u64>| {
        let mut seen = BTreeSet::new();
        for id in ids {
            if !seen.insert(id) {
                findings.push(Finding::Twice { what, id });
            }
        }
        seen
    };
    unique("image", &mut data.images.iter().map(|image| image.id));
    unique("annotation", &mut data.annotations.iter().map(|annotation| annotation.id));
    let categories = unique("category", &mut data.categories.iter().map(|category| category.id));
    let images: std::collections::BTreeMap<_, _> =
        data.images.iter().map(|image| (image.id, image)).collect();
    for annotation in &data.annotations {
        let (id, category, bbox) = (annotation.id, annotation.category_id, annotation.bbox);
        if !categories.contains(&category) {
            findings.push(Finding::NoCategory { annotation: id, category });
        }
        if let Some(classes) = classes
            && category >= classes
        {
            findings.push(Finding::BeyondClasses { annotation: id, category, classes });
        }
        let [left, top, width, height] = bbox;
        // A comparison with what is no number is false.
        if !(width > 0.0 && height > 0.0 && bbox.iter().all(|side| side.is_finite())) {
            findings.push(Finding::EmptyBox { annotation: id, bbox });
        }
        let Some(image) = images.get(&annotation.image_id) else {
            findings.push(Finding::NoImage { annotation: id, image: annotation.image_id });
            continue;
        };
        let sides = [image.width, image.height];
        let [right, bottom] = sides.map(|side| f64::from(side) + 1.0);
        if left < -1.0 || top < -1.0 || left + width > right || top + height > bottom {
            findings.push(Finding::OutOfPicture { annotation: id, bbox, sides });
        }
        if let Some(Err(error)) =
            annotation.segmentation.as_ref().map(|mask| mask.to_rle(image.height, image.width))
        {
            findings.push(Finding::Mask { annotation: id, reason: error.to_string() });
        }
    }
    if let Some(folder) = folder {
        for image in &data.images {
            if !folder.join(&image.file_name).is_file() {
                findings.push(Finding::NoFile { image: image.id, file_name: image.file_name.clone() });
            }
        }
    }
    findings
}
