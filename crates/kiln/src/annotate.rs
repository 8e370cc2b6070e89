//! `kiln annotate`: what control networks are shown, drawn from a photograph or from the points of poses.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use kiln::checkpoint::Checkpoint;
use kiln::conditioning::annotators::{Hed, Poses, Thresholds, canny};
use kiln::picture::Picture;

use crate::cli::finite;
use crate::device::Backend;
use crate::output::print;
use crate::source;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Thin edges, where brightness changes most
    Canny,
    /// Soft edges, as the network HED finds them
    Hed,
    /// Skeletons in colours, of OpenPose's JSON or COCO's key points
    Openpose,
}

#[derive(Debug, Args)]
pub struct Annotate {
    /// A PNG, JPEG or WebP picture; for skeletons OpenPose's JSON, or COCO's with key points
    #[arg(value_name = "PATH")]
    pub source: PathBuf,
    /// What is drawn of it
    #[arg(long, value_name = "KIND")]
    pub kind: Kind,
    /// The PNG to write; without it, beside PATH under its name and the kind
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// Canny: how strong an edge must be to be gone on with, from 0 to about 1140
    #[arg(long, value_name = "GRADIENT", default_value_t = 50.0, value_parser = finite)]
    pub low: f64,
    /// Canny: how strong an edge must be to begin
    #[arg(long, value_name = "GRADIENT", default_value_t = 100.0, value_parser = finite)]
    pub high: f64,
    /// HED: its weights, ControlNetHED.pth or HED's own under VGG's names, a file or owner/name/path on the Hugging Face Hub
    #[arg(long, value_name = "PATH", required_if_eq("kind", "hed"))]
    pub annotator_weights: Option<String>,
    /// Skeletons: width in pixels, where the JSON does not say it, or for a picture of another size
    #[arg(long, value_name = "PIXELS", requires = "height", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub width: Option<u32>,
    /// Skeletons: height in pixels
    #[arg(long, value_name = "PIXELS", requires = "width", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub height: Option<u32>,
    /// Skeletons: which of COCO's pictures
    #[arg(long, value_name = "NUMBER")]
    pub image_id: Option<u64>,
    #[command(flatten)]
    pub backend: Backend,
}

pub fn run(options: &Annotate) -> Result<()> {
    let path = &options.source;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => {
            let stem =
                path.file_stem().with_context(|| format!("{}: no file has this name", path.display()))?;
            let kind =
                options.kind.to_possible_value().map_or(String::new(), |kind| kind.get_name().to_owned());
            path.with_file_name(format!("{}_{kind}.png", stem.to_string_lossy()))
        }
    };
    if out.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
        bail!("--out {}: its name should end in .png", out.display());
    }
    let drawn = match options.kind {
        Kind::Canny => {
            let thresholds = Thresholds { low: options.low as f32, high: options.high as f32 };
            canny(&Picture::open(path)?, thresholds)?
        }
        Kind::Hed => {
            let picture = Picture::open(path)?;
            let weights = options.annotator_weights.as_deref().unwrap_or_default();
            let weights = Checkpoint::open(source::locate(weights, None)?)?;
            let device = options.backend.open()?;
            Hed::load(&weights, &device)?.annotate(&picture)?
        }
        Kind::Openpose => skeletons(options)?,
    };
    drawn.write_png(&out)?;
    print(out.display())
}

fn skeletons(options: &Annotate) -> Result<Picture> {
    let path = options.source.display();
    let text = fs::read_to_string(&options.source).with_context(|| format!("{path}: can't be read"))?;
    let poses = Poses::from_json(&text, options.image_id).with_context(|| path.to_string())?;
    let Some((width, height)) = options.width.zip(options.height).or(poses.frame) else {
        bail!("{path} does not say how large its picture is: --width PIXELS --height PIXELS");
    };
    const MOST: u32 = 16384;
    if width > MOST || height > MOST {
        bail!("{path} says that its picture is {width} x {height}; at most {MOST} a side are drawn");
    }
    Ok(poses.draw(width, height)?)
}
