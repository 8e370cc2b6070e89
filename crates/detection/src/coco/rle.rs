//! Masks as lengths of runs: how many pixels are 0, then 1, then 0, ..., down each column in turn; COCO's own form.

use thiserror::Error;

/// Runs that are no mask.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RleError {
    /// The runs are not as many pixels as the mask has.
    #[error("{found} pixels in its runs, for {height} x {width}")]
    Length {
        /// Pixels in the runs.
        found: u64,
        /// Height of the mask.
        height: u32,
        /// Width of the mask.
        width: u32,
    },
    /// The text has a character that no run is written with, or ends within a run, or a run is below 0.
    #[error("character {place} of its text makes no run")]
    Text {
        /// Which character, from 0.
        place: usize,
    },
    /// An outline that is none.
    #[error("outline {index} {reason}")]
    Polygon {
        /// Which, from 0.
        index: usize,
        /// Why not.
        reason: &'static str,
    },
    /// Two masks of different sizes.
    #[error("masks of {0:?} and {1:?} pixels do not lie on each other")]
    Sizes([u32; 2], [u32; 2]),
}

/// A mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rle {
    counts: Vec<u32>,
    height: u32,
    width: u32,
}

/// How masks are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    Union,
    Intersection,
}

impl Rle {
    /// The mask of these runs.
    ///
    /// # Errors
    ///
    /// [`RleError::Length`], if they do not fill `height` x `width`.
    pub fn new(counts: Vec<u32>, height: u32, width: u32) -> Result<Self, RleError> {
        let found = counts.iter().map(|&run| u64::from(run)).sum();
        if found != u64::from(height) * u64::from(width) {
            return Err(RleError::Length { found, height, width });
        }
        Ok(Self { counts, height, width })
    }

    /// The runs of a mask, row by row.
    ///
    /// # Panics
    ///
    /// If it has not `height * width` pixels.
    #[must_use]
    pub fn encode(mask: &[bool], height: u32, width: u32) -> Self {
        let (rows, columns) = (height as usize, width as usize);
        assert_eq!(mask.len(), rows * columns, "a mask of {height} x {width}");
        let (mut counts, mut run, mut now) = (Vec::new(), 0, false);
        for column in 0..columns {
            for row in 0..rows {
                if mask[row * columns + column] != now {
                    counts.push(run);
                    (run, now) = (0, !now);
                }
                run += 1;
            }
        }
        counts.push(run);
        Self { counts, height, width }
    }

    /// The mask, row by row.
    #[must_use]
    pub fn decode(&self) -> Vec<bool> {
        let (rows, columns) = (self.height as usize, self.width as usize);
        let mut mask = vec![false; rows * columns];
        let mut place = 0;
        for (index, &run) in self.counts.iter().enumerate() {
            if index % 2 == 1 {
                for place in place..place + run as usize {
                    mask[place % rows * columns + place / rows] = true;
                }
            }
            place += run as usize;
        }
        mask
    }

    /// Runs from the text of a compressed mask: five bits a character, differences from the run before the last.
    ///
    /// # Errors
    ///
    /// [`RleError::Text`] and [`RleError::Length`].
    pub fn from_text(text: &str, height: u32, width: u32) -> Result<Self, RleError> {
        let mut counts: Vec<u32> = Vec::new();
        let (mut value, mut bits) = (0_i64, 0);
        for (place, byte) in text.bytes().enumerate() {
            let wrong = RleError::Text { place };
            if !(48..112).contains(&byte) || bits > 30 {
                return Err(wrong);
            }
            let piece = i64::from(byte - 48);
            value |= (piece & 0x1f) << bits;
            bits += 5;
            if piece & 0x20 != 0 {
                continue;
            }
            if piece & 0x10 != 0 {
                value |= -1 << bits;
            }
            if counts.len() > 2 {
                value += i64::from(counts[counts.len() - 2]);
            }
            counts.push(u32::try_from(value).map_err(|_| wrong)?);
            (value, bits) = (0, 0);
        }
        if bits > 0 {
            return Err(RleError::Text { place: text.len() });
        }
        Self::new(counts, height, width)
    }

