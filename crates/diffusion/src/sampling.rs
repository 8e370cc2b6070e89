//! A sampler is an iterator of steps.
//!
//! [`Sampler`] is a solver with a grid of times; started on a process and a denoiser it becomes a [`Sampling`], which yields a [`Step`] for each
//! interval of the grid. So a run is previewed by looking at the steps, stopped by dropping the iterator, and put aside with
//! [`Sampling::pause`] to be resumed with the same result, since noise is asked for by its place and not by its turn.

use std::fmt;

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use serde::{Deserialize, Serialize};

use crate::blend::scale;
use crate::{
    Denoiser, DiffusionError, Estimate, Paused, Process, SolverConfig, StepContext, Stepper, Tally, grid,
};

/// Which noise is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The step's index, from 0.
    pub step: usize,
    /// Which draw of that step, from 0.
    pub part: usize,
}

/// Where fresh standard normal noise comes from: a closure `Draw → Tensor`, as [`keyed_noise`] makes it.
pub trait NoiseSource<const D: usize> {
    /// The noise of this draw, shaped as the sample.
    fn draw(&mut self, at: Draw) -> Tensor<D>;
}

impl<const D: usize, F: FnMut(Draw) -> Tensor<D>> NoiseSource<D> for F {
    fn draw(&mut self, at: Draw) -> Tensor<D> {
        self(at)
    }
}

/// Draws a step may make before its keys would be the next step's.
const PARTS: u64 = 1 << 16;

/// Noise from a key: row i of the batch depends on (seed, sample + i, step, part) alone, so pictures don't depend on the batch they are drawn
/// in. The key's own step is that of the starting noise; the draws of the steps follow it.
///
/// # Shapes
/// - `shape`: `[batch, ...]`.
pub fn keyed_noise<const D: usize>(
    shape: [usize; D],
    key: NoiseKey,
    device: &Device,
) -> impl FnMut(Draw) -> Tensor<D> + use<D> {
    let device = device.clone();
    move |Draw { step, part }| {
        let offset = 1 + step as u64 * PARTS + part as u64;
        normal(shape, key.at_step(key.step.wrapping_add(offset)), &device)
    }
}

/// How a run ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// If noise is left at the grid's end, one more step replaces the sample by its data estimate (Jolicoeur-Martineau et al. 2021).
    #[default]
    Denoise,
    /// At the grid's end, with the noise that is left there.
    AtGridEnd,
}

/// A solver with a grid of times.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    solver: SolverConfig,
    /// Each from t to s.
    steps: Vec<[f64; 2]>,
    finish: Finish,
}

impl Sampler {
    /// A solver over decreasing times, as the functions of [`grid`] give them.
    ///
    /// # Errors
    /// If the solver's options are out of range, or the times are fewer than two, not finite or not decreasing.
    pub fn new(solver: SolverConfig, times: impl AsRef<[f64]>) -> Result<Self, DiffusionError> {
        let times = times.as_ref();
        solver.check()?;
        grid::check(times)?;
        let steps = times.windows(2).map(|pair| [pair[0], pair[1]]).collect();
        Ok(Self { solver, steps, finish: Finish::default() })
    }

    /// A sampler whose steps go from the first to the second of each pair, whether or not the next step sets out from there: as some published
    /// grids do. Steps that all go up take data to its noise, which a deterministic solver inverts: DDIM inversion. Whether the times are
    /// those of the process shows when a run starts.
    ///
    /// # Errors
    /// If the solver's options are out of range, there is no step, a time is not finite, or some steps go up and some down.
    pub fn with_jumps(solver: SolverConfig, steps: Vec<[f64; 2]>) -> Result<Self, DiffusionError> {
        solver.check()?;
        let goes_up = steps.iter().all(|[t, s]| t <= s);
        let problem =
            match steps.iter().find(|[t, s]| !(t.is_finite() && s.is_finite() && (goes_up || s <= t))) {
                Some([t, s]) => format!("{t} to {s} is no step down"),
                None if steps.is_empty() => "there is no step".to_owned(),
                None => return Ok(Self { solver, steps, finish: Finish::default() }),
            };
        Err(DiffusionError::Grid { problem })
    }

