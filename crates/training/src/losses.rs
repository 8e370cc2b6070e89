//! The log of losses, a CSV file with one row a step: `step,loss,learning_rate,grad_norm`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_checkpoint::write_atomically;

use crate::{StepReport, TrainingError};

/// The log's name in the run's folder.
pub const LOSSES_FILE: &str = "losses.csv";

const HEADER: &str = "step,loss,learning_rate,grad_norm\n";

#[derive(Debug)]
pub(crate) struct LossLog {
    path: PathBuf,
    file: File,
}

impl LossLog {
    /// A log without rows in place of any that was there.
    pub(crate) fn create(dir: &Path) -> Result<Self, TrainingError> {
        Self::with_rows(dir, HEADER)
    }

    /// The log that is there, without the rows after `step`, which the resumed run writes again.
    pub(crate) fn resume(dir: &Path, step: usize) -> Result<Self, TrainingError> {
        let path = dir.join(LOSSES_FILE);
        let old = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(TrainingError::Io { action: "read", path, source }),
        };
        let mut rows = HEADER.to_owned();
        // A row without an end was being written when the process died; its step is after the checkpoint.
        for row in old.split_inclusive('\n').filter(|row| row.ends_with('\n')) {
            let made = row.split(',').next().and_then(|made| made.parse::<usize>().ok());
            if made.is_some_and(|made| made <= step) {
                rows.push_str(row);
            }
        }
        Self::with_rows(dir, &rows)
    }

    fn with_rows(dir: &Path, rows: &str) -> Result<Self, TrainingError> {
        let path = dir.join(LOSSES_FILE);
        let fail = |source| TrainingError::Io { action: "write", path: path.clone(), source };
        write_atomically(&path, |file| file.write_all(rows.as_bytes())).map_err(fail)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(fail)?;
        Ok(Self { path, file })
    }

    /// One row, written at once, so that the log can be watched.
    pub(crate) fn push(&mut self, report: &StepReport) -> Result<(), TrainingError> {
        let StepReport { step, loss, learning_rate, grad_norm, .. } = report;
        let row = format!("{step},{loss},{learning_rate},{grad_norm}\n");
        self.file.write_all(row.as_bytes()).map_err(|source| self.fail(source))
    }

    /// Waits until the rows so far are on the disk: a checkpoint must not outlive them.
    pub(crate) fn sync(&self) -> Result<(), TrainingError> {
        self.file.sync_data().map_err(|source| self.fail(source))
    }

    fn fail(&self, source: std::io::Error) -> TrainingError {
        TrainingError::Io { action: "write", path: self.path.clone(), source }
    }
}
