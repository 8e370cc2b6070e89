//! The picture itself: a size, a layout and one `u8` a sample.

use std::fmt;

use crate::PictureError;

/// The layout of a pixel. Colours are sRGB as the file gives them; nothing here converts colour spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One sample: brightness (PIL's `L`).
    Grey,
    /// Brightness and opacity, not premultiplied (PIL's `LA`).
    GreyAlpha,
    /// Red, green, blue (PIL's `RGB`).
    Rgb,
    /// Red, green, blue and opacity, not premultiplied (PIL's `RGBA`).
    Rgba,
}

impl Channels {
    /// Samples in a pixel: 1 to 4.
    ///
    /// ```
    /// assert_eq!(kiln_picture::Channels::Rgba.count(), 4);
    /// ```
    pub const fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Whether the last sample of a pixel is its opacity.
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::Rgba)
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grey => "grey",
            Self::GreyAlpha => "grey with alpha",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
        })
    }
}

/// A picture in memory: `width * height` pixels of [`Channels`], one `u8` a sample.
///
/// The sample of channel `c` at column `x` of row `y` is `samples()[(y * width + x) * channels + c]`. A picture has at
/// least one pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    channels: Channels,
    samples: Vec<u8>,
}

impl Picture {
    /// A picture from its samples, `[height, width, channels]` with the channels innermost.
    ///
    /// # Errors
    ///
    /// [`PictureError::EmptySize`] when a side is 0, [`PictureError::SampleCount`] when `samples` is not
    /// `width * height * channels` long.
    pub fn new(width: u32, height: u32, channels: Channels, samples: Vec<u8>) -> Result<Self, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::EmptySize { width, height });
        }
        let expected = u64::from(width) * u64::from(height);
        let expected = expected.saturating_mul(channels.count() as u64);
        if expected != samples.len() as u64 {
            return Err(PictureError::SampleCount {
                width,
                height,
                channels,
                expected,
                found: samples.len(),
            });
        }
        Ok(Self { width, height, channels, samples })
    }

    /// As [`Picture::new`], for sizes that this crate has worked out itself.
    pub(crate) fn from_parts(width: u32, height: u32, channels: Channels, samples: Vec<u8>) -> Self {
        debug_assert_eq!(width as usize * height as usize * channels.count(), samples.len());
        Self { width, height, channels, samples }
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The layout of a pixel.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// All samples, row by row, channels innermost.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// Gives up the picture for its samples.
    pub fn into_samples(self) -> Vec<u8> {
        self.samples
    }

    /// Bytes in a row.
    pub(crate) fn stride(&self) -> usize {
        self.width as usize * self.channels.count()
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The samples would drown any message that they stand in.
        write!(f, "Picture({} x {} {})", self.width, self.height, self.channels)
    }
}

/// An empty buffer with room for `count` values, or the error that there is no memory for a picture of this size: sizes
/// come from outside, and an allocation that fails would otherwise end the process.
pub(crate) fn room<T>(count: u64, (width, height): (u32, u32)) -> Result<Vec<T>, PictureError> {
    let mut values = Vec::new();
    usize::try_from(count)
        .ok()
        .and_then(|count| values.try_reserve_exact(count).ok())
        .ok_or(PictureError::OutOfMemory { width, height })?;
    Ok(values)
}

/// An empty buffer with room for the samples of a picture.
pub(crate) fn room_for(width: u32, height: u32, channels: usize) -> Result<Vec<u8>, PictureError> {
    room((u64::from(width) * u64::from(height)).saturating_mul(channels as u64), (width, height))
}
