//! A folder of pictures: all directly in it, or one subfolder a class.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_picture::{Channels, Filter, Picture, PictureError};
use rayon::prelude::*;

use super::{DataError, Pictures};

/// What to make of the pictures of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderOptions {
    /// Width and height in pixels that every picture is brought to, 1 to 16,384: the shorter side is resized to it and the
    /// middle cut out ([`Picture::cover`]).
    pub size: u32,
    /// The layout that every picture is brought to ([`Picture::convert`]).
    pub channels: Channels,
    /// The filter of the resizing.
    pub filter: Filter,
}

impl Default for FolderOptions {
    /// RGB, 64 x 64, bicubic.
    fn default() -> Self {
        Self { size: 64, channels: Channels::Rgb, filter: Filter::Bicubic }
    }
}

/// Names of files that are taken for pictures, in any case of letters.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

impl Pictures {
    /// Reads a folder of PNG, JPEG and WebP files (by their extension), decoded in parallel.
    ///
    /// Pictures directly in the folder have no label; in subfolders, each subfolder is a class. Classes and pictures are
    /// sorted by name, so that the order is the same everywhere. Other files, and whatever starts with a dot, are passed
    /// over; folders deeper down are not looked into.
    ///
    /// # Errors
    ///
    /// [`DataError::BrokenPictures`] with the first broken picture and how many there are; [`DataError::Read`],
    /// [`DataError::Empty`], [`DataError::EmptyClass`], [`DataError::MixedFolder`], [`DataError::OutOfMemory`],
    /// [`DataError::Size`].
    pub fn folder(path: impl AsRef<Path>, options: &FolderOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        let size = options.size;
        if !(1..=16_384).contains(&size) {
            return Err(DataError::Size { size });
        }
        let Found { files, labels, class_names } = find(path)?;

        let area = size as usize * size as usize;
        let bytes = area * options.channels.count();
        let mut samples: Vec<u8> = Vec::new();
        let room =
            files.len().checked_mul(bytes).and_then(|all| samples.try_reserve_exact(all).ok().map(|()| all));
        let Some(room) = room else {
            return Err(DataError::OutOfMemory {
                path: path.to_owned(),
                pictures: files.len(),
                bytes: bytes as u64,
            });
        };
        samples.resize(room, 0);

        let broken: Vec<PictureError> = samples
            .par_chunks_exact_mut(bytes)
            .zip(&files)
            .filter_map(|(planes, file)| read(file, options, planes).err())
            .collect();
        let count = broken.len();
        if let Some(first) = broken.into_iter().next() {
            return Err(DataError::BrokenPictures { first, broken: count, total: files.len() });
        }

        let shape = [files.len(), options.channels.count(), size as usize, size as usize];
        let pictures = Pictures::new(shape, samples)?;
        if class_names.is_empty() { Ok(pictures) } else { pictures.with_labels(labels, class_names) }
    }
}

/// Decodes one file into its place, `[channels, height, width]`.
fn read(file: &Path, options: &FolderOptions, planes: &mut [u8]) -> Result<(), PictureError> {
    let FolderOptions { size, channels, filter } = *options;
    let picture = Picture::open(file)?.convert(channels).cover(size, size, filter).map_err(|reason| {
        // What goes wrong after decoding does not know the file yet.
        PictureError::InFile { path: file.to_owned(), reason: Box::new(reason) }
    })?;
    let area = size as usize * size as usize;
    for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
        for (to, pixel) in plane.iter_mut().zip(picture.samples().chunks_exact(channels.count())) {
            *to = pixel[channel];
        }
    }
    Ok(())
}

/// The pictures of a folder in their order; without classes, `labels` and `class_names` are empty.
struct Found {
    files: Vec<PathBuf>,
    labels: Vec<u32>,
    class_names: Vec<String>,
}

fn find(path: &Path) -> Result<Found, DataError> {
    let top = list(path)?;
    let classes: Vec<(PathBuf, Vec<PathBuf>)> = top
        .folders
        .into_iter()
        .map(|folder| list(&folder).map(|listing| (folder, listing.pictures)))
        .collect::<Result<_, _>>()?;
    let filled = classes.iter().find(|(_, pictures)| !pictures.is_empty());

    match (filled, top.pictures.is_empty()) {
        (None, true) => Err(DataError::Empty { path: path.to_owned() }),
        (None, false) => Ok(Found { files: top.pictures, labels: Vec::new(), class_names: Vec::new() }),
        (Some((folder, _)), false) => {
            Err(DataError::MixedFolder { path: path.to_owned(), class: name(folder) })
        }
        (Some(_), true) => {
            let mut found = Found { files: Vec::new(), labels: Vec::new(), class_names: Vec::new() };
            for (class, (folder, pictures)) in (0_u32..).zip(classes) {
                if pictures.is_empty() {
                    return Err(DataError::EmptyClass { path: folder });
                }
                found.labels.extend(std::iter::repeat_n(class, pictures.len()));
                found.files.extend(pictures);
                found.class_names.push(name(&folder));
            }
            Ok(found)
        }
    }
}

struct Listing {
    pictures: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

/// The pictures and the subfolders of a folder, each sorted by name.
fn list(folder: &Path) -> Result<Listing, DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut listing = Listing { pictures: Vec::new(), folders: Vec::new() };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if name(&path).starts_with('.') {
            continue;
        }
        // Through links: a data set is often a folder of links into another one.
        if path.is_dir() {
            listing.folders.push(path);
        } else if has_picture_extension(&path) {
            listing.pictures.push(path);
        }
    }
    listing.pictures.sort();
    listing.folders.sort();
    Ok(listing)
}

fn has_picture_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
