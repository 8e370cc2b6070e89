//! Masks: polarity, how they go together, rows that see nothing.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use kiln_attention::{AttentionOptions, Mask, multi_head};
use kiln_backend::testing;

const HIDDEN: f32 = f32::NEG_INFINITY;

fn row(values: [bool; 3], device: &Device) -> Tensor<4, Bool> {
    Tensor::<1, Bool>::from_data(values, device).reshape([1, 1, 1, 3])
}

fn numbers(mask: Mask, scores: [usize; 4]) -> Vec<f32> {
    mask.additive(scores, DType::F32).into_data().iter().collect()
}

#[test]
fn the_name_of_the_constructor_is_the_polarity() {
    for (backend, device) in testing::devices() {
        let ours = [true, false, false];
        let scores = [2, 4, 5, 3];
        assert_eq!(numbers(Mask::hidden(row(ours, &device)), scores), [HIDDEN, 0.0, 0.0], "{backend}");
        assert_eq!(numbers(Mask::visible(row(ours, &device)), scores), [0.0, HIDDEN, HIDDEN], "{backend}");
        let keys = Tensor::<2, Int>::from_data([[1, 1, 0], [0, 2, 0]], &device);
        let mask = Mask::visible_keys(keys);
        assert_eq!(mask.dims(), [2, 1, 1, 3]);
        assert_eq!(numbers(mask, scores), [0.0, 0.0, HIDDEN, HIDDEN, 0.0, HIDDEN], "{backend}");
    }
}

#[test]
fn of_two_masks_both_must_show_a_key_and_biases_add_up() {
    for (backend, device) in testing::devices() {
        let keys = || Mask::visible(row([true, true, false], &device));
        let queries = || {
            let hidden = Tensor::<1, Bool>::from_data([false, true], &device).reshape([1, 1, 2, 1]);
            Mask::hidden(hidden)
        };
        let bias = || Mask::bias(Tensor::<1>::from_data([1.0, 2.0, 3.0], &device).reshape([1, 1, 1, 3]));
        let scores = [1, 1, 2, 3];
        let both = [0.0, 0.0, HIDDEN, HIDDEN, HIDDEN, HIDDEN];
        assert_eq!(numbers(keys().and(queries()), scores), both, "{backend}");
        assert_eq!(numbers(queries().and(keys()), scores), both, "{backend}");
        let biased = [1.0, 2.0, HIDDEN, HIDDEN, HIDDEN, HIDDEN];
        assert_eq!(numbers(keys().and(bias()).and(queries()), scores), biased, "{backend}");
        assert_eq!(numbers(bias().and(bias()), scores), [2.0, 4.0, 6.0], "{backend}");
    }
}

#[test]
fn hidden_keys_are_as_if_they_were_not_there_and_rows_without_any_are_zeros() {
    for (backend, device) in testing::devices() {
        let values = |n: usize, seed: f32| {
            let values: Vec<f32> = (0..n * 8).map(|i| (i as f32 * 0.7 + seed).sin()).collect();
            Tensor::<3>::from_data(TensorData::new(values, [1, n, 8]), &device)
        };
        let (q, k, v) = (values(2, 0.0), values(3, 1.0), values(3, 2.0));
        let masked = |mask: Mask| {
            let mask = Some(mask.additive([1, 2, 2, 3], q.dtype()));
            let options = AttentionOptions { mask, ..AttentionOptions::default() };
            multi_head(q.clone(), k.clone(), v.clone(), 2, options)
        };
        let first_two = multi_head(
            q.clone(),
            k.clone().narrow(1, 0, 2),
            v.clone().narrow(1, 0, 2),
            2,
            AttentionOptions::default(),
        );
        let found = masked(Mask::visible(row([true, true, false], &device)));
        let error: f32 = (found - first_two).abs().max().into_scalar();
        assert!(error < 1e-6, "{backend}: {error}");
        let hidden = Tensor::<1, Bool>::from_data([false, true], &device).reshape([1, 1, 2, 1]);
        let found = masked(Mask::hidden(hidden)).narrow(1, 1, 1);
        assert_eq!(found.into_data().iter::<f32>().collect::<Vec<_>>(), [0.0; 8], "{backend}");
    }
}

#[test]
#[should_panic(expected = "[1, 1, 1, 3] does not broadcast to scores of [1, 1, 2, 4]")]
fn a_mask_of_other_keys_is_a_mistake() {
    let device = Device::flex();
    let _ = Mask::hidden(row([true; 3], &device)).additive([1, 1, 2, 4], DType::F32);
}

#[test]
#[should_panic(expected = "do not broadcast to each other")]
fn masks_of_different_keys_do_not_go_together() {
    let device = Device::flex();
    let other = Mask::visible_keys(Tensor::<2, Int>::ones([1, 4], &device));
    let _ = Mask::hidden(row([true; 3], &device)).and(other);
}
