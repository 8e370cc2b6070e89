//! Noise as PyTorch draws it from one generator, so that a seed gives diffusers' picture.

use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_backend::noise::TorchGenerator;
use kiln_diffusion::{Draw, NoiseSource};

/// `torch.randn(shape, generator=generator)`, call after call.
#[derive(Clone, Debug)]
pub(crate) struct Randn {
    generator: TorchGenerator,
    device: Device,
    dtype: DType,
}

impl Randn {
    pub(crate) fn new(seed: u64, device: &Device) -> Self {
        let dtype = DType::from(device.settings().float_dtype);
        Self { generator: TorchGenerator::new(seed), device: device.clone(), dtype }
    }

    pub(crate) fn draw(&mut self, shape: [usize; 4]) -> Tensor<4> {
        let values = self.generator.randn(shape.iter().product());
        let data = TensorData::new(values, shape).convert_dtype(self.dtype);
        Tensor::from_data(data, (&self.device, self.dtype))
    }

    /// The noise of a run's steps, in the order in which they ask for it.
    pub(crate) fn steps(mut self, shape: [usize; 4]) -> impl NoiseSource<4> {
        move |_: Draw| self.draw(shape)
    }
}
