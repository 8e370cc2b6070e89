//! Pictures in and out, with no tensor backend in it: decode, resize, grids, PNG.
//!
//! A [`Picture`] is width, height, [`Channels`] and one `u8` a sample, row by row, channels innermost, which is the
//! layout of `PIL.Image` and of `numpy.asarray(image)`. Around it:
//!
//! | to | call |
//! |---|---|
//! | read PNG, JPEG or WebP, turned upright by its EXIF orientation | [`Picture::open`], [`Picture::decode`] |
//! | bound what a file may ask for | [`Picture::open_within`], [`Picture::decode_within`], [`Limits`] |
//! | change between grey and colour, with and without alpha, as PIL's `convert` | [`Picture::convert`] |
//! | resize as PIL's `Image.resize`, to the bit | [`Picture::resize`], [`Filter`] |
//! | cut out a part; fill a frame (shorter side resized, centre cut out) | [`Picture::crop`], [`Picture::cover`] |
//! | put many pictures on one sheet | [`grid`] |
//! | read the text entries of a PNG | [`Picture::text_of`] |
//! | write a PNG that is never half there | [`Picture::write_png`], [`Picture::encode_png`] |
//! | write PNG, JPEG or WebP | [`Picture::write`], [`Picture::encode`], [`Encoding`] |
//!
//! Whatever a file holds, the answer is a picture or a [`PictureError`] that says what was wrong and, where a path was
//! given, in which file.
//!
//! ```
//! use kiln_picture::{Channels, Filter, Picture, grid};
//!
//! # fn main() -> Result<(), kiln_picture::PictureError> {
//! let ramp: Vec<u8> = (0..=255).collect();
//! let picture = Picture::new(16, 16, Channels::Grey, ramp)?;
//! let small = picture.resize(8, 8, Filter::Bicubic)?;
//! let sheet = grid(&[small.clone(), small], 2, 1)?;
//! assert_eq!((sheet.width(), sheet.height()), (2 * 9 + 1, 9 + 1));
//! assert_eq!(Picture::decode(&sheet.encode_png())?, sheet);
//! # Ok(())
//! # }
//! ```

mod atomic;
mod convert;
mod crop;
mod decode;
mod encode;
mod error;
mod grid;
mod picture;
mod resize;
mod save;
mod text;

pub use decode::{Format, Limits};
pub use error::PictureError;
pub use grid::grid;
pub use picture::{Channels, Picture};
pub use resize::Filter;
pub use save::Encoding;
