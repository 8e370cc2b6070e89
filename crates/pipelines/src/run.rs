//! From starting noise to the last latents: the steps that every pipeline takes.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use burn::tensor::Tensor;
use kiln_backend::watch::{self, Place};
use kiln_diffusion::{Law, NoiseSource, Scaling, Schedule};

use crate::PipelineError;
use crate::finite::not_finite;

/// A step that was made.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Steps made.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The latents after it, as the denoiser sees them.
    pub latents: &'a Tensor<4>,
    /// What the network takes the finished latents for: decoded, a preview.
    pub estimate: &'a Tensor<4>,
}

/// What is told of each step, and may end the run. A closure `|_| ControlFlow::Continue(())` lets it go on.
pub type Observer<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// What is drawn over after each step.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The picture's latents.
    pub(crate) latents: Tensor<4>,
    /// The noise that they are seen through.
    pub(crate) noise: Tensor<4>,
    /// 1 where the run draws and 0 where the picture stays.
    pub(crate) mask: Tensor<4>,
}

impl Kept {
    /// The picture where it stays, at a step's end; at the last one as it is.
    fn impose(&self, sample: Tensor<4>, law: &Law, is_last: bool) -> Tensor<4> {
        let kept = match is_last {
            true => self.latents.clone(),
            false => self.latents.clone() * law.alpha + self.noise.clone() * law.sigma,
        };
        kept * (self.mask.clone() * -1.0 + 1.0) + sample * self.mask.clone()
    }
}

/// One run: a schedule, where it sets out, and what it draws over.
pub(crate) struct Run<'a, N> {
    pub(crate) schedule: &'a Schedule,
    /// x at the first time.
    pub(crate) start: Tensor<4>,
    pub(crate) noise: N,
    pub(crate) kept: Option<Kept>,
}

impl<N: NoiseSource<4>> Run<'_, N> {
    /// Takes all steps. `network` is given its input, the time that it is told, and which call of how many this is; `named` tells what a
    /// place in it is called.
    pub(crate) fn finish(
        self,
        network: impl Fn(Tensor<4>, f64, Call) -> Tensor<4>,
        named: impl Fn(Place) -> Option<String>,
        observe: &mut Observer<'_>,
    ) -> Result<Tensor<4>, PipelineError> {
        let Self { schedule, start, noise, kept } = self;
        let asked = Cell::new(0);
        let calls = calls(schedule, &start)?;
        // What the network was given in the step at hand.
        let given = RefCell::new(Vec::new());
        let denoiser = schedule.denoiser(|input: Tensor<4>, told| {
            let call = Call { index: asked.replace(asked.get() + 1), calls };
            given.borrow_mut().push((input.clone(), told, call));
            network(input, told, call)
        });
        let process = &*schedule.process;
        let mut sampling = schedule.sampler.start(process, &denoiser, start, noise)?;
        let steps = sampling.total();
        let mut shown = sampling.sample().clone();
        let refuse_flawed = |made: Made| {
            if !watch::has_flaw(made.flaw) {
                return Ok(());
            }
            let again = |(input, told, call)| watch::first_not_finite(|| drop(network(input, told, call)));
            let place = made.given.into_iter().find_map(again);
            Err(not_finite("the denoiser", Some(made.step), place.and_then(&named)))
        };
        let mut made: Option<Made> = None;
        while let Some(step) = sampling.next() {
            let (law, done) = (process.law(step.s), step.index + 1);
            if let Some(kept) = &kept {
                sampling.replace(kept.impose(step.sample, &law, done == steps));
            }
            // Seen as diffusers keeps it.
            shown = match schedule.scaling {
                Scaling::NoiseRatio if law.alpha > 0.0 => sampling.sample().clone() / law.alpha,
                _ => sampling.sample().clone(),
            };
            // One bad number spoils all that follow. It is looked for a step late: while the host waits for what was found in one step, a GPU
            // has the next one to do.
            let now = Made { step: step.index, flaw: watch::flaw(&shown), given: given.take() };
            if let Some(before) = made.replace(now) {
                refuse_flawed(before)?;
            }
            if done == steps
                && let Some(last) = made.take()
            {
                refuse_flawed(last)?;
            }
            let progress = Progress { step: done, steps, latents: &shown, estimate: &step.estimate.data };
            if observe(progress).is_break() && done < steps {
                return Err(PipelineError::Stopped { step: done, steps });
            }
        }
        Ok(shown)
    }
}

/// A step that was made, of whose numbers the device has been asked whether all are finite.
struct Made {
    /// From 0.
    step: usize,
    /// [`watch::flaw`] of what it gave.
    flaw: Tensor<1>,
    /// What the network was given in it.
    given: Vec<(Tensor<4>, f64, Call)>,
}

/// Which call of the network it is: solvers may ask more than once a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// From 0.
    pub(crate) index: usize,
    pub(crate) calls: usize,
}

impl Call {
    /// Whether it lies between two shares of the run, as diffusers counts it.
    pub(crate) fn is_within(self, from: f64, to: f64) -> bool {
        let share = |index: usize| index as f64 / self.calls as f64;
        share(self.index) >= from && share(self.index + 1) <= to
    }
}

/// How often a run asks the network: found by one that computes nothing.
fn calls(schedule: &Schedule, like: &Tensor<4>) -> Result<usize, PipelineError> {
    let asked = Cell::new(0);
    let denoiser = schedule.denoiser(|x: Tensor<4>, _| {
        asked.set(asked.get() + 1);
        x
    });
    let nothing = Tensor::zeros([1, 1, 1, 1], (&like.device(), like.dtype()));
    let noise = |_| nothing.clone();
    let _ = schedule.sampler.start(&*schedule.process, &denoiser, nothing.clone(), noise)?.finish();
    Ok(asked.get())
}
