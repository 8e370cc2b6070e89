//! PNG out: 8 bits a sample, with text entries if wanted.

use std::borrow::Cow;
use std::path::Path;

use crate::{Channels, Picture, PictureError, atomic};

impl Picture {
    /// The picture as the bytes of a PNG file: 8 bits a sample, in its own layout, lossless.
    ///
    /// The same picture always gives the same bytes.
    pub fn encode_png(&self) -> Vec<u8> {
        self.png_with(&[])
    }

    /// As [`Picture::encode_png`], with text entries (keyword, text) such as `("Software", "kiln 0.1.0")`.
    ///
    /// Text within Latin-1 becomes `tEXt`, any other `iTXt`; `PIL.Image.open(path).text` gives both back.
    ///
    /// # Errors
    ///
    /// [`PictureError::TextKeyword`] for a keyword that PNG does not allow (section 11.3.3.1: 1 to 79 printable Latin-1
    /// characters, no space at either end, none twice in a row).
    pub fn encode_png_with_text(&self, text: &[(&str, &str)]) -> Result<Vec<u8>, PictureError> {
        for (keyword, _) in text {
            check_keyword(keyword)?;
        }
        Ok(self.png_with(text))
    }

    /// Writes a PNG file, whole or not at all: into a temporary file in the same folder, flushed to the disk, then
    /// renamed to `path`. The folder must exist.
    ///
    /// # Errors
    ///
    /// [`PictureError::Write`], naming the file, when the folder is missing or can't be written, when the disk is full,
    /// or when something that is no plain file stands at `path`. What stood there before still does.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), PictureError> {
        self.write_png_with_text(path, &[])
    }

    /// As [`Picture::write_png`], with text entries as in [`Picture::encode_png_with_text`].
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn write_png_with_text(
        &self,
        path: impl AsRef<Path>,
        text: &[(&str, &str)],
    ) -> Result<(), PictureError> {
        let path = path.as_ref();
        let bytes = self.encode_png_with_text(text).map_err(|error| error.in_file(path))?;
        atomic::write(path, &bytes).map_err(|error| PictureError::Write(error).in_file(path))
    }

    fn png_with(&self, text: &[(&str, &str)]) -> Vec<u8> {
        self.try_png_with(text).expect("a valid picture and checked keywords, written to memory")
    }

    fn try_png_with(&self, text: &[(&str, &str)]) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width(), self.height());
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_color(match self.channels() {
            Channels::Grey => png::ColorType::Grayscale,
            Channels::GreyAlpha => png::ColorType::GrayscaleAlpha,
            Channels::Rgb => png::ColorType::Rgb,
            Channels::Rgba => png::ColorType::Rgba,
        });
        for (keyword, text) in text {
            // A NUL would end the text early; no reader shows what follows it.
            let text = if text.contains('\0') {
                Cow::from(text.replace('\0', "\u{fffd}"))
            } else {
                Cow::from(*text)
            };
            if text.chars().all(|c| u8::try_from(c).is_ok()) {
                encoder.add_text_chunk((*keyword).to_owned(), text.into_owned())?;
            } else {
                encoder.add_itxt_chunk((*keyword).to_owned(), text.into_owned())?;
            }
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.samples())?;
        writer.finish()?;
        Ok(bytes)
    }
}

fn check_keyword(keyword: &str) -> Result<(), PictureError> {
    let printable = |c: char| matches!(u32::from(c), 0x20..=0x7e | 0xa1..=0xff);
    let problem = if keyword.is_empty() || keyword.chars().count() > 79 {
        "it must have 1 to 79 characters"
    } else if !keyword.chars().all(printable) {
        "it must be printable Latin-1"
    } else if keyword.starts_with(' ') || keyword.ends_with(' ') || keyword.contains("  ") {
        "it must not start or end with a space, nor hold two in a row"
    } else {
        return Ok(());
    };
    Err(PictureError::TextKeyword { keyword: keyword.to_owned(), problem })
}
