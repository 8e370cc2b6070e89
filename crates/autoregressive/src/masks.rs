//! Masks of weights: which input may reach which output.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// 1 where the input's degree is below the output's, `[inputs, outputs]`.
pub(crate) fn before(inputs: &[usize], outputs: &[usize], device: &Device) -> Tensor<2> {
    let (from, to) = degrees(inputs, outputs, device);
    from.lower(to).float()
}

/// 1 where the input's degree is not above the output's, `[inputs, outputs]`.
pub(crate) fn up_to(inputs: &[usize], outputs: &[usize], device: &Device) -> Tensor<2> {
    let (from, to) = degrees(inputs, outputs, device);
    from.lower_equal(to).float()
}

fn degrees(inputs: &[usize], outputs: &[usize], device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let row = |degrees: &[usize]| {
        let degrees: Vec<i64> = degrees.iter().map(|&degree| degree as i64).collect();
        let n = degrees.len();
        Tensor::<1, Int>::from_data(TensorData::new(degrees, [n]), device)
    };
    let (from, to) = (row(inputs), row(outputs));
    let [i, o] = [inputs.len(), outputs.len()];
    (from.unsqueeze_dim::<2>(1).expand([i, o]), to.unsqueeze_dim::<2>(0).expand([i, o]))
}

/// Each degree `width` times: those of a variable's parameters.
pub(crate) fn times_width(degrees: &[usize], width: usize) -> Vec<usize> {
    degrees.iter().flat_map(|&degree| std::iter::repeat_n(degree, width)).collect()
}
