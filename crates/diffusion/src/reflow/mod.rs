//! Reflow: a flow retrained on its own pairs of noise and sample, so that its paths become straight and few steps follow them.
//!
//! A rectified flow `v` carries noise `x_1` to a sample `x_0`. Of the pairs (x_0, x_1) that it makes, a second flow is trained as the first was, but with
//! the noise that belongs to the sample in place of a fresh draw:
//!
//! ```text
//! x_t = (1 - t) x_0 + t x_1,   loss = E |v(x_t, t) - (x_1 - x_0)|²
//! S   = integral over t of E |(x_1 - x_0) - v(x_t, t)|²      along the flow's own paths
//! ```
//!
//! The straightness S is 0 exactly if every path is a straight line at even speed, and then one step of Euler's rule is exact. It falls as 1/k over k
//! rounds at least (theorem 3.7).
//!
//! Pairs are dear: [`PairCache`] keeps them on disk, and goes on where it was stopped. Training on them is
//! [`Objective::pair_at`](crate::Objective::pair_at) with the pair as the truth.
//!
//! Source: Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with rectified flow", ICLR 2023, algorithm 1 and equation 4.

mod cache;

use burn::tensor::Tensor;

pub use cache::{PairCache, PairCacheError, PairPlan};

use crate::{
    Denoiser, DiffusionError, Draw, Estimate, Prediction, Process, RectifiedFlow, Sampler, SolverConfig, grid,
};

/// The paths of a flow, as far as their ends and their straightness.
#[derive(Clone, Debug)]
pub struct Paths<const D: usize> {
    /// The sample of each path as data, the noise that it came from as noise.
    pub pair: Estimate<D>,
    /// S of each path over its number of coordinates: the mean squared difference of its velocity and its chord.
    pub straightness: Vec<f64>,
}

impl<const D: usize> Paths<D> {
    /// The mean of S, and its standard error over the paths (0 for one).
    #[must_use]
    pub fn mean(&self) -> (f64, f64) {
        let count = self.straightness.len() as f64;
        let mean = self.straightness.iter().sum::<f64>() / count;
        let squares: f64 = self.straightness.iter().map(|value| (value - mean).powi(2)).sum();
        (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
    }
}

/// Follows a rectified flow from noise to samples in `steps` even steps, by Heun's rule, and measures how straight its paths are.
///
/// The integral over t is the mean over the steps' beginnings, whose error is of order `1 / steps`.
///
/// # Shapes
/// - `noise`: `[batch, ...]`.
///
/// # Errors
/// If there is no step.
pub fn follow<const D: usize>(
    flow: &dyn Denoiser<D>,
    noise: Tensor<D>,
    steps: usize,
) -> Result<Paths<D>, DiffusionError> {
    let process = RectifiedFlow;
    let sampler = Sampler::new(SolverConfig::heun(), grid::uniform(&process, steps)?)?;
    let unused = |_: Draw| -> Tensor<D> { unreachable!("Heun's rule draws nothing") };
    let mut run = sampler.start(&process, flow, noise.clone(), unused)?;
    let mut velocities = Vec::with_capacity(steps);
    for step in &mut run {
        velocities.push(Prediction::Velocity.output(&step.estimate, &process.law(step.t)));
    }
    let data = run.sample().clone();
    let chord = noise.clone() - data.clone();
    let batch = noise.dims()[0];
    let size = noise.dims().iter().skip(1).product::<usize>();
    let mut straightness = vec![0.0; batch];
    for velocity in velocities {
        let squares = (chord.clone() - velocity).square().reshape([batch, size]).mean_dim(1).into_data();
        for (sum, square) in std::iter::zip(&mut straightness, squares.iter::<f64>()) {
            *sum += square / steps as f64;
        }
    }
    Ok(Paths { pair: Estimate { data, noise }, straightness })
}
