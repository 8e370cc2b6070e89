//! Files of any format that this crate reads: PNG and WebP without loss, JPEG with a quality.

use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageResult};

use crate::{Channels, Format, Picture, PictureError, atomic};

/// How a picture becomes a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// PNG, without loss.
    Png,
    /// JPEG, from 1 (small) to 100 (near the picture); it holds no opacity.
    Jpeg {
        /// The quality, 1 to 100.
        quality: u8,
    },
    /// WebP without loss; at most 16,384 pixels a side, and grey is held as colour.
    WebP,
}

impl Encoding {
    /// The format of the file.
    pub fn format(self) -> Format {
        match self {
            Self::Png => Format::Png,
            Self::Jpeg { .. } => Format::Jpeg,
            Self::WebP => Format::WebP,
        }
    }

    /// Whether a picture of this size and layout can become such a file: what can't is known before it is computed.
    ///
    /// # Errors
    ///
    /// [`PictureError::Unencodable`], saying what the format does not hold.
    pub fn takes(self, width: u32, height: u32, channels: Channels) -> Result<(), PictureError> {
        let longest = match self {
            Self::Png => u32::MAX >> 1,
            Self::Jpeg { .. } => 65_535,
            Self::WebP => 16_384,
        };
        let no = |reason: String| Err(PictureError::Unencodable { format: self.format(), reason });
        if width.max(height) > longest {
            return no(format!("{width} x {height} pixels are more than its {longest} a side"));
        }
        match self {
            Self::Jpeg { quality } if !(1..=100).contains(&quality) => {
                no(format!("a quality of {quality} is not within 1 to 100"))
            }
            Self::Jpeg { .. } if matches!(channels, Channels::GreyAlpha | Channels::Rgba) => {
                no("it holds no opacity; PNG and WebP do".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Picture {
    /// The picture as the bytes of a file.
    ///
    /// # Errors
    ///
    /// As [`Encoding::takes`].
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, PictureError> {
        encoding.takes(self.width(), self.height(), self.channels())?;
        let colour = match self.channels() {
            Channels::Grey => ExtendedColorType::L8,
            Channels::GreyAlpha => ExtendedColorType::La8,
            Channels::Rgb => ExtendedColorType::Rgb8,
            Channels::Rgba => ExtendedColorType::Rgba8,
        };
        let (width, height) = (self.width(), self.height());
        let mut bytes = Vec::new();
        let encoded: ImageResult<()> = match encoding {
            Encoding::Png => return Ok(self.encode_png()),
            Encoding::Jpeg { quality } => JpegEncoder::new_with_quality(&mut bytes, quality).encode(
                self.samples(),
                width,
                height,
                colour,
            ),
            Encoding::WebP => {
                WebPEncoder::new_lossless(&mut bytes).encode(self.samples(), width, height, colour)
            }
        };
        encoded.map_err(|error| PictureError::Unencodable {
            format: encoding.format(),
            reason: error.to_string(),
        })?;
        Ok(bytes)
    }

    /// Writes a file, whole or not at all, as [`Picture::write_png`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Picture::encode`] and [`Picture::write_png`], naming the file.
    pub fn write(&self, path: impl AsRef<Path>, encoding: Encoding) -> Result<(), PictureError> {
        let path = path.as_ref();
        let bytes = self.encode(encoding).map_err(|error| error.in_file(path))?;
        atomic::write(path, &bytes).map_err(|error| PictureError::Write(error).in_file(path))
    }
}
