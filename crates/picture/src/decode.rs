//! PNG, JPEG and WebP in: bounded before memory is taken, 8 bits a sample, turned upright.
//!
//! The decoders are those of the `image` crate. Around them stand what it leaves to its caller: the size is checked
//! before anything of that size is allocated, a JPEG that was cut short is an error (the decoder would fill it up with
//! grey), 16-bit samples give their upper byte as in PIL, and the EXIF orientation is applied as by
//! `PIL.ImageOps.exif_transpose`.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::{Channels, Picture, PictureError};

/// The formats that this crate reads, told apart by their first bytes (never by a file's name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Portable Network Graphics. Of an animated one, the default image.
    Png,
    /// JPEG, baseline and progressive.
    Jpeg,
    /// WebP, lossy and lossless. Of an animated one, the first frame.
    WebP,
}

impl Format {
    /// The format that these first bytes announce.
    ///
    /// ```
    /// use kiln_picture::Format;
    /// assert_eq!(Format::of(b"\x89PNG\r\n\x1a\n"), Some(Format::Png));
    /// assert_eq!(Format::of(b"GIF89a"), None);
    /// ```
    pub fn of(head: &[u8]) -> Option<Format> {
        match head {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            _ => None,
        }
    }

    /// The format that a file's name announces: `.png`, `.jpg`, `.jpeg` or `.webp`, in letters of either case. It says what
    /// to write; what is read is told by its bytes.
    ///
    /// ```
    /// use kiln_picture::Format;
    /// assert_eq!(Format::of_name("a/photo.JPG"), Some(Format::Jpeg));
    /// assert_eq!(Format::of_name("photo.tif"), None);
    /// ```
    pub fn of_name(path: impl AsRef<Path>) -> Option<Format> {
        match path.as_ref().extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        })
    }
}

/// How large a picture may be that is read from outside. A file of a hundred bytes can announce 50,000 x 50,000 pixels.
///
/// While it decodes, a picture takes at most about 16 bytes a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest side, in pixels.
    pub max_side: u32,
    /// The number of pixels.
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 65,535 pixels a side and 2^27 = 134 million in all: more than any camera gives.
    fn default() -> Self {
        Self { max_side: 65_535, max_pixels: 1 << 27 }
    }
}

impl Limits {
    fn check(self, width: u32, height: u32) -> Result<(), PictureError> {
        let Self { max_side, max_pixels } = self;
        if width.max(height) > max_side || u64::from(width) * u64::from(height) > max_pixels {
            return Err(PictureError::TooLarge { width, height, max_side, max_pixels });
        }
        Ok(())
    }
}

impl Picture {
    /// Reads a PNG, JPEG or WebP picture from memory, within the default [`Limits`].
    ///
    /// Samples of 16 bits give their upper byte, palettes and fewer bits are expanded, and the picture is turned as its
    /// EXIF orientation (1 to 8) says. The layout is the file's.
    ///
    /// # Errors
    ///
    /// [`PictureError::UnknownFormat`], [`PictureError::Malformed`], [`PictureError::TooLarge`],
    /// [`PictureError::OutOfMemory`].
    pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
        Self::decode_within(bytes, Limits::default())
    }

    /// As [`Picture::decode`], within other limits.
    ///
    /// # Errors
    ///
    /// As [`Picture::decode`].
    pub fn decode_within(bytes: &[u8], limits: Limits) -> Result<Picture, PictureError> {
        let format = Format::of(bytes).ok_or(PictureError::UnknownFormat)?;
        let malformed = |message: String| PictureError::Malformed { format, message };
        let failed = |error: ImageError| match error {
            ImageError::Limits(_) => malformed("it asks for more memory than its size explains".to_owned()),
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                malformed("it is cut short".to_owned())
            }
            ImageError::Decoding(error) => malformed(std::error::Error::source(&error).map_or_else(
                || error.to_string(),
                // Without the prefix "Format error decoding Png:", which our own message says.
                ToString::to_string,
            )),
            error => malformed(error.to_string()),
        };

        // The PNG decoder takes a row's memory as soon as it has the header, so look there first.
        if let (Format::Png, Some(size)) = (format, bytes.get(16..24)) {
            let side = |at: usize| u32::from_be_bytes([size[at], size[at + 1], size[at + 2], size[at + 3]]);
            limits.check(side(0), side(4))?;
        }
        if format == Format::Jpeg && !ends_as_jpeg(bytes) {
            return Err(malformed("it is cut short".to_owned()));
        }
        let mut reader = ImageReader::with_format(
            Cursor::new(bytes),
            match format {
                Format::Png => ImageFormat::Png,
                Format::Jpeg => ImageFormat::Jpeg,
                Format::WebP => ImageFormat::WebP,
            },
        );
        let mut allowed = image::Limits::no_limits();
        // At 16 bits and 4 channels a pixel is 8 bytes; the rest is for what stands beside the pixels.
        allowed.max_alloc = Some(limits.max_pixels.saturating_mul(8).saturating_add(1 << 24));
        reader.limits(allowed);
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        limits.check(width, height)?;
        if width == 0 || height == 0 {
            return Err(malformed(format!("its size is {width} x {height}")));
        }
        // A broken EXIF block is no reason to refuse the pixels.
        let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut pixels = DynamicImage::from_decoder(decoder).map_err(failed)?;
        pixels.apply_orientation(orientation);
        Ok(to_eight_bits(pixels))
    }

    /// Reads a PNG, JPEG or WebP file, as [`Picture::decode`] does.
    ///
    /// # Errors
    ///
    /// [`PictureError::Read`] and those of [`Picture::decode`], all naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Picture, PictureError> {
        Self::open_within(path, Limits::default())
    }

    /// As [`Picture::open`], within other limits.
    ///
    /// # Errors
    ///
    /// As [`Picture::open`].
    pub fn open_within(path: impl AsRef<Path>, limits: Limits) -> Result<Picture, PictureError> {
        let path = path.as_ref();
        read_picture_file(path)
            .and_then(|bytes| Self::decode_within(&bytes, limits))
            .map_err(|error| error.in_file(path))
    }
}