    /// The text of the compressed mask.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (index, &run) in self.counts.iter().enumerate() {
            let mut value = i64::from(run);
            if index > 2 {
                value -= i64::from(self.counts[index - 2]);
            }
            loop {
                let piece = (value & 0x1f) as u8;
                value >>= 5;
                let done = if piece & 0x10 != 0 { value == -1 } else { value == 0 };
                text.push(char::from(48 + if done { piece } else { piece | 0x20 }));
                if done {
                    break;
                }
            }
        }
        text
    }

    /// Its height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Its width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Lengths of the runs, of zeros first.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// How many pixels are 1.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&run| u64::from(run)).sum()
    }

    /// Left, top, width, height of the smallest box around it; zeros if it is empty.
    #[must_use]
    pub fn bbox(&self) -> [f64; 4] {
        let height = self.height as usize;
        let (mut left, mut top, mut right, mut bottom) = (usize::MAX, usize::MAX, 0, 0);
        let mut place = 0;
        for pair in self.counts.chunks_exact(2) {
            let first = place + pair[0] as usize;
            place = first + pair[1] as usize;
            if pair[1] == 0 {
                continue;
            }
            let last = place - 1;
            let spans = first / height != last / height;
            let rows = if spans { [0, height - 1] } else { [first % height, last % height] };
            (left, right) = (left.min(first / height), right.max(last / height));
            (top, bottom) = (top.min(rows[0]), bottom.max(rows[1]));
        }
        if left == usize::MAX {
            return [0.0; 4];
        }
        [left, top, right - left + 1, bottom - top + 1].map(|side| side as f64)
    }

    /// Pixels that are 1 in any of `masks`.
    ///
    /// # Errors
    ///
    /// [`RleError::Sizes`], if they have different sizes.
    pub fn union<'a>(first: &Self, others: impl IntoIterator<Item = &'a Self>) -> Result<Self, RleError> {
        others.into_iter().try_fold(first.clone(), |joined, mask| joined.join(mask, Join::Union))
    }

    /// Pixels that are 1 in all of `masks`.
    ///
    /// # Errors
    ///
    /// [`RleError::Sizes`], if they have different sizes.
    pub fn intersection<'a>(
        first: &Self,
        others: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Self, RleError> {
        others.into_iter().try_fold(first.clone(), |joined, mask| joined.join(mask, Join::Intersection))
    }

    fn join(&self, other: &Self, how: Join) -> Result<Self, RleError> {
        let (mut counts, mut run, mut now) = (Vec::new(), 0, false);
        self.walk(other, |ours, theirs, length| {
            let value = match how {
                Join::Union => ours || theirs,
                Join::Intersection => ours && theirs,
            };
            if value != now {
                counts.push(run);
                (run, now) = (0, value);
            }
            run += length;
        })?;
        counts.push(run);
        Ok(Self { counts, height: self.height, width: self.width })
    }

    /// Pixels in both over pixels in either; over those of `self` where `other` is a crowd.
    ///
    /// # Errors
    ///
    /// [`RleError::Sizes`], if they have different sizes.
    pub fn iou(&self, other: &Self, crowd: bool) -> Result<f64, RleError> {
        let (mut both, mut either) = (0_u64, 0_u64);
        self.walk(other, |ours, theirs, length| {
            both += if ours && theirs { u64::from(length) } else { 0 };
            either += if ours || theirs { u64::from(length) } else { 0 };
        })?;
        let whole = if crowd { self.area() } else { either };
        Ok(if both == 0 { 0.0 } else { both as f64 / whole as f64 })
    }

    /// Go through both masks in pieces in which neither changes.
    fn walk(&self, other: &Self, mut piece: impl FnMut(bool, bool, u32)) -> Result<(), RleError> {
        let (ours, theirs) = ([self.height, self.width], [other.height, other.width]);
        if ours != theirs {
            return Err(RleError::Sizes(ours, theirs));
        }
        let mut runs = [(&self.counts, 0, 0), (&other.counts, 0, 0)];
        loop {
            for (counts, next, left) in &mut runs {
                while *left == 0 && *next < counts.len() {
                    *left = counts[*next];
                    *next += 1;
                }
            }
            let length = runs[0].2.min(runs[1].2);
            if length == 0 {
                return Ok(());
            }
            // After an odd number of runs zeros are left, after an even one ones.
            piece(runs[0].1 % 2 == 0, runs[1].1 % 2 == 0, length);
            runs[0].2 -= length;
            runs[1].2 -= length;
        }
    }
}
