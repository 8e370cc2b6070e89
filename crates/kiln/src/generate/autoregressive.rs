//! `kiln generate` with a model that `kiln train-autoregressive` kept: drawn pixel after pixel, from nothing or from what is known of a
//! picture.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};
use indicatif::ProgressBar;
use kiln::autoregressive::AutoregressiveModel;
use kiln::autoregressive::zoo::{ModelConfig, Visitor};
use kiln::backend::noise::NoiseKey;
use kiln::checkpoint::Checkpoint;
use kiln::picture::{Channels, Filter, Picture};

use super::COUNT;
use crate::cli::{Float, Generate};
use crate::interrupt::Interrupted;
use crate::train_autoregressive::{Format, KEY, MODEL_FILE, PICTURES_KEY, binarising, discrete, drawn};

/// Pictures that are drawn at once.
const BATCH: usize = 64;

/// A file that `kiln train-autoregressive` kept.
pub struct Kept {
    file: Checkpoint,
    config: ModelConfig,
    pictures: Option<[usize; 3]>,
}

impl Kept {
    /// What is at a path, if it is such a file, or the folder of such a run.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        let path = if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() };
        // What can't be read is none of these; whoever reads it next says what is wrong with it.
        let Ok(file) = Checkpoint::open(&path) else { return Ok(None) };
        let Some(text) = file.metadata().get(KEY) else { return Ok(None) };
        let can_not = || format!("the model in {} can't be used", path.display());
        let config = serde_json::from_str(text).with_context(can_not)?;
        let pictures = file.metadata().get(PICTURES_KEY).map(|text| serde_json::from_str(text));
        let pictures = pictures.transpose().with_context(can_not)?;
        Ok(Some(Self { file, config, pictures }))
    }

    /// Draws what is asked for.
    pub fn draw(
        &self,
        options: &Generate,
        device: &Device,
        (interrupted, bar): (&AtomicBool, &ProgressBar),
    ) -> Result<Vec<Picture>> {
        refuse(options)?;
        let drawing = Drawing { kept: self, options, device, interrupted, bar };
        self.config.build(device, drawing)?
    }
}

/// Options that mean something for other models only.
fn refuse(options: &Generate) -> Result<()> {
    let of_pipelines = &options.pipeline;
    let others = [
        ("--label", options.label.is_some()),
        ("--size", options.size.is_some()),
        ("--steps", options.steps.is_some()),
        ("--solver", options.solver.is_some()),
        ("--tolerance", options.tolerance.is_some()),
        ("--guidance", options.guidance.is_some()),
        ("--prompt", !of_pipelines.prompt.is_empty()),
        ("--negative-prompt", of_pipelines.negative_prompt.is_some()),
        ("--literal", of_pipelines.literal),
        ("--width", of_pipelines.width.is_some()),
        ("--height", of_pipelines.height.is_some()),
        ("--strength", of_pipelines.strength.is_some()),
        ("--control", !of_pipelines.control.is_empty()),
        ("--control-image", !of_pipelines.control_image.is_empty()),
        ("--control-mask", !of_pipelines.control_mask.is_empty()),
        ("--guess", of_pipelines.guess),
        ("--lora", !of_pipelines.lora.is_empty()),
        ("--low-memory", of_pipelines.low_memory),
        ("--dtype", !matches!(of_pipelines.dtype, Float::F32)),
        ("--like", of_pipelines.like.is_some()),
    ];
    match others.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            bail!(
                "{flag} is for other models; this one is drawn pixel by pixel: --count, --seed, --class, --image, --mask"
            )
        }
        None => Ok(()),
    }
}

struct Drawing<'a> {
    kept: &'a Kept,
    options: &'a Generate,
    device: &'a Device,
    interrupted: &'a AtomicBool,
    bar: &'a ProgressBar,
}

