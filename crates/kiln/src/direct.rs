//! Drawing with a consistency model: from noise to the picture in one step, or in a few with fresh noise between them.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_checkpoint::{Contents, Pretrained};
use kiln_denoisers::guided::OutputRange;
use kiln_denoisers::unet2d::ClassCondition;
use kiln_denoisers::{ConsistencyConfig, ConsistencyModel, GuidedUNet, GuidedUNetConfig};
use kiln_diffusion::{Consistency, Edm, Estimate, Process, Sampler, SolverConfig};
use kiln_picture::Picture;

use crate::ModelError;
use crate::card::KEY;
use crate::draw::{BATCH, Progress, to_pictures};

/// What a picture is to show, as a [`DirectModel`] is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// A number, as the difficulty of a terrain.
    Number(f64),
    /// A row of a table of classes.
    Class(usize),
}

/// Which labels a [`DirectModel`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelKind {
    /// None.
    None,
    /// [`Label::Number`].
    Number,
    /// [`Label::Class`], below this.
    Class(usize),
}

/// How to draw with a [`DirectModel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectOptions {
    /// The seed: the same one gives the same pictures, on every backend.
    pub seed: u64,
    /// Evaluations of the network for a picture.
    pub steps: usize,
    /// Height and width in pixels; absent: [`DirectModel::natural_size`].
    pub size: Option<usize>,
}

/// A network that draws in one step: OpenAI's consistency models, and others with their names.
#[derive(Debug)]
pub struct DirectModel {
    network: ConsistencyModel,
    config: GuidedUNetConfig,
    labels: LabelKind,
    device: Device,
}

