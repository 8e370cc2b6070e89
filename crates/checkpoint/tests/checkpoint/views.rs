//! Tensors seen under other names, in other shapes, and cut out of wider ones.
#![allow(clippy::single_range_in_vec_init, reason = "one range of rows is what is meant")]

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use kiln_checkpoint::{Arrangement, Checkpoint, CheckpointError, View, tensors_to_bytes};
use rstest::rstest;

/// `wide` counts from 0 to 23 in 6 rows of 4.
fn checkpoint() -> Checkpoint {
    let wide: Vec<f32> = (0..24u8).map(f32::from).collect();
    let tensors = BTreeMap::from([
        ("a.wide".to_owned(), TensorData::new(wide, [6, 4])),
        ("a.kernel".to_owned(), TensorData::new(vec![1i64, 2, 3, 4, 5, 6], [2, 3, 1, 1])),
        ("b.scalar".to_owned(), TensorData::new(vec![7.0f32], [0; 0])),
    ]);
    Checkpoint::from_bytes(tensors_to_bytes(tensors, &BTreeMap::new()).unwrap()).unwrap()
}

fn view(source: &str, rows: &[std::ops::Range<usize>], arrangement: Arrangement) -> View {
    View { name: "seen".to_owned(), source: source.to_owned(), rows: rows.to_vec(), arrangement }
}

/// Shape and numbers of what a view shows.
fn seen(checkpoint: &Checkpoint, view: View) -> (Vec<usize>, Vec<f32>) {
    let through = checkpoint.view(vec![view]).unwrap();
    assert_eq!(through.tensors().count(), 1);
    let shape = through.info("seen").unwrap().shape.to_vec();
    let data = through.tensor("seen").unwrap();
    assert_eq!(data.shape().to_vec(), shape);
    (shape, data.iter::<f32>().collect())
}

#[rstest]
#[case::all(&[], Arrangement::AsIs, &[6, 4], &(0..24).collect::<Vec<_>>())]
#[case::rows(&[1..3], Arrangement::AsIs, &[2, 4], &(4..12).collect::<Vec<_>>())]
#[case::swapped_halves(&[3..6, 0..3], Arrangement::AsIs, &[6, 4], &(12..24).chain(0..12).collect::<Vec<_>>())]
#[case::one_row_twice(&[2..3, 2..3], Arrangement::AsIs, &[2, 4], &[8, 9, 10, 11, 8, 9, 10, 11])]
#[case::no_row(&[2..2], Arrangement::AsIs, &[0, 4], &[])]
#[case::reshaped(&[4..6], Arrangement::Reshaped(vec![2, 2, 2]), &[2, 2, 2], &(16..24).collect::<Vec<_>>())]
#[case::transposed(&[0..2], Arrangement::Transposed, &[4, 2], &[0, 4, 1, 5, 2, 6, 3, 7])]
#[case::swapped_and_transposed(&[1..2, 0..1], Arrangement::Transposed, &[4, 2], &[4, 0, 5, 1, 6, 2, 7, 3])]
fn a_view_shows_rows_and_arranges_them(
    #[case] rows: &[std::ops::Range<usize>],
    #[case] arrangement: Arrangement,
    #[case] shape: &[usize],
    #[case] values: &[u8],
) {
    let values: Vec<f32> = values.iter().copied().map(f32::from).collect();
    assert_eq!(seen(&checkpoint(), view("a.wide", rows, arrangement)), (shape.to_vec(), values));
}

#[test]
fn a_convolution_of_one_is_a_matrix() {
    let (shape, values) = seen(&checkpoint(), view("a.kernel", &[], Arrangement::Reshaped(vec![2, 3])));
    assert_eq!((shape, values), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
}

/// A view of a view is one of the tensor; a part is seen like any checkpoint.
#[test]
fn views_join() {
    let rows =
        checkpoint().part("a.").view(vec![view("wide", &[4..6, 0..2], Arrangement::Transposed)]).unwrap();
    assert_eq!(rows.info("seen").unwrap().shape, [4, 4]);
    let (shape, values) = seen(&rows, view("seen", &[1..2], Arrangement::Reshaped(vec![4, 1])));
    assert_eq!((shape, values), (vec![4, 1], vec![17.0, 21.0, 1.0, 5.0]));
}

#[rstest]
#[case::beyond(view("a.wide", &[4..7], Arrangement::AsIs), "rows 4..7 of `a.wide`, which has 6")]
#[case::backwards(view("a.wide", &[std::ops::Range { start: 3, end: 2 }], Arrangement::AsIs), "rows 3..2")]
#[case::of_a_scalar(view("b.scalar", &[0..1], Arrangement::AsIs), "which is a scalar")]
#[case::other_size(view("a.wide", &[], Arrangement::Reshaped(vec![5, 5])), "shape [5, 5] of `a.wide`, which is [6, 4]")]
#[case::too_large(view("a.wide", &[], Arrangement::Reshaped(vec![usize::MAX, 3])), "which is [6, 4]")]
#[case::no_matrix(view("a.kernel", &[], Arrangement::Transposed), "no matrix")]
fn a_view_of_what_is_not_there_is_an_error(#[case] view: View, #[case] reason: &str) {
    let error = checkpoint().view(vec![view]).unwrap_err();
    assert!(matches!(&error, CheckpointError::Entry { tensor, .. } if tensor == "seen"), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn views_of_nothing_and_of_one_name() {
    let missing = checkpoint().view(vec![View::renamed("x", "absent")]).unwrap_err();
    assert!(matches!(&missing, CheckpointError::Missing { tensor, .. } if tensor == "absent"), "{missing}");
    let twice =
        checkpoint().view(vec![View::renamed("x", "a.wide"), View::renamed("x", "a.kernel")]).unwrap_err();
    assert!(matches!(&twice, CheckpointError::Entry { tensor, .. } if tensor == "x"), "{twice}");
}
