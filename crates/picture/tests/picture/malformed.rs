//! Broken files: an error or a picture, never a panic, and never more memory than the limits allow.

use kiln_picture::{Format, Limits, Picture, PictureError};
use proptest::prelude::*;

use crate::golden_bytes;

const VALID: [&str; 6] =
    ["source.RGBA.png", "palette.png", "baseline.jpg", "progressive.jpg", "lossless.webp", "lossy.webp"];

/// Small, so that a flipped bit of a size can't make a test slow.
const LIMITS: Limits = Limits { max_side: 512, max_pixels: 1 << 16 };

/// Decodes; whatever comes out must keep to the limits.
fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    let result = Picture::decode_within(bytes, LIMITS);
    if let Ok(picture) = &result {
        assert!(picture.width().max(picture.height()) <= LIMITS.max_side);
        assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.max_pixels);
        assert_eq!(
            picture.samples().len(),
            picture.width() as usize * picture.height() as usize * picture.channels().count()
        );
    }
    result
}

fn with_png_size(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = golden_bytes("source.L.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    bytes
}

fn with_jpeg_size(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = golden_bytes("baseline.jpg");
    // Start of frame: FF C0, length, precision, height, width.
    let at = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// The most address space that this process ever had, in bytes.
fn peak_address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// 50,000 x 50,000 pixels would take 2.5 GB in grey and 7.5 GB in colour.
#[test]
fn a_header_of_enormous_size_takes_no_memory() {
    let before = peak_address_space();
    for bytes in [with_png_size(50_000, 50_000), with_jpeg_size(50_000, 50_000)] {
        let error = Picture::decode(&bytes).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { width: 50_000, height: 50_000, .. }), "{error}");
    }
    for (width, height) in [(u32::MAX, u32::MAX), (0x7fff_ffff, 1), (1, 0x7fff_ffff)] {
        let error = Picture::decode(&with_png_size(width, height)).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { .. }), "{error}");
    }
    if let (Some(before), Some(after)) = (before, peak_address_space()) {
        // Other tests run beside this one; their threads' stacks and heaps are far below this.
        assert!(after - before < 2 << 30, "{} MB more at the peak", (after - before) >> 20);
    }
}

#[test]
fn a_size_of_nothing_is_an_error() {
    for bytes in [with_png_size(0, 5), with_png_size(5, 0), with_jpeg_size(0, 5), with_jpeg_size(5, 0)] {
        let error = Picture::decode(&bytes).unwrap_err();
        assert!(matches!(error, PictureError::Malformed { .. }), "{error}");
    }
}

/// Cut anywhere before its pixels are complete, a file is an error, not a picture with a grey part.
#[test]
fn every_truncation_is_an_error() {
    for name in VALID {
        let bytes = golden_bytes(name);
        // A PNG is complete with its last IDAT (its checksum and IEND follow); others are with their last bytes.
        let complete = match Format::of(&bytes) {
            Some(Format::Png) => bytes.len() - 16,
            Some(Format::WebP) => bytes.len() - 8,
            _ => bytes.len(),
        };
        for length in 0..complete {
            assert!(decode(&bytes[..length]).is_err(), "{name}: {length} of {} bytes", bytes.len());
        }
    }
}

/// The end-of-image marker of a thumbnail is not the picture's.
#[test]
fn a_jpeg_with_a_thumbnail_is_cut_short_all_the_same() {
    let picture = golden_bytes("baseline.jpg");
    let thumbnail = golden_bytes("grey.jpg");
    let mut bytes = picture[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend((thumbnail.len() as u16 + 2).to_be_bytes());
    bytes.extend(&thumbnail);
    bytes.extend(&picture[2..]);
    assert_eq!(decode(&bytes).unwrap(), decode(&picture).unwrap());
    let error = decode(&bytes[..bytes.len() - 2]).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
}

/// What follows the end is not the picture's business (cameras append to their JPEGs).
#[test]
fn bytes_after_the_end_are_passed_over() {
    for name in ["source.RGBA.png", "baseline.jpg"] {
        let mut bytes = golden_bytes(name);
        bytes.extend(b"and more");
        assert!(decode(&bytes).is_ok(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..512), head in 0_usize..4) {
        let magic: [&[u8]; 4] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\0\0\0WEBPVP8 ", b""];
        bytes.splice(0..0, magic[head].iter().copied());
        let _ = decode(&bytes);
    }

    #[test]
    fn flipped_bits_never_panic(
        which in 0..VALID.len(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..12),
    ) {
        let mut bytes = golden_bytes(VALID[which]);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = decode(&bytes);
    }

    /// Flips in the first bytes, where sizes and tables stand.
    #[test]
    fn flipped_headers_never_panic(which in 0..VALID.len(), at in 0_usize..700, value in any::<u8>()) {
        let mut bytes = golden_bytes(VALID[which]);
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = decode(&bytes);
    }

    #[test]
    fn cut_out_parts_never_panic(which in 0..VALID.len(), from in any::<prop::sample::Index>(), length in 1_usize..200) {
        let mut bytes = golden_bytes(VALID[which]);
        let from = from.index(bytes.len());
        bytes.drain(from..(from + length).min(bytes.len()));
        let _ = decode(&bytes);
    }
}
