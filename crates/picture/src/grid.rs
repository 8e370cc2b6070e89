//! Many pictures on one sheet.

use crate::picture::room_for;
use crate::{Picture, PictureError};

/// Lays pictures of one size and layout out in rows of `columns`, from left to right and top to bottom.
///
/// As `torchvision.utils.make_grid(pictures, nrow=columns, padding=padding)`: `padding` black pixels (transparent, where
/// there is alpha) around and between the pictures, `min(columns, pictures)` columns, and places that are left over
/// stay black. Picture `i` stands at
///
/// ```text
/// left = padding + (i mod columns) (width + padding)
/// top  = padding + (i div columns) (height + padding)
/// ```
///
/// # Errors
///
/// [`PictureError::EmptyGrid`] with no picture or no column, [`PictureError::UnlikeInGrid`] for pictures of several sizes
/// or layouts, [`PictureError::OutOfMemory`] for a sheet too large to hold.
pub fn grid(pictures: &[Picture], columns: usize, padding: u32) -> Result<Picture, PictureError> {
    let Some(first) = pictures.first().filter(|_| columns > 0) else {
        return Err(PictureError::EmptyGrid { pictures: pictures.len(), columns });
    };
    let kind = |picture: &Picture| (picture.width(), picture.height(), picture.channels());
    if let Some(index) = pictures.iter().position(|picture| kind(picture) != kind(first)) {
        return Err(PictureError::UnlikeInGrid {
            index,
            expected: kind(first),
            found: kind(&pictures[index]),
        });
    }

    let columns = columns.min(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let side = |count: usize, one: u32| {
        let side = count as u64 * (u64::from(one) + u64::from(padding)) + u64::from(padding);
        u32::try_from(side).unwrap_or(u32::MAX)
    };
    let (width, height) = (side(columns, first.width()), side(rows, first.height()));
    let channels = first.channels().count();
    let mut samples = room_for(width, height, channels)?;
    samples.resize(width as usize * height as usize * channels, 0);

    let padding = padding as usize;
    let stride = width as usize * channels;
    for (i, picture) in pictures.iter().enumerate() {
        let left = padding + (i % columns) * (picture.width() as usize + padding);
        let top = padding + (i / columns) * (picture.height() as usize + padding);
        for (y, row) in picture.samples().chunks_exact(picture.stride()).enumerate() {
            let start = (top + y) * stride + left * channels;
            samples[start..start + row.len()].copy_from_slice(row);
        }
    }
    Ok(Picture::from_parts(width, height, first.channels(), samples))
}
