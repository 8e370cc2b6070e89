//! Drawing pictures with a model.

use std::rc::Rc;

use burn::tensor::{Int, Tensor, TensorData};
use kiln_backend::noise::NoiseKey;
use kiln_denoisers::unet2d::ClassCondition;
use kiln_diffusion::{Clipped, Contrast, Denoiser, Estimate, Guided, Network, Sampler, SolverConfig, grid};
use kiln_picture::{Channels, Picture};

use crate::{Controlled, ModelError, PictureControl, PictureModel, PictureNetwork};

/// How to draw. What is absent is as the model's own card says.
#[derive(Debug, Clone, Copy, Default)]
pub struct DrawOptions {
    /// The seed: the same one gives the same pictures, on every backend.
    pub seed: u64,
    /// The number of the first picture under the seed: pictures 0 to 15 are 0 to 7 and 8 to 15.
    pub first: u64,
    /// The solver.
    pub solver: Option<SolverConfig>,
    /// Its steps.
    pub steps: Option<usize>,
    /// The scale of classifier-free guidance; 1 for none.
    pub guidance: Option<f64>,
}

/// How far a drawing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Steps done, over all pictures.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

/// A control network, the edges that it is shown, one row a picture, and how strongly it counts.
type Shown<'a> = (&'a PictureControl, Tensor<4>, f64);

/// So many pictures go through the network at once: more would only take more memory.
pub(crate) const BATCH: usize = 16;

impl PictureModel {
    /// Draws a picture for each of `classes` (`None`: of no class in particular). `progress` is called after each
    /// step, and ends the drawing by an error.
    ///
    /// # Errors
    /// [`ModelError::Class`] or [`ModelError::NoClasses`], [`ModelError::Diffusion`] for a solver or a number of steps
    /// that can't be used, [`ModelError::NotFinite`], [`ModelError::Stopped`].
    pub fn draw(
        &self,
        classes: &[Option<usize>],
        options: &DrawOptions,
        progress: impl FnMut(Progress) -> Result<(), String>,
    ) -> Result<Vec<Picture>, ModelError> {
        self.draw_controlled(classes, None, options, progress)
    }

    /// As [`draw`](Self::draw), each picture inside the edges that a control network is shown.
    ///
    /// # Errors
    /// As [`draw`](Self::draw), and [`ModelError::Card`] for a control network of another model, or pictures of another size or
    /// number.
    pub fn draw_controlled(
        &self,
        classes: &[Option<usize>],
        controlled: Option<Controlled<'_>>,
        options: &DrawOptions,
        mut progress: impl FnMut(Progress) -> Result<(), String>,
    ) -> Result<Vec<Picture>, ModelError> {
        let shown = controlled.map(|controlled| self.shown(&controlled, classes.len())).transpose()?;
        for &class in classes.iter().flatten() {
            self.card.class(&class.to_string())?;
        }
        let defaults = self.card.sampling;
        let guidance = options.guidance.unwrap_or(defaults.guidance);
        let times = self.times(options.steps.unwrap_or(defaults.steps))?;
        let sampler = Sampler::new(options.solver.unwrap_or(defaults.solver), times)?;
        let batches = classes.len().div_ceil(BATCH);
        let mut pictures = Vec::with_capacity(classes.len());
        for (batch, classes) in classes.chunks(BATCH).enumerate() {
            let part = |(control, all, scale): &(_, Tensor<4>, f64)| {
                let first = batch * BATCH;
                (*control, all.clone().narrow(0, first, classes.len()), *scale)
            };
            let denoiser = self.denoiser(classes, guidance, shown.as_ref().map(part))?;
            let shape = [classes.len(), self.card.network.channels(), self.card.size[0], self.card.size[1]];
            let key =
                NoiseKey { seed: options.seed, sample: options.first + (batch * BATCH) as u64, step: 0 };
            let mut sampling =
                sampler.start_keyed(self.process.as_ref(), denoiser.as_ref(), shape, key, &self.device)?;
            let steps = sampling.total();
            for done in 1..=steps {
                let _span = tracing::debug_span!("step", done).entered();
                sampling.next();
                // A lazy backend has only been told what to do so far; waiting makes the progress a real one.
                self.device.sync().map_err(|error| ModelError::Stopped(error.to_string()))?;
                progress(Progress { done: batch * steps + done, total: batches * steps })
                    .map_err(ModelError::Stopped)?;
            }
            pictures.extend(to_pictures(sampling.sample().clone(), pictures.len())?);
        }
        Ok(pictures)
    }

