//! Tile by tile gives what the whole picture does.

use burn::tensor::{Device, Tensor};
use kiln_checkpoint::Checkpoint;
use kiln_picture::{Channels, Picture};
use kiln_upsampling::{
    Mode, Next, SrVggConfig, Target, Tiles, TilesError, Upsample, enlarge, nearest, weights,
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
