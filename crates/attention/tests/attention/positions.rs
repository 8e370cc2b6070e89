//! Rotary positions and linear biases: transformers' numbers (tests/reference/attention_kinds.py), and laws.

use burn::tensor::{Device, Tensor};
use kiln_attention::positions::{
    Interpolation, LearnedPositionsConfig, RotaryConfig, RotaryPairs, alibi, interleaved_sincos, sincos,
};
use kiln_backend::testing;
use rstest::rstest;

use crate::support::{Golden, assert_close, difference, values};

#[rstest]
#[case("plain", RotaryConfig::new())]
#[case("base", RotaryConfig::new().with_theta(500.0))]
#[case("linear", RotaryConfig::new().with_interpolation(Interpolation::Linear(4.0)))]
#[case("adjacent", RotaryConfig::new().with_pairs(RotaryPairs::Adjacent))]
fn turns_are_those_of_transformers(#[case] name: &str, #[case] config: RotaryConfig) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let x = golden.tensor::<4>("rotary.x", &device);
        let found = config.from(3, 5, 8, &device).forward(x);
        assert_close(
            &format!("{name} on {backend}"),
            found,
            golden.tensor(&format!("rotary.{name}"), &device),
            2e-6,
        );
    }
}

fn products(q: Tensor<4>, k: Tensor<4>) -> Tensor<4> {
    q.matmul(k.swap_dims(2, 3))
}

#[rstest]
#[case(RotaryPairs::Halves, Interpolation::None)]
#[case(RotaryPairs::Adjacent, Interpolation::Ntk(4.0))]
#[case(RotaryPairs::Halves, Interpolation::Linear(2.0))]
fn a_product_of_turned_vectors_knows_the_distance_alone(
    #[case] pairs: RotaryPairs,
    #[case] interpolation: Interpolation,
) {
    let config = RotaryConfig::new().with_pairs(pairs).with_interpolation(interpolation);
    for (backend, device) in testing::devices() {
        let (q, k) = (values([1, 2, 5, 8], 1, &device), values([1, 2, 5, 8], 2, &device));
        let at = |first| {
            let turns = config.from(first, 5, 8, &device);
            products(turns.forward(q.clone()), turns.forward(k.clone()))
        };
        assert_close(backend, at(100), at(0), 2e-5);
        assert!(difference(at(0), products(q.clone(), k.clone())) > 1e-2, "{backend}");
    }
}

/// The fastest pair as before, the slowest `factor` times slower.
#[test]
fn ntk_keeps_the_fast_and_slows_the_slow() {
    let device = Device::flex();
    let turned = |interpolation, place: f64| {
        let config = RotaryConfig::new().with_interpolation(interpolation);
        let ones = Tensor::<4>::ones([1, 1, 1, 8], &device);
        let y: Vec<f32> = config.at(&[place], 8, &device).forward(ones).into_data().iter().collect();
        (y[0], y[3])
    };
    let (plain, slowed) = (turned(Interpolation::None, 5.0), turned(Interpolation::Ntk(8.0), 40.0));
    assert!((turned(Interpolation::None, 40.0).0 - slowed.0).abs() < 1e-5, "the fastest");
    assert!((plain.1 - slowed.1).abs() < 1e-5, "the slowest");
}

#[test]
fn a_pictures_products_know_the_distance_in_rows_and_columns() {
    for (backend, device) in testing::devices() {
        let config = RotaryConfig::new();
        let turns = config.over_picture([3, 4], None, 8, &device);
        let same = values::<4>([1, 1, 1, 8], 1, &device).expand([1, 1, 12, 8]);
        let other = values::<4>([1, 1, 1, 8], 2, &device).expand([1, 1, 12, 8]);
        let scores: Vec<f32> =
            products(turns.forward(same), turns.forward(other)).into_data().iter().collect();
        let score = |(r, c): (usize, usize), (s, d): (usize, usize)| scores[(r * 4 + c) * 12 + s * 4 + d];
        let moved = (score((0, 0), (1, 2)) - score((1, 1), (2, 3))).abs();
        assert!(moved < 1e-5, "{backend}: {moved}");
        let across = (score((0, 0), (1, 2)) - score((0, 0), (2, 1))).abs();
        assert!(across > 1e-3, "{backend}: rows are not columns");
        // Twice as fine a picture over the same span: every second place is one of the coarse picture's.
        let fine = config.over_picture([6, 8], Some([3, 4]), 8, &device);
        let x = values::<4>([1, 1, 48, 8], 3, &device);
        let fine = fine.forward(x.clone()).reshape([6, 8, 8]).narrow(0, 4, 1).narrow(1, 6, 1);
        let x = x.reshape([6, 8, 8]).narrow(0, 4, 1).narrow(1, 6, 1).reshape([1, 1, 1, 8]);
        let coarse =
            turns.forward(x.expand([1, 1, 12, 8])).reshape([3, 4, 8]).narrow(0, 2, 1).narrow(1, 3, 1);
        assert_close(backend, fine, coarse, 1e-6);
    }
}

#[rstest]
#[case(4)]
#[case(6)]
#[case(12)]
fn linear_biases_are_those_of_transformers(#[case] heads: usize) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        // Theirs is m j, which differs from -m (i - j) by a number a query, that softmax does not see.
        let slopes: Vec<f32> =
            golden.tensor::<2>(&format!("alibi.{heads}"), &device).into_data().iter().collect();
        let found = alibi(heads, 2, 7, &device).additive([1, heads, 2, 7], burn::tensor::DType::F32);
        let found: Vec<f32> = found.into_data().iter().collect();
        for head in 0..heads {
            for (query, place) in [5, 6].into_iter().enumerate() {
                for key in 0..=place {
                    let expected = slopes[head * 7 + key] - slopes[head * 7 + place];
                    let found = found[(head * 2 + query) * 7 + key];
                    assert!((found - expected).abs() < 1e-6, "{backend}: {found} for {expected}");
                }
            }
        }
    }
}

#[test]
fn learned_places_are_added() {
    for (backend, device) in testing::devices() {
        let layer = LearnedPositionsConfig::new(6, 4).init(&device);
        let x = values([2, 3, 4], 1, &device);
        let added = layer.forward(x.clone(), 2) - x;
        let expected = layer.weight.val().narrow(0, 2, 3).unsqueeze_dim::<3>(0).expand([2, 3, 4]);
        assert_close(backend, added, expected, 1e-6);
    }
}

#[test]
#[should_panic(expected = "3 tokens from place 4 on do not fit 6 places")]
fn there_are_as_many_learned_places_as_there_are() {
    let device = Device::flex();
    let _ = LearnedPositionsConfig::new(6, 4).init(&device).forward(values([1, 3, 4], 1, &device), 4);
}

#[test]
fn sines_and_cosines_in_turn_are_those_in_halves() {
    let halves: Vec<f32> = sincos(6, &[0.0, 2.5]).iter().collect();
    let turns: Vec<f32> = interleaved_sincos(6, &[0.0, 2.5]).iter().collect();
    for (row, of) in turns.chunks(6).zip(halves.chunks(6)) {
        assert_eq!(row, [of[0], of[3], of[1], of[4], of[2], of[5]]);
    }
}