impl DirectModel {
    /// Reads a file or folder with such a network.
    ///
    /// # Errors
    /// [`ModelError::Kind`] for a file of something else, [`ModelError::Description`] for a U-Net that draws no pictures by
    /// itself, [`ModelError::Checkpoint`].
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let stored = match Contents::open(path)? {
            Contents::Model(stored)
                if stored.class()?.as_deref().is_some_and(|class| GuidedUNet::CLASSES.contains(&class)) =>
            {
                stored
            }
            _ => return Err(ModelError::Kind { file: path.display().to_string(), key: KEY }),
        };
        let describe = |reason: String| ModelError::Description { file: stored.label().to_owned(), reason };
        let config = GuidedUNetConfig::from_json(&stored.config).map_err(|e| describe(e.to_string()))?;
        let labels = match (config.num_classes, config.label_channels) {
            (Some(classes), _) => LabelKind::Class(classes),
            (None, Some(1)) => LabelKind::Number,
            (None, None) => LabelKind::None,
            (None, Some(width)) => {
                return Err(describe(format!(
                    "its labels are {width} numbers each, and one is all that can be given"
                )));
            }
        };
        let (from, to) = (config.in_channels, config.out_channels);
        if from != to || !matches!(from, 1 | 3) {
            let reason = format!(
                "a consistency model of pictures has 1 or 3 channels, and it takes {from} and gives {to}"
            );
            return Err(describe(reason));
        }
        let range = ConsistencyConfig::from_json(&stored.config).map_err(|e| describe(e.to_string()))?;
        let network = range.wrap(stored.load(device)?).map_err(|e| describe(e.to_string()))?;
        Ok(Self { network, config, labels, device: device.clone() })
    }

    /// Which labels it takes.
    #[must_use]
    pub fn labels(&self) -> LabelKind {
        self.labels
    }

    /// Height and width at which the innermost level has 8 x 8 pixels, as in all that were published.
    #[must_use]
    pub fn natural_size(&self) -> usize {
        8 << self.halvings()
    }

    fn halvings(&self) -> usize {
        self.config.channel_mult.len() - 1
    }

    /// Draws a picture for each of `labels` (one `None` each where the model takes none), by Song et al. 2023, algorithm 1:
    /// a step to the picture, then back to less noise. The levels of noise between are those of Karras et al. 2022 (rho = 7)
    ///
    /// ```text
    /// sigma_i = (max^(1/7) + i / n (min^(1/7) - max^(1/7)))^7,   i = 0 .. n - 1
    /// ```
    ///
    /// # Errors
    /// [`ModelError::Label`] for another kind of label than the model takes, [`ModelError::Card`] for a size that it can't
    /// halve, [`ModelError::Diffusion`] for 0 steps, [`ModelError::NotFinite`], [`ModelError::Stopped`].
    pub fn draw(
        &self,
        labels: &[Option<Label>],
        options: &DirectOptions,
        mut progress: impl FnMut(Progress) -> Result<(), String>,
    ) -> Result<Vec<Picture>, ModelError> {
        let size = options.size.unwrap_or_else(|| self.natural_size());
        if size == 0 || size > 4096 || !size.is_multiple_of(1 << self.halvings()) {
            let reason = format!(
                "pictures of {size} x {size}: expected a multiple of {}, at most 4096",
                1 << self.halvings()
            );
            return Err(ModelError::Card { reason });
        }
        let ConsistencyConfig { sigma_min, sigma_max, .. } = self.network.config;
        // A network whose least noise is none was trained as EDM has it, down to 0.002.
        let process = Edm::new(if sigma_min > 0.0 { sigma_min } else { 0.002 }, sigma_max)?;
        let solver = Consistency { boundary: None, sigma_floor: sigma_min };
        let sampler = Sampler::new(SolverConfig::Consistency(solver), levels(&process, options.steps))?;
        let batches = labels.len().div_ceil(BATCH);
        let mut pictures = Vec::with_capacity(labels.len());
        for (batch, labels) in labels.chunks(BATCH).enumerate() {
            let condition = self.condition(labels)?;
            let denoiser = |x: Tensor<4>, t: f64| {
                let sigma = vec![t; x.dims()[0]];
                let data = self.network.denoise(x.clone(), &sigma, condition.clone(), OutputRange::Clamped);
                Estimate { noise: (x - data.clone()) / t, data }
            };
            let shape = [labels.len(), self.config.in_channels, size, size];
            let key = NoiseKey { seed: options.seed, sample: (batch * BATCH) as u64, step: 0 };
            let mut sampling = sampler.start_keyed(&process, &denoiser, shape, key, &self.device)?;
            let steps = sampling.total();
            for done in 1..=steps {
                sampling.next();
                self.device.sync().map_err(|error| ModelError::Stopped(error.to_string()))?;
                progress(Progress { done: batch * steps + done, total: batches * steps })
                    .map_err(ModelError::Stopped)?;
            }
            pictures.extend(to_pictures(sampling.sample().clone(), pictures.len())?);
        }
        Ok(pictures)
    }

    fn condition(&self, labels: &[Option<Label>]) -> Result<Option<ClassCondition>, ModelError> {
        let fail = |reason: &str| ModelError::Label { reason: reason.to_owned() };
        match self.labels {
            LabelKind::None if labels.iter().any(Option::is_some) => Err(fail("the model takes no label")),
            LabelKind::None => Ok(None),
            LabelKind::Number => {
                let number = |label: &Option<Label>| match label {
                    Some(Label::Number(number)) if number.is_finite() => Ok(*number as f32),
                    _ => Err(fail("the model takes a number as its label")),
                };
                let numbers = labels.iter().map(number).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(ClassCondition::Numbers(Tensor::from_data(&*numbers, &self.device))))
            }
            LabelKind::Class(count) => {
                let row = |label: &Option<Label>| match label {
                    Some(Label::Class(class)) if *class < count => Ok(*class as i64),
                    _ => Err(fail(&format!("the model takes a class from 0 to {}", count - 1))),
                };
                let rows = labels.iter().map(row).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(ClassCondition::Labels(Tensor::from_data(&*rows, &self.device))))
            }
        }
    }
}

/// Levels of noise for so many steps, and then none.
fn levels(process: &Edm, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let [high, low] = [process.t_max(), process.t_min()].map(|sigma| sigma.powf(1.0 / RHO));
    let level = |i| match i {
        // As it is, and not as the roots round it.
        0 => process.t_max(),
        i => (high + (low - high) * i as f64 / steps as f64).powf(RHO),
    };
    (0..steps).map(level).chain([0.0]).collect()
}
