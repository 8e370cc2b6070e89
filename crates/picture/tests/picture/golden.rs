//! Equality with Pillow, to the bit: tests/reference/picture.py made the files.

use kiln_picture::{Filter, Picture};
use rstest::rstest;

use crate::{ALL_CHANNELS, golden, largest_difference};

/// As in the script.
const SIZES: [(u32, u32); 10] =
    [(17, 13), (41, 31), (37, 11), (7, 29), (55, 5), (3, 47), (1, 1), (36, 29), (34, 23), (34, 22)];

#[rstest]
#[case::nearest("nearest", Filter::Nearest)]
#[case::box_("box", Filter::Box)]
#[case::bilinear("bilinear", Filter::Bilinear)]
#[case::hamming("hamming", Filter::Hamming)]
#[case::bicubic("bicubic", Filter::Bicubic)]
#[case::lanczos("lanczos", Filter::Lanczos)]
fn resize_gives_pillows_bits(#[case] name: &str, #[case] filter: Filter) {
    for (mode, channels) in ALL_CHANNELS {
        let source = golden(&format!("source.{mode}.png"));
        assert_eq!(source.channels(), channels);
        let sheet = golden(&format!("resized.{mode}.{name}.png"));
        let mut top = 0;
        for (width, height) in SIZES {
            let expected = sheet.crop(0, top, width, height).unwrap();
            let found = source.resize(width, height, filter).unwrap();
            let differs = largest_difference(&found, &expected);
            assert_eq!(differs, 0, "{mode} {name} {width} x {height}: differs by up to {differs} levels");
            top += height;
        }
    }
    let wide = golden("wide.png");
    assert_eq!(wide.resize(11, 2, filter).unwrap(), golden(&format!("wide.reduced.{name}.png")));
    assert_eq!(wide.resize(1501, 1, filter).unwrap(), golden(&format!("wide.enlarged.{name}.png")));
}

/// Proof that the goldens can tell filters apart: no two give the same picture.
#[test]
fn filters_differ_from_one_another() {
    let names = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"];
    let sheets = names.map(|name| golden(&format!("resized.RGB.{name}.png")));
    for (i, a) in sheets.iter().enumerate() {
        for (b, name) in sheets.iter().zip(names).skip(i + 1) {
            assert!(largest_difference(a, b) > 0, "{} and {name}", names[i]);
        }
    }
}

#[test]
fn convert_gives_pillows_values() {
    for (from, _) in ALL_CHANNELS {
        let source = golden(&format!("source.{from}.png"));
        for (to, channels) in ALL_CHANNELS {
            let found = source.convert(channels);
            if from == to {
                assert_eq!(found, source);
            } else {
                assert_eq!(found, golden(&format!("converted.{from}.{to}.png")), "{from} to {to}");
            }
        }
    }
}

#[test]
fn cover_is_resize_and_centre_crop_of_torchvision() {
    let wide = golden("source.RGB.png");
    let (width, height) = (wide.width(), wide.height());
    let mut samples = Vec::new();
    // PIL's ROTATE_90 is counterclockwise: column x of the result is row x of the source, read from the right end.
    for y in 0..width {
        for x in 0..height {
            let at = ((x * width) + (width - 1 - y)) as usize * 3;
            samples.extend_from_slice(&wide.samples()[at..at + 3]);
        }
    }
    let high = Picture::new(height, width, wide.channels(), samples).unwrap();
    for (name, picture) in [("wide", wide), ("high", high)] {
        for side in [8, 12, 29, 41] {
            let found = picture.cover(side, side, Filter::Bicubic).unwrap();
            assert_eq!(found, golden(&format!("covered.{name}.{side}.png")), "{name} {side}");
        }
    }
}
