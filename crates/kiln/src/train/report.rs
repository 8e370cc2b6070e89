//! What a run tells while it lasts: progress on the terminal, pictures, the model's file, attention's logits.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use indicatif::{ProgressBar, ProgressStyle};
use kiln::checkpoint::StoredDType;
use kiln::diffusion::SolverConfig;
use kiln::picture::grid;
use kiln::training::{BoxError, Observer, StepReport};
use kiln::{DrawOptions, Drawing, ModelCard, NetworkConfig, PictureModel};

use super::MODEL_FILE;

/// How large attention's logits are in the course of a run, block by block: `logits.csv`.
pub(super) struct LogitLog {
    path: PathBuf,
    rows: Vec<String>,
}

impl LogitLog {
    /// Steps between rows: each costs a forward pass.
    const EVERY: usize = 50;

    pub(super) fn is_due(step: usize) -> bool {
        step.is_multiple_of(Self::EVERY)
    }

    /// The log of a run that has made so many steps; rows of later ones are made again.
    pub(super) fn open(folder: &Path, steps: usize) -> Result<Self> {
        let path = folder.join("logits.csv");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
        };
        let made = |row: &&str| {
            row.split(',').next().and_then(|i| i.parse::<usize>().ok()).is_some_and(|i| i < steps)
        };
        Ok(Self { rows: text.lines().filter(made).map(str::to_owned).collect(), path })
    }

    pub(super) fn write(&mut self, step: usize, largest: Tensor<1>) -> Result<(), BoxError> {
        let values: Vec<f32> = largest.into_data().iter().collect();
        let values: Vec<String> = values.iter().map(f32::to_string).collect();
        self.rows.push(format!("{step},{}", values.join(",")));
        let head: Vec<String> = (0..values.len()).map(|block| format!("block{block}")).collect();
        let text = format!("step,{}\n{}\n", head.join(","), self.rows.join("\n"));
        Ok(std::fs::write(&self.path, text)?)
    }
}

/// Shows and keeps what a run does.
pub(super) struct Report {
    card: ModelCard,
    folder: PathBuf,
    pub(super) bar: ProgressBar,
    loss: Option<f32>,
}

impl Report {
    pub(super) fn new(card: &ModelCard, folder: &Path) -> Result<Self> {
        let samples = folder.join("samples");
        std::fs::create_dir_all(&samples)
            .with_context(|| format!("the folder {} can't be made", samples.display()))?;
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
            .context("the progress bar's template")?;
        Ok(Self {
            card: card.clone(),
            folder: folder.to_owned(),
            bar: ProgressBar::new(0).with_style(style),
            loss: None,
        })
    }

    fn model<M: Drawing>(&self, network: &M) -> Result<PictureModel, BoxError> {
        let device = network.devices().into_iter().next().ok_or("the network has no parameters")?;
        Ok(PictureModel::new(self.card.clone(), network.clone().into_network(), &device)?)
    }
}

impl<M: Drawing> Observer<M> for Report {
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let smooth = self.loss.map_or(report.loss, |loss| 0.98 * loss + 0.02 * report.loss);
        self.loss = Some(smooth);
        self.bar.set_position(report.step as u64);
        let left = indicatif::HumanDuration(report.eta);
        self.bar.set_message(format!(
            "loss {smooth:.4}, {:.0} pictures/s, {left} left",
            report.samples_per_second
        ));
        // Where no bar can be drawn, a line now and then.
        if self.bar.is_hidden() && (report.step.is_multiple_of(100) || report.step == report.steps) {
            eprintln!(
                "step {}/{}: loss {smooth:.4}, {:.0} pictures/s, {left} left",
                report.step, report.steps, report.samples_per_second
            );
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, _: &Path, averaged: &M) -> Result<(), BoxError> {
        self.model(averaged)?.save(self.folder.join(MODEL_FILE), StoredDType::F16)?;
        Ok(())
    }

    fn on_sample(&mut self, step: usize, averaged: &M) -> Result<(), BoxError> {
        let classes = self.card.classes.len();
        let (rows, columns) = if classes == 0 { (4, 4) } else { (2, classes.min(16)) };
        let wanted: Vec<_> = (0..rows * columns).map(|i| (classes > 0).then(|| i % columns)).collect();
        // A glance: Langevin's dynamics would ask a score network a hundred times at each level.
        let glance = matches!(self.card.network, NetworkConfig::Ncsn(_)).then(SolverConfig::dpmpp_2m);
        let options = DrawOptions { solver: glance, ..DrawOptions::default() };
        let pictures = self.model(averaged)?.draw(&wanted, &options, |_| Ok(()))?;
        let path = self.folder.join("samples").join(format!("step-{step:08}.png"));
        grid(&pictures, columns, 2)?.write_png(path)?;
        Ok(())
    }
}
