//! A network as a denoiser: its time, its input's scale and its output's meaning are put right here and nowhere else.

use std::fmt;

use burn::tensor::{Tensor, TensorData};

use super::{Denoiser, Estimate};
use crate::blend::{column, scale};
use crate::{DiffusionError, Prediction, Process};

/// A closure around a network, `(input [batch, ...], network time [batch]) → output [batch, ...]`, read by a [`Prediction`].
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_diffusion::{Network, Prediction, RectifiedFlow};
///
/// # struct UNet;
/// # impl UNet { fn forward(&self, x: Tensor<4>, _: Tensor<1>, _: usize) -> Tensor<4> { x } }
/// # let unet = UNet;
/// let (process, class) = (RectifiedFlow, 7);
/// let denoiser = Network::new(&process, Prediction::Velocity, |x, times| unet.forward(x, times, class))?;
/// # fn needs(_: &dyn kiln_diffusion::Denoiser<4>) {}
/// # needs(&denoiser);
/// # Ok::<(), kiln_diffusion::DiffusionError>(())
/// ```
pub struct Network<'a, const D: usize, F> {
    process: &'a dyn Process,
    prediction: Prediction,
    forward: F,
}

impl<'a, const D: usize, F: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>> Network<'a, D, F> {
    /// A network of this process whose output means `prediction`.
    ///
    /// # Errors
    /// If the two don't go together, see [`Prediction::check`].
    pub fn new(process: &'a dyn Process, prediction: Prediction, forward: F) -> Result<Self, DiffusionError> {
        prediction.check(process)?;
        Ok(Self { process, prediction, forward })
    }
}

impl<const D: usize, F: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>> Denoiser<D> for Network<'_, D, F> {
    fn denoise(&self, x: Tensor<D>, t: f64) -> Estimate<D> {
        let law = self.process.law(t);
        let time = self.process.network_time(t);
        let times = Tensor::full([x.dims()[0]], time, (&x.device(), x.dtype()));
        let input = scale(self.prediction.input_scale(&law), x.clone());
        self.prediction.estimate((self.forward)(input, times), x, &law)
    }

    fn denoise_each(&self, x: Tensor<D>, times: &[f64]) -> Estimate<D> {
        let laws: Vec<_> = times.iter().map(|&t| self.process.law(t)).collect();
        let scales: Vec<f64> = laws.iter().map(|law| self.prediction.input_scale(law)).collect();
        let told: Vec<f64> = times.iter().map(|&t| self.process.network_time(t)).collect();
        let told = Tensor::from_data(TensorData::new(told, [times.len()]), (&x.device(), x.dtype()));
        let input = x.clone() * column(&scales, &x);
        self.prediction.estimate_each((self.forward)(input, told), x, &laws)
    }
}

impl<const D: usize, F> fmt::Debug for Network<'_, D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("process", &self.process)
            .field("prediction", &self.prediction)
            .finish_non_exhaustive()
    }
}
