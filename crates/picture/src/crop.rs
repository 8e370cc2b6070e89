//! Parts of a picture, and pictures that fill a frame.

use crate::picture::room_for;
use crate::{Filter, Picture, PictureError};

impl Picture {
    /// The part of `width` x `height` pixels whose upper left pixel is at (`left`, `top`).
    ///
    /// # Errors
    ///
    /// [`PictureError::EmptySize`] when a side is 0, [`PictureError::OutsidePicture`] when the part reaches beyond the
    /// picture.
    pub fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Result<Picture, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::EmptySize { width, height });
        }
        let within =
            |from: u32, length: u32, side: u32| from.checked_add(length).is_some_and(|end| end <= side);
        if !within(left, width, self.width()) || !within(top, height, self.height()) {
            return Err(PictureError::OutsidePicture {
                left,
                top,
                width,
                height,
                picture_width: self.width(),
                picture_height: self.height(),
            });
        }
        let channels = self.channels().count();
        let mut samples = room_for(width, height, channels)?;
        let rows = self.samples().chunks_exact(self.stride()).skip(top as usize).take(height as usize);
        for row in rows {
            samples.extend_from_slice(&row[left as usize * channels..][..width as usize * channels]);
        }
        Ok(Picture::from_parts(width, height, self.channels(), samples))
    }

    /// Fills a frame of `width` x `height`: resized until the frame is just covered, and the middle cut out. Proportions
    /// are kept.
    ///
    /// For a square frame this is torchvision's `CenterCrop(n)` after `Resize(n)`: the shorter side becomes `n`, the
    /// longer one `n long / short` rounded down, and half of what is too much is cut off before the middle, an odd pixel
    /// by rounding half to even. Only the part that remains is computed.
    ///
    /// # Errors
    ///
    /// [`PictureError::EmptySize`] when a side is 0, [`PictureError::OutOfMemory`] when the result can't be held.
    pub fn cover(&self, width: u32, height: u32, filter: Filter) -> Result<Picture, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::EmptySize { width, height });
        }
        let scaled = |side: u32, to: u32, from: u32| {
            let side = u64::from(side) * u64::from(to) / u64::from(from);
            u32::try_from(side).map_err(|_| PictureError::OutOfMemory { width, height })
        };
        let wide = u64::from(self.width()) * u64::from(height) >= u64::from(self.height()) * u64::from(width);
        let (full_width, full_height) = if wide {
            (scaled(self.width(), height, self.height())?, height)
        } else {
            (width, scaled(self.height(), width, self.width())?)
        };
        let left = half_to_even(full_width - width);
        let top = half_to_even(full_height - height);
        self.resize_part((full_width, full_height), left..left + width, top..top + height, filter)
    }
}

/// `round(n / 2)` as Python rounds: 0, 0, 1, 2, 2, 2, 3, 4, …
fn half_to_even(n: u32) -> u32 {
    n / 2 + (n % 2) * (n / 2 % 2)
}
