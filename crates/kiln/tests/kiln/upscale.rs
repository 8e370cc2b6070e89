//! `kiln upscale`: sizes, layouts, orientation and tiles; what it refuses.

use std::fs;
use std::path::Path;

use kiln::picture::{Channels, Encoding, Filter, Format, Picture};
use rstest::rstest;

use crate::{fails, kiln, succeeds};

/// Waves in every channel.
fn waves(width: u32, height: u32, channels: Channels) -> Picture {
    let count = channels.count() as u32;
    let sample = |i: u32| {
        let (pixel, channel) = (i / count, i % count);
        let (x, y) = ((pixel % width) as f32, (pixel / width) as f32);
        (127.0 + 100.0 * (x * 0.11 + y * 0.07 * (1 + channel) as f32).sin()) as u8
    };
    Picture::new(width, height, channels, (0..width * height * count).map(sample).collect()).unwrap()
}

fn written(dir: &Path, arguments: &[&str]) -> Picture {
    let told = succeeds(dir, &[&["upscale"], arguments].concat());
    Picture::open(dir.join(told.trim_end())).unwrap()
}

#[rstest]
#[case("nearest", Filter::Nearest)]
#[case("bilinear", Filter::Bilinear)]
#[case("bicubic", Filter::Bicubic)]
#[case("lanczos", Filter::Lanczos)]
fn filters_are_pils(#[case] method: &str, #[case] filter: Filter) {
    let dir = tempfile::tempdir().unwrap();
    for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
        let picture = waves(20, 13, channels);
        picture.write_png(dir.path().join("a.png")).unwrap();
        let larger = written(dir.path(), &["a.png", "--scale", "4", "--method", method]);
        assert_eq!(larger, picture.resize(80, 52, filter).unwrap());
    }
    assert!(dir.path().join("a_x4.png").is_file());
}

#[rstest]
#[case("2", "dat")]
#[case("4", "dat")]
#[case("2", "realesr")]
#[case("4", "realesr")]
fn networks_keep_layout_and_what_is_seen(#[case] scale: &str, #[case] method: &str) {
    let dir = tempfile::tempdir().unwrap();
    let factor: u32 = scale.parse().unwrap();
    for channels in [Channels::Grey, Channels::Rgba] {
        let picture = waves(24, 17, channels);
        picture.write_png(dir.path().join("a.png")).unwrap();
        let larger =
            written(dir.path(), &["a.png", "--scale", scale, "--method", method, "--out", "large.png"]);
        assert_eq!(
            (larger.width(), larger.height(), larger.channels()),
            (24 * factor, 17 * factor, channels)
        );
        // Reduced again, it is nearly what it was; opacity too.
        let again = larger.resize(24, 17, Filter::Bicubic).unwrap();
        let differences =
            again.samples().iter().zip(picture.samples()).map(|(&a, &b)| f64::from(a.abs_diff(b)));
        let mean = differences.sum::<f64>() / picture.samples().len() as f64;
        // Real-ESRGAN's sharpens what it sees.
        let most = if method == "dat" { 4.0 } else { 12.0 };
        assert!(mean < most, "{channels}: {mean}");
    }
}

#[test]
fn without_options_a_transformer_doubles_it() {
    let dir = tempfile::tempdir().unwrap();
    waves(9, 8, Channels::Rgb).write_png(dir.path().join("small.photo.png")).unwrap();
    let default = written(dir.path(), &["small.photo.png"]);
    let named =
        written(dir.path(), &["small.photo.png", "--scale", "2", "--method", "dat", "--out", "b.png"]);
    assert_eq!(default, named);
    assert!(dir.path().join("small.photo_x2.png").is_file());
}

