//! Files of every kind that is read: orientation, depth, palettes, lossy formats.

use kiln_picture::{Channels, Format, Limits, Picture, PictureError};
use rstest::rstest;

use crate::{golden, golden_bytes, golden_path, largest_difference};

#[rstest]
fn every_exif_orientation_comes_out_upright(#[values(1, 2, 3, 4, 5, 6, 7, 8)] orientation: u32) {
    let upright = golden("upright.png");
    assert_ne!(upright.width(), upright.height(), "a turn must show in the size");
    for ending in ["png", "webp"] {
        assert_eq!(golden(&format!("orientation.{orientation}.{ending}")), upright, "{ending}");
    }
    // Lossy, but the letter is made of whole blocks: any other orientation is off by some 200 levels.
    let jpeg = golden(&format!("orientation.{orientation}.jpg"));
    let differs = largest_difference(&jpeg, &upright);
    assert!(differs <= 4, "jpg: {differs}");
}

/// A picture whose EXIF block is damaged is shown as it is stored.
#[test]
fn broken_exif_is_no_reason_to_refuse_the_pixels() {
    let mut bytes = golden_bytes("orientation.6.jpg");
    let at = bytes.windows(6).position(|window| window == b"Exif\0\0").unwrap() + 6;
    bytes[at..at + 4].fill(b'?');
    let stored = Picture::decode(&bytes).unwrap();
    assert_eq!(
        (stored.width(), stored.height()),
        (golden("upright.png").height(), golden("upright.png").width())
    );
}

#[test]
fn sixteen_bits_give_their_upper_byte() {
    assert_eq!(golden("deep.png"), golden("source.RGB.png"));
}

#[test]
fn palettes_and_single_bits_are_expanded() {
    assert_eq!(golden("palette.png"), golden("palette.expected.png"));
    assert_eq!(golden("bits.png"), golden("bits.expected.png"));
}

#[test]
fn lossless_webp_is_read_to_the_bit() {
    assert_eq!(golden("lossless.webp"), golden("source.RGBA.png"));
}

/// Decoders may differ by their rounding of the inverse transform and their interpolation of colour.
#[rstest]
#[case::grey("grey.jpg", 2)]
#[case::baseline("baseline.jpg", 5)]
#[case::progressive("progressive.jpg", 5)]
#[case::webp("lossy.webp", 5)]
fn lossy_formats_are_read_as_pillow_reads_them(#[case] name: &str, #[case] levels: u8) {
    let differs = largest_difference(&golden(name), &golden(&format!("{name}.expected.png")));
    assert!(differs <= levels, "{name}: differs by up to {differs} levels");
}

#[test]
fn layouts_are_those_of_the_file() {
    for (name, channels) in [
        ("grey.jpg", Channels::Grey),
        ("baseline.jpg", Channels::Rgb),
        ("lossless.webp", Channels::Rgba),
        ("source.LA.png", Channels::GreyAlpha),
    ] {
        assert_eq!(golden(name).channels(), channels, "{name}");
    }
}

#[test]
fn formats_are_told_by_content() {
    assert_eq!(Format::of(&golden_bytes("grey.jpg")), Some(Format::Jpeg));
    assert_eq!(Format::of(&golden_bytes("lossless.webp")), Some(Format::WebP));
    let folder = tempfile::tempdir().unwrap();
    let misnamed = folder.path().join("picture.png");
    std::fs::copy(golden_path("grey.jpg"), &misnamed).unwrap();
    assert_eq!(Picture::open(misnamed).unwrap(), golden("grey.jpg"));
}

#[test]
fn errors_name_the_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.png");
    let error = Picture::open(&missing).unwrap_err();
    assert!(matches!(error.reason(), PictureError::Read(_)));
    assert_eq!(error.path(), Some(missing.as_path()));
    assert_eq!(error.to_string().matches("missing.png").count(), 1, "{error}");

    let text = folder.path().join("text.png");
    std::fs::write(&text, "no picture").unwrap();
    let error = Picture::open(&text).unwrap_err();
    assert!(matches!(error.reason(), PictureError::UnknownFormat));
    assert!(error.to_string().ends_with("text.png: is not a PNG, JPEG or WebP picture"), "{error}");

    assert!(matches!(Picture::open(folder.path()).unwrap_err().reason(), PictureError::Read(_)));
    assert!(matches!(Picture::decode(b""), Err(PictureError::UnknownFormat)));
}

#[test]
fn limits_hold_for_every_format() {
    for name in ["source.RGB.png", "baseline.jpg", "lossless.webp"] {
        let bytes = golden_bytes(name);
        let exact = Limits { max_side: 37, max_pixels: 37 * 29 };
        assert!(Picture::decode_within(&bytes, exact).is_ok(), "{name}");
        for limits in [Limits { max_side: 36, ..exact }, Limits { max_pixels: 37 * 29 - 1, ..exact }] {
            let error = Picture::decode_within(&bytes, limits).unwrap_err();
            assert!(matches!(error, PictureError::TooLarge { width: 37, height: 29, .. }), "{name}: {error}");
        }
    }
}
