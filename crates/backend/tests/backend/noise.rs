//! Noise: Philox's known answers, what a value depends on, its distribution, and torch's generator against torch.

use burn::tensor::Tensor;
use kiln_backend::noise::{
    NoiseKey, Philox4x32, TorchGenerator, normal, normal_values, uniform, uniform_values,
};
use rstest::rstest;
use serde_json::Value;

/// Random123's `kat_vectors`, the three of philox4x32 with 10 rounds: counter, key, answer.
#[rstest]
#[case::zeros([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])]
#[case::ones([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd])]
#[case::pi(
    [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
    [0xa409_3822, 0x299f_31d0],
    [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
)]
fn philox_gives_the_known_answers(
    #[case] counter: [u32; 4],
    #[case] key: [u32; 2],
    #[case] answer: [u32; 4],
) {
    assert_eq!(Philox4x32::new(key).block(counter), answer);
}

/// The layout (stream, block, Box-Muller) written out a second time from the module's documentation.
#[test]
fn a_value_is_the_documented_function_of_its_key_and_place() {
    let key =
        NoiseKey { seed: 0x0123_4567_89ab_cdef, sample: 0xfedc_ba98_7654_3210, step: 0x1122_3344_5566_7788 };
    let stream = Philox4x32::new([0x89ab_cdef, 0x0123_4567]).block([
        0x5566_7788,
        0x1122_3344,
        0x7654_3210,
        0xfedc_ba98,
    ]);
    let (normals, uniforms) = (normal_values(50, key), uniform_values(50, key));
    for i in 0..50 {
        let words = Philox4x32::new([stream[0], stream[1]]).block([i as u32 / 4, 0, stream[2], stream[3]]);
        assert_eq!(uniforms[i], (words[i % 4] >> 8) as f32 / 2_f32.powi(24));
        let pair = i % 4 / 2 * 2;
        let radius = (-2.0 * ((f64::from(words[pair]) + 1.0) / 2_f64.powi(32)).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(words[pair + 1]) / 2_f64.powi(32);
        let value = if i % 2 == 0 { radius * angle.cos() } else { radius * angle.sin() };
        assert!((f64::from(normals[i]) - value).abs() <= 1e-6, "value {i}: {} but {value}", normals[i]);
    }
}

/// Frozen numbers: a change of layout would change every user's pictures.
#[test]
fn the_first_values_of_seed_zero_never_change() {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(normal_values(6, NoiseKey::new(0))), FROZEN_NORMALS);
    assert_eq!(bits(uniform_values(3, NoiseKey::new(0))), FROZEN_UNIFORMS);
}
const FROZEN_NORMALS: [u32; 6] =
    [3_196_461_933, 1_059_073_033, 3_196_942_054, 3_181_145_795, 1_037_403_033, 1_068_856_596];
const FROZEN_UNIFORMS: [u32; 3] = [1_061_905_371, 1_050_693_716, 1_064_677_852];

#[test]
fn every_backend_gets_the_bits_of_the_host_for_any_batch_size() {
    let key = NoiseKey { seed: 11, sample: 5, step: 2 };
    for (name, device) in kiln_backend::testing::devices() {
        for (batch, one) in [
            (normal([4, 3, 7], key, &device), normal_values as fn(usize, NoiseKey) -> Vec<f32>),
            (uniform([4, 3, 7], key, &device), uniform_values),
        ] {
            let batch: Vec<f32> = Tensor::<3>::into_data(batch).try_to_vec().unwrap();
            for row in 0..4 {
                let alone = one(21, key.at_sample(5 + row as u64));
                assert_eq!(batch[row * 21..][..21], alone, "{name}, row {row}");
            }
        }
    }
}

/// Long rows are cut into tasks; a prefix must not see it.
#[test]
fn a_value_does_not_depend_on_how_many_are_drawn() {
    let key = NoiseKey::new(3);
    let long = normal_values(10_001, key);
    for n in [0, 1, 2, 3, 4, 5, 1023, 1024, 1025, 5000] {
        assert_eq!(normal_values(n, key), long[..n]);
    }
}

#[test]
fn seed_sample_and_step_each_give_other_noise() {
    let base = NoiseKey { seed: 9, sample: 4, step: 6 };
    let values = |key| normal_values(64, key);
    let mut others = Vec::new();
    for bit in [0, 1, 31, 32, 63] {
        others.push(values(NoiseKey { seed: base.seed ^ 1 << bit, ..base }));
        others.push(values(base.at_sample(base.sample ^ 1 << bit)));
        others.push(values(base.at_step(base.step ^ 1 << bit)));
    }
    others.push(values(NoiseKey { seed: 9, sample: 6, step: 4 }));
    others.push(values(base));
    for (i, a) in others.iter().enumerate() {
        for b in &others[..i] {
            let correlation: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() / 64.0;
            // Five standard deviations of 1 / sqrt(64).
            assert!(correlation.abs() < 0.625, "streams {i} are related: {correlation}");
        }
    }
}

