//! What a run tells and keeps: progress, the model's file, pictures, and at the end its scores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{Device, Int, Tensor};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use kiln::autoregressive::zoo::ModelConfig;
use kiln::autoregressive::{AutoregressiveModel, Labelled, bits_per_dimension};
use kiln::backend::noise::NoiseKey;
use kiln::checkpoint::{SaveOptions, StoredDType, save, write_atomically};
use kiln::picture::grid;
use kiln::training::{BoxError, Observer, StepReport};
use serde::Serialize;
use serde_json::json;

use super::data::Discrete;
use super::options::Format;

/// The finished model in a run's folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// The metadata key that the model's configuration stands under, as JSON.
pub const KEY: &str = "kiln.autoregressive";

/// The metadata key of the pictures' channels, height and width.
pub const PICTURES_KEY: &str = "kiln.autoregressive.pictures";

/// Shows and keeps what a run does.
pub struct Report<'a> {
    pub folder: PathBuf,
    pub config: &'a ModelConfig,
    pub format: Format,
    pub bar: ProgressBar,
    loss: Option<f32>,
}

impl<'a> Report<'a> {
    pub fn new(
        config: &'a ModelConfig,
        format: Format,
        folder: &Path,
        step: usize,
        steps: usize,
    ) -> Result<Self> {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
            .context("the progress bar's template")?;
        let bar = ProgressBar::new(steps as u64).with_style(style);
        bar.set_position(step as u64);
        Ok(Self { folder: folder.to_owned(), config, format, bar, loss: None })
    }
}

impl<M: AutoregressiveModel> Observer<M> for Report<'_> {
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let smooth = self.loss.map_or(report.loss, |loss| 0.98 * loss + 0.02 * report.loss);
        self.loss = Some(smooth);
        self.bar.set_position(report.step as u64);
        let left = HumanDuration(report.eta);
        let told = format!("{smooth:.2} nats, {:.0} pictures/s, {left} left", report.samples_per_second);
        // Where no bar can be drawn, a line now and then.
        if self.bar.is_hidden() && (report.step.is_multiple_of(100) || report.step == report.steps) {
            eprintln!("step {}/{}: {told}", report.step, report.steps);
        }
        self.bar.set_message(told);
        Ok(())
    }

    fn on_checkpoint(&mut self, _: &Path, averaged: &M) -> Result<(), BoxError> {
        let Format { channels, height, width, .. } = self.format;
        let metadata = BTreeMap::from([
            (KEY.to_owned(), serde_json::to_string(self.config)?),
            (PICTURES_KEY.to_owned(), serde_json::to_string(&[channels, height, width])?),
        ]);
        let options = SaveOptions { dtype: StoredDType::F32, metadata };
        Ok(save(averaged, self.folder.join(MODEL_FILE), &options)?)
    }
}

/// What a run reached, on the pictures that were held out.
#[derive(Debug, Serialize)]
pub struct Scores {
    /// The mean of -log p(x), or -log p(x | y).
    pub nats: f64,
    pub bits_per_dimension: f64,
    pub pictures: usize,
    pub parameters: usize,
    /// Of scoring them all.
    pub seconds: f64,
    /// The share whose class is the likeliest by Bayes, classes being as likely as each other before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classified: Option<f64>,
}

/// Pictures that are scored at once.
const BATCH: usize = 100;

/// The classes of pictures as a model is given them, if it is given with any.
pub fn given<M: AutoregressiveModel>(model: &M, labels: Option<Tensor<1, Int>>) -> Option<Tensor<2>> {
    let classes = model.given();
    labels.filter(|_| classes > 0).map(|labels| labels.one_hot::<2>(classes).float())
}

pub fn scores<M: AutoregressiveModel>(model: &M, held_out: &Discrete, device: &Device) -> Result<Scores> {
    let started = Instant::now();
    let all: Vec<usize> = (0..held_out.len()).collect();
    let mut nats = 0.0;
    for indices in all.chunks(BATCH) {
        let given = given(model, held_out.labels(indices, device));
        let log_prob = model.log_prob(held_out.batch(indices, device), given)?;
        nats -= log_prob.to_data().iter::<f32>().map(f64::from).sum::<f64>();
    }
    let seconds = started.elapsed().as_secs_f64();
    let nats = nats / all.len() as f64;
    let classified = if model.given() > 0 { Some(classified(model, held_out, device)?) } else { None };
    Ok(Scores {
        nats,
        bits_per_dimension: bits_per_dimension(nats, model.variables()),
        pictures: all.len(),
        parameters: model.num_params(),
        seconds,
        classified,
    })
}

fn classified<M: AutoregressiveModel>(model: &M, held_out: &Discrete, device: &Device) -> Result<f64> {
    let joint = Labelled::new(model.clone(), device)?;
    let all: Vec<usize> = (0..held_out.len()).collect();
    let mut right = 0;
    for indices in all.chunks(BATCH) {
        let Some(labels) = held_out.labels(indices, device) else { continue };
        let likeliest = joint.classify(&held_out.batch(indices, device))?.argmax(1).squeeze_dim::<1>(1);
        right += likeliest.equal(labels).int().sum().into_scalar::<i64>();
    }
    Ok(right as f64 / all.len() as f64)
}

/// `samples.png`, drawn anew, and `completions.png`: digits of which the upper half is known, three continuations of each, and the digit.
pub fn pictures<M: AutoregressiveModel>(
    model: &M,
    held_out: &Discrete,
    folder: &Path,
    seed: u64,
    device: &Device,
) -> Result<()> {
    const ROWS: usize = 4;
    const COLUMNS: usize = 10;
    let key = NoiseKey::new(seed);
    let classes = model.given();
    let wanted = (classes > 0).then(|| {
        let labels: Vec<i64> = (0..ROWS * COLUMNS).map(|i| (i % COLUMNS % classes) as i64).collect();
        Tensor::<1, Int>::from_data(labels.as_slice(), device)
    });
    let drawn = model.sample(ROWS * COLUMNS, given(model, wanted), key)?;
    grid(&held_out.pictures(&drawn)?, COLUMNS, 2)?.write_png(folder.join("samples.png"))?;

    let shown: Vec<usize> = (0..COLUMNS.min(held_out.len())).collect();
    let x = held_out.batch(&shown, device);
    let given = given(model, held_out.labels(&shown, device));
    let (n, places) = (model.sites(), model.order().places());
    let known: Vec<bool> = places.iter().map(|place| *place < n / 2).collect();
    // What is hidden is left dark.
    let mask: Vec<f32> = known.iter().map(|known| f32::from(u8::from(*known))).collect();
    let mask = Tensor::<1>::from_data(mask.as_slice(), device).repeat_dim(0, model.variables() / n);
    let mut rows = held_out.pictures(&(x.clone() * mask.unsqueeze_dim::<2>(0)))?;
    for draw in 1..=3 {
        let completed = model.complete(x.clone(), &known, given.clone(), key.at_sample(draw << 32))?;
        rows.extend(held_out.pictures(&completed)?);
    }
    rows.extend(held_out.pictures(&x)?);
    Ok(grid(&rows, shown.len(), 2)?.write_png(folder.join("completions.png"))?)
}

/// `scores.json`.
pub fn write_scores(
    folder: &Path,
    scores: &Scores,
    task: &serde_json::Value,
    seconds: f64,
) -> Result<PathBuf> {
    let path = folder.join("scores.json");
    let text = serde_json::to_string_pretty(&json!({ "held_out": scores, "run": task, "seconds": seconds }))?;
    write_atomically::<std::io::Error>(&path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} can't be written", path.display()))?;
    Ok(path)
}