impl Visitor for Drawing<'_> {
    type Output = Result<Vec<Picture>>;

    fn visit<M: AutoregressiveModel>(self, model: M) -> Self::Output {
        let Self { kept, options, device, interrupted, bar } = self;
        let model = kept.file.load_into(model)?.module;
        let format = kept.format(&model)?;
        let levels = format.levels(&model)?;
        let count = options.count.unwrap_or(COUNT) as usize;
        let seed = options.seed.unwrap_or(0);
        let known = Known::read(options, &format, levels, seed)?;
        let classes = classes(options.class.as_deref(), model.given(), count)?;
        bar.set_length(count as u64);
        let mut pictures = Vec::with_capacity(count);
        for first in (0..count).step_by(BATCH) {
            if interrupted.load(Ordering::Relaxed) {
                bail!(Interrupted("; nothing was written".to_owned()));
            }
            let batch = BATCH.min(count - first);
            // Each picture's own numbers, however many are drawn at once.
            let key = NoiseKey::new(seed).at_sample(first as u64);
            let given = classes.as_ref().map(|classes| {
                let labels = Tensor::<1, Int>::from_data(&classes[first..first + batch], device);
                labels.one_hot::<2>(model.given()).float()
            });
            let x = match &known {
                None => model.sample(batch, given, key)?,
                Some(known) => {
                    let n = known.values.len();
                    let x = Tensor::<2>::from_data(TensorData::new(known.values.clone(), [1, n]), device);
                    model.complete(x.repeat_dim(0, batch), &known.sites(&model), given, key)?
                }
            };
            pictures.extend(drawn(&format, levels, &x)?);
            bar.inc(batch as u64);
        }
        Ok(pictures)
    }
}

impl Kept {
    /// The pictures that the model is of: as the file says, or as the model says, or square.
    fn format<M: AutoregressiveModel>(&self, model: &M) -> Result<Format> {
        let n = model.variables();
        let [channels, height, width] = match (self.pictures, self.config.canvas()) {
            (Some(size), _) => size,
            (None, Some(canvas)) => [canvas.channels, canvas.height, canvas.width],
            (None, None) => [1, n.isqrt(), n.isqrt()],
        };
        if channels.checked_mul(height).and_then(|n| n.checked_mul(width)) != Some(n)
            || !matches!(channels, 1 | 3)
        {
            bail!(
                "the model in {} is of {n} variables, which are no {channels} x {height} x {width}",
                self.file.label()
            );
        }
        Ok(Format { channels, height, width, classes: model.given() })
    }
}

/// What is known of a picture.
struct Known {
    values: Vec<f32>,
    /// By pixel.
    pixels: Vec<bool>,
}

impl Known {
    /// The picture of --image, and what --mask leaves of it: without one, its upper half.
    fn read(options: &Generate, format: &Format, levels: usize, seed: u64) -> Result<Option<Self>> {
        let Some(path) = &options.pipeline.image else { return Ok(None) };
        let layout = if format.channels == 3 { Channels::Rgb } else { Channels::Grey };
        let picture = fitted(&Picture::open(path)?.convert(layout), format)?;
        let pixels = match &options.pipeline.mask {
            Some(mask) => {
                let mask = fitted(&Picture::open(mask)?.convert(Channels::Grey), format)?;
                mask.samples().iter().map(|white| *white < 128).collect()
            }
            None => (0..format.height * format.width).map(|p| p / format.width < format.height / 2).collect(),
        };
        Ok(Some(Self { values: discrete(&picture, levels, binarising(seed)), pixels }))
    }

    /// By the model's sites: those of a pixel are known together.
    fn sites<M: AutoregressiveModel>(&self, model: &M) -> Vec<bool> {
        (0..model.sites()).map(|site| self.pixels[site % self.pixels.len()]).collect()
    }
}

fn fitted(picture: &Picture, format: &Format) -> Result<Picture> {
    let [width, height] = [format.width, format.height].map(|side| side as u32);
    if (picture.width(), picture.height()) == (width, height) {
        return Ok(picture.clone());
    }
    Ok(picture.resize(width, height, Filter::Bilinear)?)
}

/// The class of each picture: the one that is asked for, or all in turn.
fn classes(wanted: Option<&str>, known: usize, count: usize) -> Result<Option<Vec<i64>>> {
    Ok(match (wanted, known) {
        (None, 0) => None,
        (Some(_), 0) => {
            bail!("--class: the model has no classes; `kiln train-autoregressive --labels` learns them")
        }
        (None, known) => Some((0..count).map(|i| (i % known) as i64).collect()),
        (Some(class), known) => match class.parse::<usize>() {
            Ok(class) if class < known => Some(vec![class as i64; count]),
            _ => bail!("there is no class {class}: the model has {known}, numbered 0 to {}", known - 1),
        },
    })
}