    /// The same with another end.
    #[must_use]
    pub fn with_finish(self, finish: Finish) -> Self {
        Self { finish, ..self }
    }

    /// The same without the first `count` steps.
    ///
    /// # Errors
    /// If no step would be left.
    pub fn skipping(&self, count: usize) -> Result<Self, DiffusionError> {
        let steps = self.steps.get(count..).unwrap_or_default().to_vec();
        Ok(Self { finish: self.finish, ..Self::with_jumps(self.solver, steps)? })
    }

    /// The steps, each from t to s.
    #[must_use]
    pub fn steps(&self) -> &[[f64; 2]] {
        &self.steps
    }

    /// A run from `x`, the sample at the grid's first time, with noise from anywhere.
    ///
    /// # Errors
    /// If the grid leaves the process's times, or the solver can't start where alpha is 0.
    pub fn start<'a, const D: usize>(
        &self,
        process: &'a dyn Process,
        denoiser: &'a dyn Denoiser<D>,
        x: Tensor<D>,
        noise: impl NoiseSource<D> + 'a,
    ) -> Result<Sampling<'a, D>, DiffusionError> {
        grid::check_within(self.steps.as_flattened(), process)?;
        self.solver.check_start(process, self.steps[0][0])?;
        let last = self.steps[self.steps.len() - 1][1];
        let noisy = process.clean_time() != Some(last);
        let mut steps = self.steps.clone();
        // Corrections are made at each level, so at the last one too if noise is left there.
        if noisy && self.solver.corrects() {
            steps.push([last, last]);
        }
        Ok(Sampling {
            process,
            denoiser,
            stepper: self.solver.start()?,
            noise: Box::new(noise),
            denoise_last: self.finish == Finish::Denoise && noisy,
            steps,
            index: 0,
            sample: x,
        })
    }

    /// A run whose starting noise and steps' noise come from a key.
    ///
    /// # Shapes
    /// - `shape`: `[batch, ...]`; row i draws the noise of sample `key.sample + i`.
    ///
    /// # Errors
    /// As [`Sampler::start`].
    pub fn start_keyed<'a, const D: usize>(
        &self,
        process: &'a dyn Process,
        denoiser: &'a dyn Denoiser<D>,
        shape: [usize; D],
        key: NoiseKey,
        device: &Device,
    ) -> Result<Sampling<'a, D>, DiffusionError> {
        let x = scale(process.prior_std(), normal(shape, key, device));
        self.start(process, denoiser, x, keyed_noise(shape, key, device))
    }

    /// Goes on with a run that was put aside, with the noise source it had.
    ///
    /// # Errors
    /// As [`Sampler::start`], and if what was put aside is another solver's or lies beyond the grid.
    pub fn resume<'a, const D: usize>(
        &self,
        process: &'a dyn Process,
        denoiser: &'a dyn Denoiser<D>,
        paused: Paused<D>,
        noise: impl NoiseSource<D> + 'a,
    ) -> Result<Sampling<'a, D>, DiffusionError> {
        let mut sampling = self.start(process, denoiser, paused.sample, noise)?;
        let total = sampling.total();
        if paused.index > total {
            let problem =
                format!("the run was put aside after {} steps, but this one has {total}", paused.index);
            return Err(DiffusionError::Grid { problem });
        }
        sampling.stepper.load(paused.solver)?;
        sampling.index = paused.index;
        Ok(sampling)
    }
}

