//! The probability-flow equation by Dormand and Prince's rule of order 5, with steps that each sample chooses by its own error.
//!
//! ```text
//! dz/dtau = p x_0_hat + q eps_hat         in the variables of a Clock; the pair of rules as the module of the embedded pair says
//! ```
//!
//! The grid's times are where the run is seen; between two of them each sample takes as many steps as its tolerance asks for, and goes on
//! with the same length in the next interval. To clean data the equation is followed to the process's `t_min`, and the data estimate there
//! is the end. A step begins with an evaluation at its own t, so that conditions may be put on the sample between steps.
//!
//! Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, appendix D.4 (RK45 at 1e-5).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::clock::Reading;
use super::embedded::{self, Pace, Tally, Tolerance};
use super::{Advance, Clock, SavedState, Solver, SolverState, StepContext};
use crate::Estimate;
use crate::blend::{column, scale};

/// Dormand and Prince's rule, fifth order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DormandPrince {
    /// The variable it steps in.
    pub clock: Clock,
    /// What each step may be off by; `None` for one step an interval of the grid, six evaluations each.
    pub tolerance: Option<Tolerance>,
}

impl Default for DormandPrince {
    /// At 1e-5, in the process's own clock.
    fn default() -> Self {
        Self { clock: Clock::OfProcess, tolerance: Some(Tolerance::of(1e-5)) }
    }
}

impl<const D: usize> SolverState<D> for Pace {
    const KEEPS: &'static str =
        "each sample's step, error, evaluations and rejected steps, four numbers a sample";

    fn save(&self) -> SavedState<D> {
        // A run of fixed steps has no lengths.
        let adaptive = f64::from(u8::from(!self.length.is_empty()));
        let counts = [&self.tally.evaluations, &self.tally.rejected].into_iter().flatten();
        let times = std::iter::once(adaptive)
            .chain(self.length.iter().chain(&self.error).copied())
            .chain(counts.map(|&count| count as f64))
            .collect();
        SavedState { times, tensors: vec![] }
    }

    fn load(SavedState { times, tensors }: SavedState<D>) -> Option<Self> {
        let (adaptive, numbers) = times.split_first()?;
        let parts = if *adaptive == 1.0 { 4 } else { 2 };
        if !tensors.is_empty() || !numbers.len().is_multiple_of(parts) {
            return None;
        }
        let mut parts = numbers.chunks(numbers.len().checked_div(parts)?.max(1));
        let mut part = || parts.next().unwrap_or_default().to_vec();
        let (length, error) = if *adaptive == 1.0 { (part(), part()) } else { (vec![], vec![]) };
        let counts = |part: Vec<f64>| part.into_iter().map(|count| count as usize).collect();
        let tally = Tally { evaluations: counts(part()), rejected: counts(part()) };
        Some(Self { length, error, tally })
    }

    fn tally(&self) -> Option<&Tally> {
        Some(Self::tally(self))
    }
}

/// dz/dtau with a reading for each sample.
fn slope<const D: usize>(estimate: Estimate<D>, readings: &[Reading]) -> Tensor<D> {
    let [of_data, of_noise] = [0, 1].map(|which| {
        let values: Vec<f64> = readings.iter().map(|reading| reading.slope[which]).collect();
        column(&values, &estimate.data)
    });
    estimate.data * of_data + estimate.noise * of_noise
}

impl<const D: usize> Solver<D> for DormandPrince {
    type State = Pace;

    fn step(
        &self,
        context: &mut StepContext<'_, D>,
        pace: &mut Pace,
        x: Tensor<D>,
        t: f64,
        s: f64,
    ) -> Advance<D> {
        let (process, denoiser, shape) = (context.process, context.denoiser, x.dims());
        let (batch, to) = (shape[0], process.law(s));
        let estimate = denoiser.denoise(x.clone(), t);
        pace.count_one(batch);
        let end = if to.sigma == 0.0 { process.t_min().min(t) } else { s };
        if end >= t {
            return Advance { sample: estimate.at(&to), estimate };
        }
        let flat = [batch, shape.iter().skip(1).product()];
        let [from, until] = [t, end].map(|time| self.clock.read(process, time));
        let first: Tensor<2> = from.slope(&estimate).reshape(flat);
        let mut field = |z: &Tensor<2>, taus: &[f64]| {
            let (times, readings): (Vec<f64>, Vec<Reading>) =
                taus.iter().map(|&tau| self.clock.at(process, tau, [end, t])).unzip();
            let scales: Vec<f64> = readings.iter().map(|reading| reading.scale).collect();
            let x = z.clone().reshape(shape);
            let x = x.clone() * column(&scales, &x);
            slope(denoiser.denoise_each(x, &times), &readings).reshape(flat)
        };
        let z = scale(1.0 / from.scale, x).reshape(flat);
        let ends = [from.tau, until.tau];
        let z = match self.tolerance {
            None => embedded::fixed_step(&mut field, &z, first, ends, pace),
            Some(tolerance) => embedded::integrate(&mut field, z, first, ends, tolerance, pace),
        };
        let mut sample = scale(until.scale, z.reshape(shape));
        if to.sigma == 0.0 {
            sample = denoiser.denoise(sample, end).at(&to);
            pace.count_one(batch);
        }
        Advance { sample, estimate }
    }
}