#[test]
fn normals_and_uniforms_have_their_moments() {
    let n = 400_000;
    let normals = normal_values(n, NoiseKey::new(123));
    let moment = |power| normals.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / n as f64;
    // Standard errors: sqrt(Var(x^k) / n) = 0.0016, 0.0022, 0.0061, 0.0155; five of them allowed.
    for (power, expected, tolerance) in [(1, 0.0, 0.008), (2, 1.0, 0.011), (3, 0.0, 0.031), (4, 3.0, 0.078)] {
        assert!((moment(power) - expected).abs() < tolerance, "moment {power}: {}", moment(power));
    }
    let neighbours: f64 =
        normals.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n as f64;
    assert!(neighbours.abs() < 0.008, "neighbours correlate: {neighbours}");
    let tail = normals.iter().filter(|v| v.abs() > 3.0).count() as f64 / n as f64;
    assert!((tail - 0.002_699_8).abs() < 5.0 * (0.0027_f64 / n as f64).sqrt(), "P(|x| > 3) = {tail}");

    let uniforms = uniform_values(n, NoiseKey::new(123));
    let mut bins = [0_u32; 20];
    for u in uniforms {
        assert!((0.0..1.0).contains(&u));
        bins[(u * 20.0) as usize] += 1;
    }
    let expected = n as f64 / 20.0;
    let chi_squared: f64 = bins.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    // 19 degrees of freedom: the 1e-5 point is 60.
    assert!(chi_squared < 60.0, "chi squared {chi_squared}");
}

/// MT19937 itself: the first words under the seed 5489 of its authors' reference code, seen through the 24 bits that `rand` keeps.
#[test]
fn the_twister_gives_its_authors_words() {
    let words = [3_499_211_612_u32, 581_869_302, 3_890_346_734, 3_586_334_585, 545_404_204];
    let uniforms = TorchGenerator::new(5489).rand(5);
    for (word, uniform) in words.into_iter().zip(uniforms) {
        assert_eq!(uniform, (word & 0x00FF_FFFF) as f32 / 2_f32.powi(24));
    }
}

/// All of `tests/reference/noise.py`: single calls of every size up to 40 and some long ones, several seeds, successive calls.
#[test]
fn torch_generator_draws_what_torch_draws() {
    let golden: Value = serde_json::from_str(include_str!("../golden/noise.json")).unwrap();
    let mut worst = 0.0_f64;
    for case in golden["cases"].as_array().unwrap() {
        let seed: u64 = case["seed"].as_str().unwrap().parse().unwrap();
        let mut generator = TorchGenerator::new(seed);
        for (index, call) in case["calls"].as_array().unwrap().iter().enumerate() {
            let n = call["n"].as_u64().unwrap() as usize;
            let exact = n < 16 || call["function"] == "rand";
            let values = if call["function"] == "rand" { generator.rand(n) } else { generator.randn(n) };
            let place = format!("seed {seed}, call {index}, {} of {n}", call["function"]);
            assert_eq!(values.len(), n, "{place}");
            for (ours, torchs) in kept(call, &values) {
                let difference = f64::from(ours - torchs).abs();
                worst = worst.max(difference);
                assert!(difference <= if exact { 0.0 } else { 1e-6 }, "{place}: {ours} but torch {torchs}");
            }
            if let Some(sum) = call["sum"].as_f64() {
                let sums =
                    values.iter().fold((0.0, 0.0), |(s, q), &v| (s + f64::from(v), q + f64::from(v).powi(2)));
                let allowed = 1e-6 * n as f64;
                assert!((sums.0 - sum).abs() <= allowed, "{place}: sum");
                assert!(
                    (sums.1 - call["sum_of_squares"].as_f64().unwrap()).abs() <= 10.0 * allowed,
                    "{place}: squares"
                );
            }
        }
    }
    // From 16 elements on torch's vector log, cos and sin are not libm's: a worst of 0 would mean that nothing was compared.
    assert!(worst > 0.0 && worst <= 1e-6, "worst difference {worst:e}");
}

/// Pairs of our value and torch's for the part of a result that the golden keeps.
fn kept(call: &Value, values: &[f32]) -> Vec<(f32, f32)> {
    let numbers = |name: &str| -> Vec<f32> {
        call[name]
            .as_array()
            .map(|all| all.iter().map(|v| v.as_f64().unwrap() as f32).collect())
            .unwrap_or_default()
    };
    let (head, tail) = if call["values"].is_array() {
        (numbers("values"), vec![])
    } else {
        (numbers("head"), numbers("tail"))
    };
    assert!(!head.is_empty());
    let ours = values[..head.len()].iter().chain(&values[values.len() - tail.len()..]);
    ours.copied().zip(head.into_iter().chain(tail)).collect()
}