/// One step of a run.
#[derive(Clone, Debug)]
pub struct Step<const D: usize> {
    /// From 0.
    pub index: usize,
    /// The time left, at which the estimate was made.
    pub t: f64,
    /// The time reached.
    pub s: f64,
    /// The sample at s.
    pub sample: Tensor<D>,
    /// The estimate at t: its data is the preview.
    pub estimate: Estimate<D>,
}

/// A run: an iterator of [`Step`]s.
pub struct Sampling<'a, const D: usize> {
    process: &'a dyn Process,
    denoiser: &'a dyn Denoiser<D>,
    stepper: Box<dyn Stepper<D>>,
    noise: Box<dyn NoiseSource<D> + 'a>,
    steps: Vec<[f64; 2]>,
    denoise_last: bool,
    index: usize,
    sample: Tensor<D>,
}

impl<const D: usize> Sampling<'_, D> {
    /// Steps from first to last.
    #[must_use]
    pub fn total(&self) -> usize {
        self.steps.len() + usize::from(self.denoise_last)
    }

    /// Whether this step takes away the noise that the grid's end leaves.
    pub(crate) const fn denoises(&self, index: usize) -> bool {
        index >= self.steps.len()
    }

    /// Steps taken so far.
    pub(crate) const fn taken(&self) -> usize {
        self.index
    }

    /// The sample as it is now.
    #[must_use]
    pub const fn sample(&self) -> &Tensor<D> {
        &self.sample
    }

    /// Puts another sample in place of the present one, as conditions between steps do ([`Conditioned`](crate::Conditioned)).
    pub fn replace(&mut self, sample: Tensor<D>) {
        self.sample = sample;
    }

    /// What the run has cost each sample so far, where samples choose their own steps ([`DormandPrince`](crate::DormandPrince)).
    #[must_use]
    pub fn tally(&self) -> Option<&Tally> {
        self.stepper.tally()
    }

    /// Puts the run aside; it can go on as well.
    #[must_use]
    pub fn pause(&self) -> Paused<D> {
        Paused { index: self.index, sample: self.sample.clone(), solver: self.stepper.save() }
    }

    /// Takes the steps that are left and gives the sample.
    #[must_use]
    pub fn finish(mut self) -> Tensor<D> {
        while self.next().is_some() {}
        self.sample
    }
}

impl<const D: usize> Iterator for Sampling<'_, D> {
    type Item = Step<D>;

    fn next(&mut self) -> Option<Step<D>> {
        self.advance(&mut |x, _, _| x)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.total() - self.index;
        (left, Some(left))
    }
}

impl<const D: usize> Sampling<'_, D> {
    /// The next step, with what is done between its halves: see [`StepContext::between`].
    pub(crate) fn advance(
        &mut self,
        between: &mut dyn FnMut(Tensor<D>, f64, usize) -> Tensor<D>,
    ) -> Option<Step<D>> {
        if self.index >= self.total() {
            return None;
        }
        let index = self.index;
        let x = self.sample.clone();
        let (t, s, sample, estimate) = if let Some(&[t, s]) = self.steps.get(index) {
            let noise = &mut self.noise;
            let mut context = StepContext {
                process: self.process,
                denoiser: self.denoiser,
                noise: &mut |part| noise.draw(Draw { step: index, part }),
                between,
                index,
                remaining: self.steps.len() - 1 - index,
            };
            let advance = self.stepper.step(&mut context, x, t, s);
            (t, s, advance.sample, advance.estimate)
        } else {
            let t = self.steps[self.steps.len() - 1][1];
            let estimate = self.denoiser.denoise(x, t);
            (t, t, estimate.data.clone(), estimate)
        };
        self.index += 1;
        self.sample = sample.clone();
        Some(Step { index, t, s, sample, estimate })
    }
}

impl<const D: usize> ExactSizeIterator for Sampling<'_, D> {}

impl<const D: usize> fmt::Debug for Sampling<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampling")
            .field("process", &self.process)
            .field("stepper", &self.stepper)
            .field("steps", &self.steps)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
