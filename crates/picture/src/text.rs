//! Text in: what `write_png_with_text` wrote, or any other program that writes PNG text.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use crate::{Format, Picture, PictureError};

/// More text than any program leaves in a picture.
const MOST_TEXT: u64 = 1 << 24;

impl Picture {
    /// The text entries of a PNG file by their keywords, from `tEXt`, `zTXt` and `iTXt`; of entries with one keyword, the last. Other formats have none.
    ///
    /// # Errors
    ///
    /// [`PictureError::Read`], [`PictureError::UnknownFormat`] or [`PictureError::Malformed`], naming the file.
    pub fn text_of(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>, PictureError> {
        let path = path.as_ref();
        let read = || {
            let mut file = BufReader::new(File::open(path).map_err(PictureError::Read)?);
            let mut head = [0; 16];
            let mut known = 0;
            while known < head.len() {
                match file.read(&mut head[known..]).map_err(PictureError::Read)? {
                    0 => break,
                    more => known += more,
                }
            }
            match Format::of(&head[..known]) {
                None => Err(PictureError::UnknownFormat),
                Some(Format::Png) => {
                    file.rewind().map_err(PictureError::Read)?;
                    text_of_png(file)
                }
                Some(Format::Jpeg | Format::WebP) => Ok(BTreeMap::new()),
            }
        };
        read().map_err(|error: PictureError| error.in_file(path))
    }
}

fn text_of_png(file: impl BufRead + Seek) -> Result<BTreeMap<String, String>, PictureError> {
    let malformed = |error: png::DecodingError| PictureError::Malformed {
        format: Format::Png,
        message: error.to_string(),
    };
    let limits = png::Limits { bytes: MOST_TEXT as usize };
    let mut reader = png::Decoder::new_with_limits(file, limits).read_info().map_err(malformed)?;
    // Entries may follow the pixels.
    reader.finish().map_err(malformed)?;
    let info = reader.info();
    let mut entries = BTreeMap::new();
    for entry in &info.uncompressed_latin1_text {
        entries.insert(entry.keyword.clone(), entry.text.clone());
    }
    for entry in &info.compressed_latin1_text {
        entries.insert(entry.keyword.clone(), entry.get_text().map_err(malformed)?);
    }
    for entry in &info.utf8_text {
        entries.insert(entry.keyword.clone(), entry.get_text().map_err(malformed)?);
    }
    Ok(entries)
}