    /// The way from noise to one picture of `class`: after each step the sample, and the clean picture that the network had in
    /// mind. A sample is shown at the contrast of a picture, whatever scale the process has.
    ///
    /// # Errors
    /// As [`draw`](Self::draw).
    pub fn trajectory(
        &self,
        class: Option<usize>,
        options: &DrawOptions,
    ) -> Result<Vec<[Picture; 2]>, ModelError> {
        if let Some(class) = class {
            self.card.class(&class.to_string())?;
        }
        let defaults = self.card.sampling;
        let process = self.process.as_ref();
        let times = self.times(options.steps.unwrap_or(defaults.steps))?;
        let sampler = Sampler::new(options.solver.unwrap_or(defaults.solver), times)?;
        let denoiser = self.denoiser(&[class], options.guidance.unwrap_or(defaults.guidance), None)?;
        let shape = [1, self.card.network.channels(), self.card.size[0], self.card.size[1]];
        let key = NoiseKey { seed: options.seed, sample: options.first, step: 0 };
        let sampling = sampler.start_keyed(process, denoiser.as_ref(), shape, key, &self.device)?;
        let mut frames = Vec::with_capacity(sampling.total());
        for step in sampling {
            let law = process.law(step.s);
            // Pictures have a standard deviation of about a half; noise is shown as wide as they are.
            let shown = step.sample / (2.0 * law.sigma).hypot(law.alpha);
            let [sample, estimate] = [shown, step.estimate.data].map(|x| to_pictures(x, 0));
            frames.extend(sample?.into_iter().zip(estimate?).map(|(sample, estimate)| [sample, estimate]));
        }
        Ok(frames)
    }

    /// What suits the process; of a network that knows levels of noise alone, the nearest of these.
    fn times(&self, steps: usize) -> Result<Vec<f64>, ModelError> {
        let mut times = grid::natural(self.process.as_ref(), steps)?;
        if let Some(levels) = self.card.network.levels() {
            let last = (levels - 1) as f64;
            for time in &mut times {
                *time = (*time * last).round() / last;
            }
            times.dedup();
        }
        Ok(times)
    }

    /// Edges for each of `count` pictures.
    fn shown<'a>(&self, controlled: &Controlled<'a>, count: usize) -> Result<Shown<'a>, ModelError> {
        let Controlled { control, pictures, scale } = *controlled;
        control.check(&self.card)?;
        let edges = control.card().tensor(pictures, &self.device)?;
        let edges = match pictures.len() {
            1 => edges.repeat_dim(0, count),
            given if given == count => edges,
            given => {
                let reason = format!("{given} pictures of edges are given for {count} that are drawn");
                return Err(ModelError::Card { reason });
            }
        };
        Ok((control, edges, scale))
    }

    /// The network for a batch of classes, guided where that changes anything.
    fn denoiser<'a>(
        &'a self,
        classes: &[Option<usize>],
        guidance: f64,
        shown: Option<Shown<'a>>,
    ) -> Result<Box<dyn Denoiser<4> + 'a>, ModelError> {
        let process = self.process.as_ref();
        let none = self.card.no_class();
        let conditional: Vec<_> = classes.iter().map(|class| class.unwrap_or(none)).collect();
        let guided = guidance != 1.0 && conditional.iter().any(|&class| class != none);
        let labels = match guided {
            // Both halves of the contrast go through the network as one batch.
            true => [conditional, vec![none; classes.len()]].concat(),
            false => conditional,
        };
        let labels: Vec<i64> = labels.into_iter().map(|class| class as i64).collect();
        let labels = TensorData::new(labels.clone(), [labels.len()]);
        let labels = Tensor::<1, Int>::from_data(labels, &self.device);
        let labels = self.card.is_labelled().then_some(labels);
        let shown = shown.map(|(control, edges, scale)| {
            let edges = if guided { Tensor::cat(vec![edges.clone(), edges], 0) } else { edges };
            (control, edges, scale)
        });
        let network =
            Network::new(process, self.card.prediction, move |x, times| match (&self.network, &shown) {
                (PictureNetwork::UNet2D(unet), Some((control, edges, scale))) => {
                    let residuals =
                        control.residuals(x.clone(), times.clone(), labels.clone(), edges.clone(), *scale);
                    let condition = labels.clone().map(ClassCondition::Labels);
                    unet.forward_controlled(x, times, condition, Some(residuals))
                }
                (network, _) => network.predict(x, times, labels.clone()),
            })?;
        Ok(match guided {
            true => {
                let contrast = |both: Estimate<4>| {
                    let [conditional, unconditional] = both.halves();
                    Contrast { conditional, unconditional, spread: None }
                };
                let network = Rc::new(network);
                let each = Rc::clone(&network);
                let twice = |x: Tensor<4>| Tensor::cat(vec![x.clone(), x], 0);
                let guided =
                    Guided::new(guidance, move |x: Tensor<4>, t| contrast(network.denoise(twice(x), t)));
                let guided = guided.with_each(move |x, times: &[f64]| {
                    contrast(each.denoise_each(twice(x), &[times, times].concat()))
                });
                Box::new(Clipped::new(process, guided))
            }
            false => Box::new(Clipped::new(process, network)),
        })
    }
}

/// Values from -1 to 1, `[batch, channels, height, width]`, as 8-bit pictures; `first` is the number of the first.
pub(crate) fn to_pictures(x: Tensor<4>, first: usize) -> Result<Vec<Picture>, ModelError> {
    let [batch, channels, height, width] = x.dims();
    let layout = if channels == 1 { Channels::Grey } else { Channels::Rgb };
    // Channels last, as pictures have them.
    let values: Vec<f32> = x.permute([0, 2, 3, 1]).into_data().iter::<f32>().collect();
    let mut pictures = Vec::with_capacity(batch);
    for (index, values) in values.chunks_exact(height * width * channels).enumerate() {
        if values.iter().any(|v| !v.is_finite()) {
            return Err(ModelError::NotFinite { picture: first + index });
        }
        let samples = values.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8).collect();
        pictures.push(Picture::new(width as u32, height as u32, layout, samples)?);
    }
    Ok(pictures)
}
