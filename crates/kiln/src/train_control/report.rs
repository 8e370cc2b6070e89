//! What a run tells and keeps: progress, the control network's file, the norm of its residuals, and how drawings come to follow edges.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use kiln::checkpoint::{StoredDType, write_atomically};
use kiln::conditioning::UNet2DControlNet;
use kiln::picture::grid;
use kiln::training::{BoxError, Observer, StepReport};
use kiln::{ControlCard, PictureControl, PictureModel};

use super::judge::{Classes, Judge};
use super::overlap::Overlap;

/// The finished network in a run's folder.
pub const CONTROL_FILE: &str = "control.safetensors";

/// A CSV file with a row for some steps, the first of whose numbers is the step.
pub struct Log {
    file: File,
}

impl Log {
    /// The log of a run that has made so many steps: rows of later ones are dropped, since they are made again.
    pub fn open(path: &Path, head: &str, steps: usize) -> Result<Self> {
        let old = match std::fs::read_to_string(path) {
            Ok(text) if steps > 0 => text,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} can't be read", path.display()));
            }
            _ => String::new(),
        };
        let mut rows = format!("{head}\n");
        for row in old.split_inclusive('\n').filter(|row| row.ends_with('\n')) {
            let made = row.split(',').next().and_then(|step| step.parse::<usize>().ok());
            if made.is_some_and(|made| made <= steps) {
                rows.push_str(row);
            }
        }
        write_atomically::<std::io::Error>(path, |file| file.write_all(rows.as_bytes()))
            .and_then(|()| OpenOptions::new().append(true).open(path))
            .map(|file| Self { file })
            .with_context(|| format!("{} can't be written", path.display()))
    }

    pub fn push(&mut self, row: &str) -> Result<(), BoxError> {
        Ok(writeln!(self.file, "{row}")?)
    }
}

/// Shows and keeps what a run does.
pub struct Report<'a> {
    pub bar: ProgressBar,
    model: &'a PictureModel,
    card: &'a ControlCard,
    judge: &'a Judge,
    folder: &'a Path,
    overlaps: Log,
    loss: Option<f32>,
}

/// Judged in the course of a run: so many pictures, drawn in so many steps.
const GLANCE: (usize, usize) = (32, 8);

impl<'a> Report<'a> {
    pub fn new(
        model: &'a PictureModel,
        card: &'a ControlCard,
        judge: &'a Judge,
        folder: &'a Path,
        step: usize,
        steps: usize,
    ) -> Result<Self> {
        let samples = folder.join("samples");
        std::fs::create_dir_all(&samples)
            .with_context(|| format!("the folder {} can't be made", samples.display()))?;
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
            .context("the progress bar's template")?;
        let bar = ProgressBar::new(steps as u64).with_style(style);
        bar.set_position(step as u64);
        let overlaps = Log::open(&folder.join("overlap.csv"), "step,precision,recall,f1,exact_f1", step)?;
        Ok(Self { bar, model, card, judge, folder, overlaps, loss: None })
    }

    fn control(&self, averaged: &UNet2DControlNet) -> PictureControl {
        PictureControl::new(self.card.clone(), averaged.clone())
    }
}

impl Observer<UNet2DControlNet> for Report<'_> {
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let smooth = self.loss.map_or(report.loss, |loss| 0.98 * loss + 0.02 * report.loss);
        self.loss = Some(smooth);
        self.bar.set_position(report.step as u64);
        let left = HumanDuration(report.eta);
        let told = format!("loss {smooth:.4}, {:.0} pictures/s, {left} left", report.samples_per_second);
        // Where no bar can be drawn, a line now and then.
        if self.bar.is_hidden() && (report.step.is_multiple_of(100) || report.step == report.steps) {
            eprintln!("step {}/{}: {told}", report.step, report.steps);
        }
        self.bar.set_message(told);
        Ok(())
    }

    fn on_checkpoint(&mut self, _: &Path, averaged: &UNet2DControlNet) -> Result<(), BoxError> {
        Ok(self.control(averaged).save(self.folder.join(CONTROL_FILE), StoredDType::F16)?)
    }

    fn on_sample(&mut self, step: usize, averaged: &UNet2DControlNet) -> Result<(), BoxError> {
        let (count, steps) = (self.judge.len().min(GLANCE.0), GLANCE.1);
        let control = self.control(averaged);
        let drawn = self.judge.draw(self.model, Some(&control), count, Classes::Told, steps)?;
        let found = self.judge.overlap(self.card, &drawn)?;
        let Overlap { precision, recall, f1, exact_f1 } = found;
        self.overlaps.push(&format!("{step},{precision},{recall},{f1},{exact_f1}"))?;
        let path = self.folder.join("samples").join(format!("step-{step:08}.png"));
        grid(&drawn[..count.min(12)], count.min(12), 2)?.write_png(path)?;
        Ok(())
    }
}