/// The bytes of a file, if it starts as a picture: a film of many gigabytes is not read to find that it is none.
fn read_picture_file(path: &Path) -> Result<Vec<u8>, PictureError> {
    const HEAD: u64 = 16;
    let mut file = File::open(path).map_err(PictureError::Read)?;
    let mut bytes = Vec::new();
    (&mut file).take(HEAD).read_to_end(&mut bytes).map_err(PictureError::Read)?;
    if Format::of(&bytes).is_none() {
        return Err(PictureError::UnknownFormat);
    }
    file.read_to_end(&mut bytes).map_err(PictureError::Read)?;
    Ok(bytes)
}

/// Whether a JPEG has its end-of-image marker (ITU-T T.81, B.1): its decoder makes up what is missing.
///
/// Segments carry their length, so that the end of a thumbnail within one is not taken for the picture's. After a
/// start-of-scan segment comes entropy-coded data, in which `FF` is followed by `00` or a restart marker.
fn ends_as_jpeg(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        // To the next marker: over entropy-coded data, fill bytes, or whatever else stands between segments.
        let Some(found) = bytes[at.min(bytes.len())..].iter().position(|&byte| byte == 0xff) else {
            return false;
        };
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            Some(&END) => return true,
            // Stuffed FF, TEM, restart markers, start of image: no length follows.
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            // A fill byte: the marker's own FF is still to come.
            Some(0xff) => {}
            Some(_) => {
                let Some(length) = bytes.get(at + 1..at + 3) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
}

fn to_eight_bits(pixels: DynamicImage) -> Picture {
    let (width, height) = (pixels.width(), pixels.height());
    let upper = |samples: Vec<u16>| samples.into_iter().map(|sample| (sample >> 8) as u8).collect();
    let (channels, samples) = match pixels {
        DynamicImage::ImageLuma8(buffer) => (Channels::Grey, buffer.into_raw()),
        DynamicImage::ImageLumaA8(buffer) => (Channels::GreyAlpha, buffer.into_raw()),
        DynamicImage::ImageRgb8(buffer) => (Channels::Rgb, buffer.into_raw()),
        DynamicImage::ImageRgba8(buffer) => (Channels::Rgba, buffer.into_raw()),
        DynamicImage::ImageLuma16(buffer) => (Channels::Grey, upper(buffer.into_raw())),
        DynamicImage::ImageLumaA16(buffer) => (Channels::GreyAlpha, upper(buffer.into_raw())),
        DynamicImage::ImageRgb16(buffer) => (Channels::Rgb, upper(buffer.into_raw())),
        DynamicImage::ImageRgba16(buffer) => (Channels::Rgba, upper(buffer.into_raw())),
        // Floating point, which none of the three formats holds.
        other => (Channels::Rgba, other.into_rgba8().into_raw()),
    };
    Picture::from_parts(width, height, channels, samples)
}
