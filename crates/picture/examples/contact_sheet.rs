//! Lays pictures out on one sheet: `cargo run --example contact_sheet -- SHEET.png PICTURE...`
//!
//! Each picture, of whatever size, fills a square of 128 pixels; up to eight stand in a row.

use std::process::ExitCode;

use kiln_picture::{Channels, Filter, Picture, PictureError, grid};

fn sheet(out: &str, paths: &[String]) -> Result<(), PictureError> {
    let tiles = paths
        .iter()
        .map(|path| Picture::open(path)?.convert(Channels::Rgb).cover(128, 128, Filter::Lanczos))
        .collect::<Result<Vec<_>, _>>()?;
    grid(&tiles, 8, 4)?.write_png_with_text(out, &[("Software", "kiln contact_sheet")])
}

#[expect(clippy::print_stderr, reason = "a program tells what went wrong")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, paths @ ..] = arguments.as_slice() else {
        eprintln!("usage: contact_sheet SHEET.png PICTURE...");
        return ExitCode::from(2);
    };
    match sheet(out, paths) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
