//! The assignment against scipy's on 10,000 matrices, and against its laws.

use kiln_detection::matching::{AssignmentError, assign};
use proptest::prelude::*;

/// Numbers that Python makes too: a multiplicative hash of matrix and place, of 24 bits.
fn cost(matrix: u32, place: u32, levels: u32) -> f32 {
    let mut x = (matrix + 1).wrapping_mul(2_654_435_761) ^ place.wrapping_mul(2_246_822_519);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^= x >> 16;
    (x >> 8) as f32 % levels as f32 / 16.0 - 1.0
}

/// Sides from 1 to 24, tall and wide; every third matrix has few levels, and so many ties.
fn matrix(index: u32) -> (usize, usize, Vec<f32>) {
    let (rows, columns) = (1 + index % 24, 1 + index / 24 % 24);
    let levels = if index.is_multiple_of(3) { 5 } else { 1 << 24 };
    let costs = (0..rows * columns).map(|place| cost(index, place, levels)).collect();
    (rows as usize, columns as usize, costs)
}

#[test]
fn ten_thousand_matrices_cost_as_much_as_with_scipy() {
    let golden = include_bytes!("golden/assignment.f32");
    let totals = golden.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    assert_eq!(totals.len(), 10_000);
    for (index, expected) in totals.enumerate() {
        let (rows, columns, costs) = matrix(index as u32);
        let pairs = assign(&costs, rows, columns).unwrap();
        assert_eq!(pairs.len(), rows.min(columns));
        let total: f64 = pairs.iter().map(|&(row, column)| f64::from(costs[row * columns + column])).sum();
        // Sums of multiples of 1/16 below 2^24: f64 holds them exactly, the golden rounds to f32.
        assert_eq!(total as f32, expected, "matrix {index}, {rows} x {columns}");
    }
}

#[test]
fn what_is_no_number_is_named() {
    let costs = [1.0, 2.0, f32::NAN, 4.0];
    assert_eq!(assign(&costs, 2, 2), Err(AssignmentError::NotANumber { row: 1, column: 0 }));
    assert_eq!(assign(&[f32::INFINITY; 4], 2, 2), Err(AssignmentError::Infeasible));
    assert!(matches!(assign(&costs, 3, 2), Err(AssignmentError::Length { .. })));
}

#[test]
fn nothing_is_assigned_to_nothing() {
    assert_eq!(assign(&[], 0, 5).unwrap(), []);
    assert_eq!(assign(&[], 5, 0).unwrap(), []);
}

#[test]
fn infinity_forbids_a_pair() {
    let costs = [0.0, 1.0, 0.0, f32::INFINITY];
    assert_eq!(assign(&costs, 2, 2).unwrap(), [(0, 1), (1, 0)]);
}

proptest! {
    /// Transposed costs give as cheap an assignment, and a constant added to a row of a square matrix changes no pair's worth.
    #[test]
    fn laws(rows in 1_usize..9, columns in 1_usize..9, seed in 0_u32..1000, shift in -4_i32..4) {
        let costs: Vec<f32> = (0..(rows * columns) as u32).map(|place| cost(seed, place, 64)).collect();
        let total = |costs: &[f32], rows, columns| -> f64 {
            let pairs = assign(costs, rows, columns).unwrap();
            pairs.iter().map(|&(row, column)| f64::from(costs[row * columns + column])).sum()
        };
        let turned: Vec<f32> =
            (0..columns).flat_map(|column| (0..rows).map(move |row| (row, column))).map(|(row, column)| costs[row * columns + column]).collect();
        prop_assert_eq!(total(&costs, rows, columns), total(&turned, columns, rows));
        if rows <= columns {
            let mut raised = costs.clone();
            raised[..columns].iter_mut().for_each(|cost| *cost += shift as f32);
            prop_assert_eq!(total(&raised, rows, columns), total(&costs, rows, columns) + f64::from(shift));
        }
    }
}
