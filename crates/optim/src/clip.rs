//! Clipping by the global norm: with g all gradients laid end to end,
//!
//! ```text
//! g ← g · min(1, max_norm / (‖g‖ + 1e-6))
//! ```
//!
//! Pascanu et al., "On the difficulty of training recurrent neural networks", 2013;
//! `torch.nn.utils.clip_grad_norm_`. (Burn's own clipping scales each tensor by its own norm, which turns the
//! direction of the step.)

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};

/// Scales the gradients of `module` so that their global norm is at most `max_norm`, and returns the norm that
/// they had before. Gradients whose norm is not finite are left as they are.
///
/// The norm is read back from the device: this waits for the backward pass.
///
/// # Panics
///
/// Panics if `max_norm` is not positive, or if the device fails while the norm is read.
pub fn clip_by_global_norm<M: Module>(gradients: &mut GradientsParams, module: &M, max_norm: f64) -> f64 {
    assert!(max_norm > 0.0, "max_norm must be positive, and is {max_norm}");
    let norm = global_norm(gradients, module);
    let coefficient = max_norm / (norm + 1e-6);
    if norm.is_finite() && coefficient < 1.0 {
        module.visit(&mut Scale { gradients, coefficient });
    }
    norm
}

/// The Euclidean norm of all gradients of `module`, as if they were one vector; 0 where there are none.
///
/// # Panics
///
/// Panics if the device fails while the norm is read.
#[must_use]
pub fn global_norm<M: Module>(gradients: &GradientsParams, module: &M) -> f64 {
    let mut squares = Squares { gradients, sums: Vec::new() };
    module.visit(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    // One transfer for all, and the sum over tensors in f64 on the host.
    let sums = Tensor::cat(squares.sums, 0).into_data();
    sums.iter::<f64>().sum::<f64>().sqrt()
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            // Squares of half-precision gradients overflow.
            self.sums.push(gradient.cast(FloatDType::F32).square().sum());
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    coefficient: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Taken out, not cloned, so that it is scaled in place.
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient.mul_scalar(self.coefficient));
        }
    }
}
