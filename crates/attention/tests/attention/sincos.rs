//! Sines and cosines of places: the formula, and diffusers' tables (tests/reference/sd3.py).

use std::path::Path;

use kiln_attention::positions::{centred, sincos, sincos_2d};
use kiln_backend::testing;
use kiln_checkpoint::Checkpoint;
use rstest::rstest;

#[test]
fn a_place_on_a_line_is_sines_then_cosines() {
    let found: Vec<f32> = sincos(4, &[0.0, 2.5]).iter().collect();
    let expected = [0.0, 0.0, 1.0, 1.0, 2.5_f64.sin(), 0.025_f64.sin(), 2.5_f64.cos(), 0.025_f64.cos()];
    assert_eq!(found, expected.map(|value| value as f32));
}

#[test]
fn a_place_in_a_picture_is_its_column_then_its_row() {
    for (backend, device) in testing::devices() {
        let table = sincos_2d(8, [3, 5], 6, &device);
        assert_eq!(table.dims(), [3, 5, 8]);
        // Both sides span 0..6: row 2 of 3 is at 4, column 1 of 5 at 1.2.
        let found: Vec<f32> = table.narrow(0, 2, 1).narrow(1, 1, 1).into_data().iter().collect();
        let line = |place: f32| sincos(4, &[place]).iter::<f32>().collect::<Vec<_>>();
        let expected = [line(1.2), line(4.0)].concat();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{backend}: {found} for {expected}");
        }
    }
}

#[rstest]
#[case::square("square", 16, [6, 6], 4)]
#[case::wide("wide", 8, [2, 5], 4)]
#[case::large("large", 64, [9, 7], 64)]
fn tables_are_those_of_diffusers(
    #[case] name: &str,
    #[case] width: usize,
    #[case] grid: [usize; 2],
    #[case] base: usize,
) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sincos.safetensors");
    let golden = Checkpoint::open(golden).unwrap();
    let expected: Vec<f32> = golden.tensor(name).unwrap().iter().collect();
    for (backend, device) in testing::devices() {
        let found: Vec<f32> = sincos_2d(width, grid, base, &device).into_data().iter().collect();
        assert_eq!(found.len(), expected.len());
        // In f64 on the host, as theirs: what may differ is how the last place is rounded.
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 6e-8, "{name} on {backend}: {found} for {expected}");
        }
    }
}

#[test]
fn the_middle_of_a_table_is_nearer_to_its_start() {
    for (backend, device) in testing::devices() {
        let table = sincos_2d(4, [6, 6], 6, &device);
        let found = centred(table.clone(), [2, 3]).into_data();
        assert_eq!(found, table.narrow(0, 2, 2).narrow(1, 1, 3).into_data(), "{backend}");
    }
}

#[test]
#[should_panic(expected = "more than a table of 4 x 4")]
fn a_picture_larger_than_the_table_is_a_mistake() {
    let device = burn::tensor::Device::flex();
    let _ = centred(sincos_2d(4, [4, 4], 4, &device), [2, 5]);
}
