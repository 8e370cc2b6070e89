//! `kiln score`: results against the truth, as COCO counts; no model is needed.

use anyhow::{Context, Result};
use kiln::detection::coco::{Dataset, detections};
use kiln::detection::score::{Regions, average_precision, panoptic_files};

use crate::cli::Score;
use crate::output::print;

pub fn run(options: &Score) -> Result<()> {
    let json = if options.panoptic {
        let quality = panoptic_files(&options.truth, &options.results)?;
        serde_json::to_string_pretty(&quality)
    } else {
        let truth = Dataset::open(&options.truth)?;
        let found = detections(&options.results)?;
        // COCO's results are of boxes or of masks; boxes come first where they are of both.
        let boxes = found.first().is_none_or(|first| first.bbox.is_some());
        let regions = if options.masks || !boxes { Regions::Masks } else { Regions::Boxes };
        serde_json::to_string_pretty(&average_precision(&truth, &found, regions)?)
    };
    print(&json.context("the scores")?)
}
