//! The goldens (tests/reference/optim.py), and a module to train on them.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

static BYTES: &[u8] = include_bytes!("../golden/optim.safetensors");

/// A golden tensor of f32.
pub fn data(name: &str) -> TensorData {
    let file = SafeTensors::deserialize(BYTES).unwrap();
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no golden {name}"));
    let values: Vec<f32> =
        view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    TensorData::new(values, view.shape().to_vec())
}

/// A golden tensor on a device.
pub fn tensor<const D: usize>(name: &str, device: &Device) -> Tensor<D> {
    Tensor::from_data(data(name), device)
}

/// Row `step` of a golden trace.
pub fn row(name: &str, step: usize) -> Vec<f32> {
    let trace = data(name);
    let length = trace.shape().num_elements() / trace.shape()[0];
    trace.as_slice::<f32>().unwrap()[step * length..][..length].to_vec()
}

/// Step `step` of a golden trace, on the device without autodiff, as gradients are.
pub fn slice<const D: usize>(name: &str, step: usize) -> Tensor<D> {
    let shape = data(name).shape().to_vec();
    Tensor::from_data(TensorData::new(row(name, step), &shape[1..]), &Device::flex())
}

/// The values of a tensor.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().unwrap()
}

/// The largest absolute difference.
pub fn distance(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max)
}

/// The largest difference in units of `1e-6 + 1e-6 |theirs|`, which is what torch.allclose(rtol=1e-6, atol=1e-6) asks to
/// be at most 1. (After the 50 steps of `defaults`, torch itself is 1.7e-6 from its own trace in double precision.)
pub fn distance_in_millionths(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let units =
        ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs() / (1e-6 + 1e-6 * theirs.abs()));
    units.fold(0.0, f32::max)
}

/// tanh(x W1 + b1) W2.
#[derive(Module, Debug)]
pub struct Net {
    pub w1: Param<Tensor<2>>,
    pub b1: Param<Tensor<1>>,
    pub w2: Param<Tensor<2>>,
}

impl Net {
    /// The net at the start of the golden trace.
    pub fn start(device: &Device) -> Self {
        Self {
            w1: Param::from_tensor(tensor("net.start.w1", device)),
            b1: Param::from_tensor(tensor("net.start.b1", device)),
            w2: Param::from_tensor(tensor("net.start.w2", device)),
        }
    }

    /// The gradients of the mean squared error on the golden data.
    pub fn gradients(&self) -> GradientsParams {
        let device = self.w1.device();
        let (x, y) = (tensor::<2>("net.x", &device), tensor::<2>("net.y", &device));
        let hidden = (x.matmul(self.w1.val()) + self.b1.val().unsqueeze()).tanh();
        let loss = (hidden.matmul(self.w2.val()) - y).square().mean();
        GradientsParams::from_grads(loss.backward(), self)
    }

    /// All its numbers.
    pub fn values(&self) -> Vec<f32> {
        [values(&self.w1.val()), values(&self.b1.val()), values(&self.w2.val())].concat()
    }
}

/// One parameter.
#[derive(Module, Debug)]
pub struct Point {
    pub p: Param<Tensor<1>>,
}
