//! The LSTM's cell (Hochreiter & Schmidhuber 1997; with forget gates Gers et al. 2000).

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

/// The new state and cell, from the gates, in fours along axis 1, and the cell of before, if there is one.
///
/// ```text
/// [o, f, i, g] = gates,    c = sigmoid(f) c + sigmoid(i) tanh(g),    s = sigmoid(o) tanh(c)
/// ```
pub(crate) fn lstm<const D: usize>(gates: &Tensor<D>, cell: Option<Tensor<D>>) -> [Tensor<D>; 2] {
    let hidden = gates.dims()[1] / 4;
    let [o, f, i, g] = [0, 1, 2, 3].map(|gate| gates.clone().narrow(1, gate * hidden, hidden));
    let new = sigmoid(i) * g.tanh();
    let cell = match cell {
        Some(cell) => sigmoid(f) * cell + new,
        None => new,
    };
    [sigmoid(o) * cell.clone().tanh(), cell]
}
