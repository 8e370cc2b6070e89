//! Tile by tile gives what the whole picture does.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use kiln_checkpoint::Checkpoint;
use kiln_picture::{Channels, Filter, Picture};
use kiln_upsampling::{
    DatConfig, Mode, Next, SrVggConfig, Target, Tiles, TilesError, Upsample, enlarge, enlarge_by_bands,
    nearest, weights,
};
use rstest::rstest;

fn waves(width: u32, height: u32) -> Picture {
    let sample = |i: u32| {
        let (x, y) = ((i / 3 % width) as f32, (i / 3 / width) as f32);
        (127.0 + 100.0 * (x * 0.4 + y * 0.3 * (1 + i % 3) as f32).sin()) as u8
    };
    Picture::new(width, height, Channels::Rgb, (0..width * height * 3).map(sample).collect()).unwrap()
}

fn largest_difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.samples().iter().zip(b.samples()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[rstest]
#[case(Tiles { side: 16, margin: 4, blend: 0 })]
#[case(Tiles { side: 16, margin: 8, blend: 4 })]
#[case(Tiles { side: 7, margin: 6, blend: 1 })]
fn interpolation_in_tiles(#[case] tiles: Tiles) {
    let device = Device::flex();
    let picture = waves(45, 33);
    for mode in [Mode::Nearest, Mode::Bilinear, Mode::Bicubic] {
        for scale in [1, 2, 3] {
            let layer = Upsample::new(Target::Factor([scale as f64; 2]), mode);
            let run = |tiles| {
                enlarge(&picture, scale, tiles, &device, |x| layer.forward(x), |_, _| Next::On).unwrap()
            };
            let whole = run(Tiles { side: 64, margin: 0, blend: 0 });
            assert!(largest_difference(&run(tiles), &whole) <= 1, "{mode:?}, {scale} times, {tiles:?}");
        }
    }
}

#[test]
fn a_network_of_bounded_reach_in_tiles() {
    let device = Device::flex();
    let config = SrVggConfig::anime_video_v3();
    let weights = Checkpoint::from_bytes(weights::REALESR_ANIME_X4).unwrap();
    let network = weights.load_into(config.init(&device)).unwrap().module;
    let picture = waves(50, 31);
    let run = |tiles| enlarge(&picture, 4, tiles, &device, |x| network.forward(x), |_, _| Next::On).unwrap();
    let whole = run(Tiles { side: 64, margin: 0, blend: 0 });
    assert!(largest_difference(&run(Tiles { side: 24, margin: config.reach(), blend: 0 }), &whole) <= 1);
    // With less around them, tiles do differ: the margin is needed.
    assert!(largest_difference(&run(Tiles { side: 24, margin: 2, blend: 0 }), &whole) > 1);
}

#[test]
fn progress_counts_and_stops() {
    let device = Device::flex();
    let picture = waves(40, 20);
    let tiles = Tiles { side: 10, margin: 0, blend: 0 };
    let mut seen = Vec::new();
    let network = |x: Tensor<4>| {
        let [_, _, height, width] = x.dims();
        nearest(x, [2 * height, 2 * width])
    };
    let larger = enlarge(&picture, 2, tiles, &device, network, |done, total| {
        seen.push((done, total));
        Next::On
    });
    assert_eq!(larger.unwrap().width(), 80);
    assert_eq!(seen, (1..=8).map(|done| (done, 8)).collect::<Vec<_>>());
    let stopped = enlarge(&picture, 2, tiles, &device, network, |_, _| Next::Stop);
    assert!(matches!(stopped, Err(TilesError::Stopped { done: 1, total: 8 })));
}

#[test]
fn a_scale_that_overflows_and_a_network_of_another_scale_are_errors() {
    let device = Device::flex();
    let picture = waves(40, 20);
    let tiles = Tiles { side: 10, margin: 0, blend: 0 };
    for scale in [usize::MAX, 1 << 30, (u32::MAX as usize) / 40] {
        let error = enlarge(&picture, scale, tiles, &device, |x| x, |_, _| Next::On).unwrap_err();
        assert!(matches!(error, TilesError::TooLarge { .. } | TilesError::Picture(_)), "{error}");
    }
    let error = enlarge(&picture, 2, tiles, &device, |x| x, |_, _| Next::On).unwrap_err();
    assert!(matches!(error, TilesError::Shape { .. }), "{error}");
    let error = enlarge(&picture, 1, tiles, &device, |x| x * f32::NAN, |_, _| Next::On).unwrap_err();
    assert!(matches!(error, TilesError::Values), "{error}");
}

/// The middle of a photograph, `side` pixels wide and high.
fn photo(side: u32) -> Picture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kiln/data/photos/train/chelsea.jpg");
    let photo = Picture::open(path).unwrap().convert(Channels::Rgb);
    photo.crop((photo.width() - side) / 2, (photo.height() - side) / 2, side, side).unwrap()
}

