//! What holds of every autoencoder, whatever its weights.

use burn::tensor::{Device, Tensor};
use kiln_autoencoder::{AutoencoderKL, AutoencoderKLConfig, DiagonalGaussian, Pieces, Tiling, TilingError};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use rstest::rstest;

const TWO_STAGES: &str = r#"{
    "block_out_channels": [4, 8], "norm_num_groups": 2, "sample_size": 16, "mid_block_add_attention": false,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]
}"#;

fn small(device: &Device) -> AutoencoderKL {
    device.seed(3);
    AutoencoderKLConfig::from_json(TWO_STAGES).unwrap().init(device).unwrap()
}

fn drawn(shape: [usize; 4], step: u64, device: &Device) -> Tensor<4> {
    normal(shape, NoiseKey { seed: 1, sample: 0, step }, device)
}

fn values(x: Tensor<4>) -> Vec<f32> {
    x.into_data().iter().collect()
}

fn largest_difference(left: Tensor<4>, right: Tensor<4>) -> f32 {
    assert_eq!(left.dims(), right.dims());
    values(left).iter().zip(values(right)).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max)
}

/// Sample by sample, and in tiles as large as the picture, the result is that of the whole batch.
#[rstest]
#[case::samples(Pieces::Samples)]
#[case::one_tile(Pieces::Tiles(Tiling::new(8, 2).unwrap()))]
fn pieces_that_cut_nothing_change_nothing(#[case] pieces: Pieces) {
    // On one backend: nothing here depends on it, and the goldens run on all.
    let device = Device::flex();
    let model = small(&device);
    let image = drawn([3, 3, 16, 12], 0, &device);
    let encoded = model.encode_in(image.clone(), pieces);
    assert!(largest_difference(encoded.mean, model.encode(image).mean) < 1e-5);
    let latent = drawn([3, 4, 8, 6], 1, &device);
    assert!(largest_difference(model.decode_in(latent.clone(), pieces), model.decode(latent)) < 1e-5);
}

/// Tiles differ from the whole by what their norms see, and by nothing as abrupt as a seam: where one tile passes into the
/// next, the picture changes from pixel to pixel by no more than it does elsewhere.
#[test]
fn a_blend_leaves_no_seam() {
    let device = Device::flex();
    let model = small(&device);
    // A plane that rises to the right: where nothing is cut, every column differs from the last by little.
    let ramp: Vec<f32> = (0..32).map(|x| x as f32 / 32.0).collect();
    let latent =
        Tensor::<1>::from_floats(ramp.as_slice(), &device).reshape([1, 1, 1, 32]).expand([1, 4, 8, 32]);
    let steps = |x: Tensor<4>| -> Vec<f32> {
        let width = x.dims()[3];
        let step = x.clone().narrow(3, 1, width - 1) - x.narrow(3, 0, width - 1);
        step.abs().mean_dims(&[0, 1, 2]).into_data().iter().collect()
    };
    // Edges of the picture are edges of tiles anyway.
    let inner = |steps: Vec<f32>| steps[8..56].iter().copied().fold(0.0, f32::max);
    let blended = inner(steps(model.decode_in(latent.clone(), Pieces::Tiles(Tiling::new(16, 8).unwrap()))));
    let abutted = inner(steps(model.decode_in(latent, Pieces::Tiles(Tiling::new(16, 0).unwrap()))));
    assert!(3.0 * blended < abutted, "largest step {blended} blended, {abutted} abutted");
}

/// Whatever the sides and the tiles, the result has the size of the whole.
#[rstest]
#[case::even([24, 40], 8, 2)]
#[case::last_tile_of_a_pixel([34, 26], 8, 4)]
#[case::no_overlap([30, 18], 5, 0)]
#[case::wide([6, 50], 8, 2)]
#[case::less_than_a_latent_pixel_left([25, 17], 6, 2)]
#[case::overlap_of_all_but_one([20, 12], 4, 3)]
fn tiles_cover_every_picture(#[case] sides: [usize; 2], #[case] tile: usize, #[case] overlap: usize) {
    let device = Device::flex();
    let model = small(&device);
    let pieces = Pieces::Tiles(Tiling::new(tile, overlap).unwrap());
    let image = Tensor::zeros([1, 3, sides[0], sides[1]], &device);
    let latent = model.encode(image.clone()).mode();
    assert_eq!(latent.dims(), [1, 4, sides[0] / 2, sides[1] / 2]);
    assert_eq!(model.encode_in(image, pieces).mode().dims(), latent.dims());
    assert_eq!(model.decode_in(latent.clone(), pieces).dims(), model.decode(latent).dims());
}

