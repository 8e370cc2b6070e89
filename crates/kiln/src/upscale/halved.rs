//! A picture that comes in bands of rows, twice as large as it is wanted, reduced as they come: what Lanczos' filter makes of
//! the whole, without the whole.
//!
//! An output row looks at the twelve rows about it. So each window of rows is reduced with some more to either side, whose
//! own outputs, cut short by the window, are left out.

use kiln::picture::{Channels, Filter, Picture, PictureError};

/// Rows to either side of a window: more than the filter's reach of 6, and even.
const MARGIN: usize = 8;
const CHANNELS: usize = 3;

/// What has come, and what was made of it.
pub struct Halved {
    /// Of the large picture.
    width: usize,
    height: usize,
    /// Rows of the large picture from row `first` on.
    rows: Vec<u8>,
    first: usize,
    done: usize,
    out: Vec<u8>,
}

impl Halved {
    /// For a picture in colour that will be `width` x `height`, which is even, and half as large once reduced.
    pub fn new(width: usize, height: usize) -> Result<Self, PictureError> {
        let (w, h) = ((width / 2) as u32, (height / 2) as u32);
        let mut out = Vec::new();
        out.try_reserve_exact((width / 2) * (height / 2) * CHANNELS)
            .map_err(|_| PictureError::OutOfMemory { width: w, height: h })?;
        Ok(Self { width, height, rows: Vec::new(), first: 0, done: 0, out })
    }

    /// The next rows.
    pub fn take(&mut self, rows: &[u8]) -> Result<(), PictureError> {
        self.rows.extend_from_slice(rows);
        let stride = self.width * CHANNELS;
        let there = self.first + self.rows.len() / stride;
        // The outputs whose rows are all there.
        let end = if there == self.height { there / 2 } else { (there / 2).saturating_sub(MARGIN / 2) };
        if end <= self.done {
            return Ok(());
        }
        // From an even row on, so that the filter meets the rows as it would in the whole picture.
        let kept = there / 2 * 2 - self.first;
        let window =
            Picture::new(self.width as u32, kept as u32, Channels::Rgb, self.rows[..kept * stride].to_vec())?;
        let small = window.resize(self.width as u32 / 2, kept as u32 / 2, Filter::Lanczos)?;
        let made = self.done - self.first / 2..end - self.first / 2;
        let line = stride / 2;
        self.out.extend_from_slice(&small.samples()[made.start * line..made.end * line]);
        self.done = end;
        let first = (2 * end).saturating_sub(MARGIN).max(self.first);
        self.rows.drain(..(first - self.first) * stride);
        self.first = first;
        Ok(())
    }

    /// The reduced picture, once all rows have come.
    pub fn finish(self) -> Result<Picture, PictureError> {
        Picture::new((self.width / 2) as u32, (self.height / 2) as u32, Channels::Rgb, self.out)
    }
}
