//! `kiln upscale`: a photograph, two or four times as large.

mod halved;
mod method;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::picture::{Encoding, Format, Picture};
use kiln::upsampling::{Next, TilesError};

use crate::cli::Upscale;
use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
use method::Scaled;

pub use method::Method;

/// The most pixels of a result: a byte a sample of four of these is 1 GiB.
const MOST_PIXELS: u64 = 1 << 28;

pub fn run(options: &Upscale) -> Result<()> {
    let scale = options.scale.factor();
    let (out, encoding) = output(options)?;
    let picture = Picture::open(&options.photo)?;
    let size = larger(&picture, scale)?;
    encoding.takes(size.0, size.1, picture.channels()).with_context(|| out.display().to_string())?;

    let interrupted = Arc::new(AtomicBool::new(false));
    set_on_interrupt(Arc::clone(&interrupted))?;
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("enlarging {bar:40} {pos}/{len} tiles, {eta} left")
            .context("the progress bar's template")?,
    );
    let scaled = Scaled { scale, size, method: options.method, backend: &options.backend };
    let enlarged = scaled.enlarge(&picture, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        if interrupted.load(Ordering::Relaxed) { Next::Stop } else { Next::On }
    });
    bar.finish_and_clear();
    let enlarged = match enlarged {
        Err(error) if matches!(error.downcast_ref(), Some(TilesError::Stopped { .. })) => {
            bail!(Interrupted("; nothing was written".to_owned()))
        }
        enlarged => enlarged?,
    };
    enlarged.write(&out, encoding)?;
    print(out.display())
}

/// The sides of the result, if a picture may have so many pixels.
fn larger(picture: &Picture, scale: u32) -> Result<(u32, u32)> {
    let (width, height) = (picture.width(), picture.height());
    match (width.checked_mul(scale), height.checked_mul(scale)) {
        (Some(width), Some(height)) if u64::from(width) * u64::from(height) <= MOST_PIXELS => {
            Ok((width, height))
        }
        _ => bail!(
            "{width} x {height} pixels are too many to make them {scale} times as large: at most {MOST_PIXELS} may come out"
        ),
    }
}

/// Where the result goes and as what, seen to be writable before minutes are spent.
fn output(options: &Upscale) -> Result<(PathBuf, Encoding)> {
    let (photo, scale) = (&options.photo, options.scale.factor());
    let out = match &options.out {
        Some(out) => out.clone(),
        None => {
            let stem =
                photo.file_stem().with_context(|| format!("{}: no file has this name", photo.display()))?;
            photo.with_file_name(format!("{}_x{scale}.png", stem.to_string_lossy()))
        }
    };
    let encoding = match Format::of_name(&out) {
        Some(Format::Png) => Encoding::Png,
        Some(Format::Jpeg) => Encoding::Jpeg { quality: options.quality },
        Some(Format::WebP) => Encoding::WebP,
        None => bail!("--out {}: its name should end in .png, .jpg, .jpeg or .webp", out.display()),
    };
    if out.is_dir() {
        bail!("{} is a folder, and a picture was to be written there", out.display());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder)
        .with_context(|| format!("the folder {} can't be written to", folder.display()))?;
    Ok((out, encoding))
}