/// Of realesr's four times a half is taken band by band: what the whole picture, reduced by Lanczos' filter, is.
#[test]
fn what_is_reduced_as_it_comes_is_the_whole_reduced() {
    let dir = tempfile::tempdir().unwrap();
    waves(30, 420, Channels::Rgb).write_png(dir.path().join("a.png")).unwrap();
    let options = ["a.png", "--method", "realesr", "--scale"];
    let four = written(dir.path(), &[&options[..], &["4"]].concat());
    let two = written(dir.path(), &[&options[..], &["2"]].concat());
    let whole = four.resize(60, 840, Filter::Lanczos).unwrap();
    assert_eq!((two.width(), two.height()), (60, 840));
    let most = two.samples().iter().zip(whole.samples()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(most <= Some(1), "{most:?}");
}

/// A PNG header that announces 50,000 x 50,000 pixels, and nothing else.
fn huge() -> Vec<u8> {
    let mut bytes = waves(1, 1, Channels::Rgb).encode_png();
    bytes[16..24].copy_from_slice(&[50_000_u32.to_be_bytes(), 50_000_u32.to_be_bytes()].concat());
    bytes
}

/// A JPEG of few pixels whose frame says that it has `side` x `side` of them.
fn jpeg_that_claims(side: u16) -> Vec<u8> {
    let mut bytes = waves(24, 16, Channels::Rgb).encode(Encoding::Jpeg { quality: 90 }).unwrap();
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
    bytes
}

#[test]
fn what_can_not_be_read_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("huge.png"), huge()).unwrap();
    fs::write(at("cut.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F', b'I', b'F', 0, 1, 1]).unwrap();
    fs::write(at("text.png"), "no picture").unwrap();
    let whole = waves(64, 48, Channels::Rgb).encode(Encoding::Jpeg { quality: 90 }).unwrap();
    fs::write(at("half.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("huge.jpg"), jpeg_that_claims(50_000)).unwrap();
    fs::write(at("flat.jpg"), jpeg_that_claims(0)).unwrap();
    let mut empty = waves(1, 1, Channels::Rgb).encode_png();
    empty[16..20].copy_from_slice(&[0; 4]);
    fs::write(at("empty.png"), empty).unwrap();
    waves(4, 4, Channels::Rgb).write_png(at("fine.png")).unwrap();
    let before = fs::read_dir(dir.path()).unwrap().count();
    for (arguments, message) in [
        (["huge.png", "--scale", "2"], "50000"),
        (["cut.jpg", "--scale", "2"], "cut short"),
        (["half.jpg", "--scale", "4"], "half.jpg"),
        (["huge.jpg", "--scale", "4"], "50000 x 50000"),
        (["flat.jpg", "--scale", "4"], "flat.jpg"),
        (["text.png", "--scale", "4"], "text.png"),
        (["empty.png", "--scale", "4"], "empty.png"),
        (["none.png", "--scale", "4"], "none.png"),
        (["fine.png", "--out", "large.tif"], ".webp"),
        (["fine.png", "--out", "no/such/a.png"], "no/such"),
    ] {
        fails(dir.path(), &[&["upscale"], arguments.as_slice()].concat(), message);
    }
    assert_eq!(kiln(dir.path(), &["upscale", "fine.png", "--scale", "3"]).status.code(), Some(2));
    assert_eq!(kiln(dir.path(), &["upscale", "fine.png", "--scale", "0"]).status.code(), Some(2));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before, "something was written");
}

/// Within the limit of what is read, and beyond it once enlarged.
#[test]
fn a_result_of_too_many_pixels_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Picture::new(6000, 3000, Channels::Grey, vec![7; 18_000_000])
        .unwrap()
        .write_png(dir.path().join("wide.png"))
        .unwrap();
    fails(
        dir.path(),
        &["upscale", "wide.png", "--scale", "4", "--method", "nearest"],
        "6000 x 3000 pixels are too many",
    );
}

/// A photograph that its EXIF turns by 90 degrees, enlarged as it is seen; a WebP in, and each format out.
#[test]
fn photographs_are_turned_and_formats_go_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../picture/tests/golden");
    for name in ["orientation.6.jpg", "orientation.6.webp"] {
        fs::copy(goldens.join(name), dir.path().join(name)).unwrap();
        let upright = Picture::open(goldens.join(name)).unwrap();
        let larger = written(dir.path(), &[name, "--method", "bicubic"]);
        let expected = upright.resize(2 * upright.width(), 2 * upright.height(), Filter::Bicubic).unwrap();
        assert_eq!(larger, expected, "{name}");
        assert_ne!(upright.width(), upright.height());
    }
    let picture = waves(12, 9, Channels::Rgba);
    picture.write(dir.path().join("a.webp"), Encoding::WebP).unwrap();
    let bytes = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let larger = written(dir.path(), &["a.webp", "--method", "lanczos", "--out", "b.WEBP"]);
    assert_eq!(larger, picture.resize(24, 18, Filter::Lanczos).unwrap());
    assert_eq!(Format::of(&bytes("b.WEBP")), Some(Format::WebP));
    fails(dir.path(), &["upscale", "a.webp", "--method", "lanczos", "--out", "b.jpg"], "opacity");
    waves(12, 9, Channels::Grey).write_png(dir.path().join("grey.png")).unwrap();
    let size = |quality: &str| {
        let options = ["grey.png", "--method", "lanczos", "--out", "grey.jpeg", "--quality", quality];
        let larger = written(dir.path(), &options);
        assert_eq!((larger.width(), larger.channels()), (24, Channels::Grey));
        bytes("grey.jpeg").len()
    };
    assert!(size("10") < size("98"));
}
