//! Weights on an encoder's states.

use burn::tensor::{DType, Tensor, TensorData};

/// z'_i = w_i z_i · mean(z) / mean(w z), row by row: `states` are `[batch, n, channels]`, `weights` n for each row. Where all weights are 1 the
/// states are returned as they are, to the bit; where the weighted mean is 0 it can't be restored, and isn't.
///
/// # Panics
///
/// If there are not n weights for each row.
#[must_use]
pub fn weigh(states: Tensor<3>, weights: &[Vec<f32>]) -> Tensor<3> {
    let [batch, n, _] = states.dims();
    assert!(
        weights.len() == batch && weights.iter().all(|row| row.len() == n),
        "weights of {:?} tokens for states {:?}",
        weights.iter().map(Vec::len).collect::<Vec<_>>(),
        states.dims()
    );
    if weights.iter().flatten().all(|weight| *weight == 1.0) {
        return states;
    }
    let (device, dtype) = (states.device(), states.dtype());
    // Sums of some ten thousand numbers, which 16 bits do not hold.
    let z = states.cast(DType::F32);
    let mean = |z: &Tensor<3>| z.clone().mean_dim(1).mean_dim(2);
    let data = TensorData::new(weights.concat(), [batch, n, 1]);
    let weighted = z.clone() * Tensor::<3>::from_data(data, (&device, DType::F32));
    let (before, after) = (mean(&z), mean(&weighted));
    let is_lost = after.clone().equal_elem(0.0);
    let ratio = before / after.mask_fill(is_lost.clone(), 1.0);
    let ratio = ratio.mask_fill(is_lost, 1.0);
    // Rows without weights stay to the bit: their ratio is 1.
    (weighted * ratio).cast(dtype)
}
