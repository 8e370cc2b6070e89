//! kiln-picture against Pillow's values, against broken files, and against folders that can't be written.

#[path = "picture/files.rs"]
mod files;
#[path = "picture/golden.rs"]
mod golden;
#[path = "picture/layout.rs"]
mod layout;
#[path = "picture/malformed.rs"]
mod malformed;
#[path = "picture/reading.rs"]
mod reading;

use std::path::PathBuf;

use kiln_picture::{Channels, Picture};

const ALL_CHANNELS: [(&str, Channels); 4] =
    [("L", Channels::Grey), ("LA", Channels::GreyAlpha), ("RGB", Channels::Rgb), ("RGBA", Channels::Rgba)];

fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden(name: &str) -> Picture {
    Picture::open(golden_path(name)).unwrap_or_else(|error| panic!("golden: {error}"))
}

fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden_path(name)).unwrap_or_else(|error| panic!("golden {name}: {error}"))
}

/// The largest difference of two pictures of one kind, in levels.
fn largest_difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width(), a.height(), a.channels()), (b.width(), b.height(), b.channels()));
    a.samples().iter().zip(b.samples()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}