fn psnr(a: &Picture, b: &Picture) -> f64 {
    let squares = a.samples().iter().zip(b.samples()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    10.0 * (255.0_f64.powi(2) * a.samples().len() as f64 / squares.sum::<f64>()).log10()
}

/// How much pixels differ from those to their left, as a root of mean squares over each column from 1 on.
fn steps(picture: &Picture) -> Vec<f64> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let at = |x: usize, y: usize, c: usize| f64::from(picture.samples()[(y * width + x) * 3 + c]);
    let column = |x: usize| {
        let squares = (0..3 * height).map(|i| (at(x, i / 3, i % 3) - at(x - 1, i / 3, i % 3)).powi(2));
        (squares.sum::<f64>() / (3 * height) as f64).sqrt()
    };
    (1..width).map(column).collect()
}

/// DAT's channel attention looks at the whole picture, so that tiles differ a little from it: no seam may be seen, and what is
/// lost is less than 0.05 dB.
#[test]
fn a_network_that_looks_at_everything_shows_no_seam() {
    let device = Device::flex();
    let weights = Checkpoint::from_bytes(weights::DAT_LIGHT_X2).unwrap();
    let network = weights.load_into(DatConfig::light(2).init(&device)).unwrap().module;
    let truth = photo(192);
    let small = truth.resize(96, 96, Filter::Bicubic).unwrap();
    let run = |tiles| enlarge(&small, 2, tiles, &device, |x| network.forward(x), |_, _| Next::On).unwrap();
    let whole = run(Tiles { side: 96, margin: 0, blend: 0 });
    // Borders at column 96 of the result, as the program has them at 256 and so on.
    let border = 96;
    let tiled = run(Tiles { side: 48, margin: 16, blend: 8 });
    let lost = psnr(&whole, &truth) - psnr(&tiled, &truth);
    assert!(lost.abs() < 0.05, "{lost} dB");
    assert!(psnr(&whole, &tiled) < 60.0, "tiles do differ");
    let (whole, tiled) = (steps(&whole), steps(&tiled));
    let ratio = |x: usize| tiled[x - 1] / whole[x - 1];
    let inside = (16..80).chain(112..176).map(ratio).fold(0.0, f64::max);
    let across = (border - 1..=border + 1).map(ratio).fold(0.0, f64::max);
    assert!(
        across <= inside.max(1.0),
        "a step of {across} of the whole picture's, where {inside} is the most inside"
    );
    // Without what they share, a seam is there.
    let cut = steps(&run(Tiles { side: 48, margin: 0, blend: 0 }));
    assert!(cut[border - 1] / whole[border - 1] > inside.max(1.0) * 1.02);
}

/// Rows in bands are the rows of the whole.
#[test]
fn bands_are_the_whole_in_order() {
    let device = Device::flex();
    let picture = waves(33, 50);
    let tiles = Tiles { side: 16, margin: 8, blend: 4 };
    let layer = Upsample::new(Target::Factor([2.0; 2]), Mode::Bicubic);
    let whole = enlarge(&picture, 2, tiles, &device, |x| layer.forward(x), |_, _| Next::On).unwrap();
    let (mut rows, mut bands) = (Vec::new(), 0);
    let take = |band: &[u8]| {
        rows.extend_from_slice(band);
        bands += 1;
        Ok(())
    };
    enlarge_by_bands(&picture, 2, tiles, &device, |x| layer.forward(x), |_, _| Next::On, take).unwrap();
    assert_eq!((rows.as_slice(), bands), (whole.samples(), 4));
}