#[test]
fn tiles_that_overlap_whole_are_refused() {
    assert_eq!(Tiling::new(4, 4), Err(TilingError { tile: 4, overlap: 4 }));
    assert!(Tiling::new(0, 0).unwrap_err().to_string().contains("0 latent pixels"));
}

fn with(json: &str, device: &Device) -> AutoencoderKL {
    AutoencoderKLConfig::from_json(json).unwrap().init(device).unwrap()
}

/// A latent through `scale` and back; `scale` itself against the formula.
#[rstest]
#[case::scaled(r#"{"scaling_factor": 0.18215}"#, [0.0; 4], [1.0 / 0.18215; 4])]
#[case::shifted(r#"{"scaling_factor": 1.5305, "shift_factor": 0.0609}"#, [0.0609; 4], [1.0 / 1.5305; 4])]
#[case::by_channel(
    r#"{"scaling_factor": 2.0, "latents_mean": [0.5, 0.0, -1.0, 3.0], "latents_std": [1.0, 2.0, 4.0, 0.5]}"#,
    [0.5, 0.0, -1.0, 3.0], [0.5, 1.0, 2.0, 0.25])]
fn scaling_is_undone(#[case] json: &str, #[case] mean: [f32; 4], #[case] deviation: [f32; 4]) {
    for (backend, device) in testing::devices() {
        let model = with(json, &device);
        let latent = drawn([2, 4, 3, 3], 0, &device);
        let scaled = model.scale(latent.clone());
        let expected: Vec<f32> = values(latent.clone())
            .into_iter()
            .enumerate()
            .map(|(i, z)| (z - mean[i / 9 % 4]) / deviation[i / 9 % 4])
            .collect();
        for (found, expected) in values(scaled.clone()).into_iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                "{backend}: {found}, {expected}"
            );
        }
        assert!(largest_difference(model.unscale(scaled), latent) < 1e-5, "{backend}");
    }
}

/// Of the two halves of the channels the first is the mean; samples have the mean and the variance that they say.
#[test]
fn samples_follow_the_distribution() {
    for (backend, device) in testing::devices() {
        let moments = Tensor::<4>::from_floats([[[[1.5_f32]], [[-2.0]]]], &device).repeat(&[1, 1, 50, 80]);
        let latents = DiagonalGaussian::from_moments(moments);
        let samples = values(latents.sample(drawn([1, 1, 50, 80], 4, &device)));
        let mean = samples.iter().sum::<f32>() / 4000.0;
        let variance = samples.iter().map(|z| (z - mean).powi(2)).sum::<f32>() / 4000.0;
        // Three deviations of 4,000 draws.
        assert!((mean - 1.5).abs() < 0.018, "{backend}: {mean}");
        assert!((variance / (-2.0_f32).exp() - 1.0).abs() < 0.07, "{backend}: {variance}");
        assert_eq!(values(latents.mode())[0], 1.5);
    }
}

/// `(mean² + variance - 1 - log variance) / 2`: nothing for the standard normal, a number known otherwise.
#[test]
fn divergence_from_the_standard_normal() {
    for (backend, device) in testing::devices() {
        let mean = Tensor::from_floats([[[[0.0_f32, 0.0]]], [[[2.0, 0.0]]]], &device);
        let log_variance = Tensor::from_floats([[[[0.0_f32, 0.0]]], [[[0.0, 1.0]]]], &device);
        let latents = DiagonalGaussian { mean, log_variance };
        let found: Vec<f32> = latents.divergence().into_data().iter().collect();
        assert_eq!(found[0], 0.0, "{backend}");
        assert!((found[1] - (2.0 + (1.0_f32.exp() - 2.0) / 2.0)).abs() < 1e-5, "{backend}: {}", found[1]);
    }
}
