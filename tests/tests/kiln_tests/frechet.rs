//! The Fréchet distance against scipy's, and where it is known by hand.

use kiln_checkpoint::Checkpoint;
use kiln_tests::frechet::Normal;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/frechet.safetensors");

fn rows(golden: &Checkpoint, name: &str) -> Vec<Vec<f64>> {
    let tensor = golden.tensor(name).expect("in the file");
    let width = *tensor.shape().last().expect("a row");
    let values: Vec<f64> = tensor.iter().collect();
    values.chunks(width).map(<[f64]>::to_vec).collect()
}

/// By the root of a product that is not symmetric, scipy takes another way.
#[test]
fn the_distance_is_scipy_s() {
    let golden = Checkpoint::open(GOLDEN).expect("the file is there");
    for case in 0..3 {
        let [first, second] =
            ["first", "second"].map(|name| Normal::of(&rows(&golden, &format!("{case}.{name}"))));
        let expected = rows(&golden, &format!("{case}.distance"))[0][0];
        for distance in [first.distance(&second), second.distance(&first)] {
            // Scipy's root of a product without an inverse is good to half of its digits.
            assert!((distance - expected).abs() < 1e-6 * expected, "case {case}: {distance}, not {expected}");
        }
        assert!(first.distance(&first).abs() < 1e-6 * expected, "from itself");
    }
}

/// Means apart, and axes stretched: `|m|² + sum (s_i - r_i)²`.
#[test]
fn of_axes_that_agree_it_is_a_sum() {
    let cross = |centre: [f64; 2], [a, b]: [f64; 2]| {
        let [x, y] = centre;
        Normal::of(&[vec![x + a, y], vec![x - a, y], vec![x, y + b], vec![x, y - b]])
    };
    // Of four samples, two of which are ±a, the variance is 2 a² / 3.
    let deviation = |a: f64| (2.0 * a * a / 3.0).sqrt();
    let distance = cross([0.0, 0.0], [1.0, 2.0]).distance(&cross([3.0, 4.0], [2.5, 0.5]));
    let expected =
        25.0 + (deviation(1.0) - deviation(2.5)).powi(2) + (deviation(2.0) - deviation(0.5)).powi(2);
    assert!((distance - expected).abs() < 1e-12 * expected, "{distance}, not {expected}");
}
