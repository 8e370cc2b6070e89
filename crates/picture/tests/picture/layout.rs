//! Laws of pictures, crops, frames and grids, with expected values worked out by hand.

use kiln_picture::{Channels, Filter, Picture, PictureError, grid};
use proptest::prelude::*;

fn grey(width: u32, height: u32, samples: &[u8]) -> Picture {
    Picture::new(width, height, Channels::Grey, samples.to_vec()).unwrap()
}

#[test]
fn a_picture_has_as_many_samples_as_its_size_says() {
    let error = Picture::new(2, 3, Channels::Rgb, vec![0; 17]).unwrap_err();
    assert!(matches!(error, PictureError::SampleCount { expected: 18, found: 17, .. }));
    assert_eq!(error.to_string(), "2 x 3 RGB takes 18 samples, got 17");
    for (width, height) in [(0, 3), (3, 0), (0, 0)] {
        let error = Picture::new(width, height, Channels::Grey, vec![]).unwrap_err();
        assert!(matches!(error, PictureError::EmptySize { .. }));
    }
    // 2^32 x 2^32 x 4 is more than 64 bits hold.
    let error = Picture::new(u32::MAX, u32::MAX, Channels::Rgba, vec![0; 4]).unwrap_err();
    assert!(matches!(error, PictureError::SampleCount { .. }));
}

#[test]
fn crop_takes_the_named_part_and_nothing_beyond() {
    let picture = grey(3, 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(picture.crop(1, 0, 2, 2).unwrap(), grey(2, 2, &[2, 3, 5, 6]));
    assert_eq!(picture.crop(2, 2, 1, 1).unwrap(), grey(1, 1, &[9]));
    for part in [(1, 0, 3, 1), (0, 1, 1, 3), (3, 0, 1, 1), (u32::MAX, 0, 1, 1), (1, 0, u32::MAX, 1)] {
        let error = picture.crop(part.0, part.1, part.2, part.3).unwrap_err();
        assert!(matches!(error, PictureError::OutsidePicture { .. }), "{part:?}: {error}");
    }
    assert!(matches!(picture.crop(0, 0, 0, 1), Err(PictureError::EmptySize { .. })));
}

#[test]
fn cover_fills_frames_of_any_shape() {
    // Enlarged twice by nearest, then the middle columns.
    let picture = grey(4, 2, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(picture.cover(2, 2, Filter::Nearest).unwrap(), grey(2, 2, &[2, 3, 6, 7]));
    let high = picture.cover(1, 2, Filter::Nearest).unwrap();
    // (4 - 1) / 2 = 1.5 is rounded to the even 2.
    assert_eq!(high, grey(1, 2, &[3, 7]));
    assert_eq!(
        picture.cover(8, 2, Filter::Nearest).unwrap(),
        grey(8, 2, &[1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8])
    );
    assert!(matches!(picture.cover(0, 2, Filter::Box), Err(PictureError::EmptySize { .. })));
}

#[test]
fn a_line_covers_a_frame_at_the_cost_of_the_frame() {
    // Resized whole, this would be 60,000 * 512 = 30,720,000 columns of 512 rows: 15 GB.
    let line = grey(60_000, 1, &vec![77; 60_000]);
    let covered = line.cover(512, 512, Filter::Bicubic).unwrap();
    assert!(covered.samples().iter().all(|&sample| sample == 77));
}

#[test]
fn sizes_that_no_memory_holds_are_errors() {
    let picture = grey(2, 2, &[1, 2, 3, 4]);
    for filter in [Filter::Nearest, Filter::Bicubic] {
        assert!(matches!(picture.resize(0, 1, filter), Err(PictureError::EmptySize { .. })));
        let error = picture.resize(u32::MAX, u32::MAX, filter).unwrap_err();
        assert!(matches!(error, PictureError::OutOfMemory { .. }), "{error}");
    }
}

#[test]
fn grid_lays_out_as_torchvisions_make_grid() {
    let pictures = [grey(2, 1, &[1, 2]), grey(2, 1, &[3, 4]), grey(2, 1, &[5, 6])];
    #[rustfmt::skip]
    let expected = grey(7, 5, &[
        0, 0, 0, 0, 0, 0, 0,
        0, 1, 2, 0, 3, 4, 0,
        0, 0, 0, 0, 0, 0, 0,
        0, 5, 6, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(grid(&pictures, 2, 1).unwrap(), expected);
    // More columns than pictures are not drawn.
    assert_eq!(grid(&pictures, 9, 0).unwrap(), grey(6, 1, &[1, 2, 3, 4, 5, 6]));
}

#[test]
fn grid_refuses_what_does_not_fit_together() {
    let small = grey(1, 1, &[1]);
    let wide = grey(2, 1, &[1, 2]);
    assert!(matches!(grid(&[], 1, 0), Err(PictureError::EmptyGrid { .. })));
    assert!(matches!(grid(std::slice::from_ref(&small), 0, 0), Err(PictureError::EmptyGrid { .. })));
    assert!(matches!(grid(&[small.clone(), wide], 1, 0), Err(PictureError::UnlikeInGrid { index: 1, .. })));
    let colour = small.convert(Channels::Rgb);
    assert!(matches!(
        grid(&[small.clone(), small.clone(), colour], 1, 0),
        Err(PictureError::UnlikeInGrid { index: 2, .. })
    ));
    assert!(matches!(grid(&[small], 1, u32::MAX), Err(PictureError::OutOfMemory { .. })));
}

fn any_picture() -> impl Strategy<Value = Picture> {
    let channels = prop::sample::select(crate::ALL_CHANNELS.map(|(_, channels)| channels).to_vec());
    (1_u32..20, 1_u32..20, channels).prop_flat_map(|(width, height, channels)| {
        prop::collection::vec(any::<u8>(), (width * height) as usize * channels.count())
            .prop_map(move |samples| Picture::new(width, height, channels, samples).unwrap())
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    use Filter::{Bicubic, Bilinear, Box, Hamming, Lanczos, Nearest};
    prop::sample::select(vec![Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos])
}

proptest! {
    /// Weights add up to one: an even picture stays what it is, at any size, under any filter.
    #[test]
    fn an_even_picture_stays_even(
        value in any::<u8>(), from in (1_u32..40, 1_u32..40), to in (1_u32..40, 1_u32..40), filter in any_filter(),
    ) {
        let picture = grey(from.0, from.1, &vec![value; (from.0 * from.1) as usize]);
        let resized = picture.resize(to.0, to.1, filter).unwrap();
        prop_assert_eq!((resized.width(), resized.height()), to);
        prop_assert!(resized.samples().iter().all(|&sample| sample == value));
    }

    /// What `cover` computes of the part alone is what resizing the whole and cutting gives.
    #[test]
    fn cover_is_a_part_of_resize(picture in any_picture(), side in 1_u32..24, filter in any_filter()) {
        let (width, height) = (picture.width(), picture.height());
        let (short, long) = (width.min(height), width.max(height));
        let long = side * long / short;
        let size = if width < height { (side, long) } else { (long, side) };
        let middle = |length: u32| ((f64::from(length - side)) / 2.0).round_ties_even() as u32;
        let whole = picture.resize(size.0, size.1, filter).unwrap();
        let expected = whole.crop(middle(size.0), middle(size.1), side, side).unwrap();
        prop_assert_eq!(picture.cover(side, side, filter).unwrap(), expected);
    }

    /// PNG keeps every layout and every sample.
    #[test]
    fn png_gives_the_picture_back(picture in any_picture()) {
        prop_assert_eq!(Picture::decode(&picture.encode_png()).unwrap(), picture);
    }
}
