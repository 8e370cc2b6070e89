//! What every method is asked, and what it answers.

use super::QuadraticError;
use super::error::{finite, sized};

/// When a method ends, where it starts, and what it remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// It ends where the residual is at most this share of the right side's length (where there is none: of the first
    /// gradient's)…
    pub relative: f64,
    /// …or at most this long.
    pub absolute: f64,
    /// Or after so many steps; `None` for 10 n + 1000.
    pub max_steps: Option<usize>,
    /// x of step 0; `None` for 0.
    pub start: Option<Vec<f64>>,
    /// Whether every x is kept.
    pub record: Record,
}

impl Default for Options {
    /// A share of 1e-8, from 0, without the path.
    fn default() -> Self {
        Self { relative: 1e-8, absolute: 0.0, max_steps: None, start: None, record: Record::Residuals }
    }
}

/// What a method remembers of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Record {
    /// The length of each residual.
    #[default]
    Residuals,
    /// Each x too.
    Path,
}

/// Why a method ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The residual is small enough.
    Converged,
    /// There were as many steps as may be.
    Steps,
    /// Rounding lets no step go down any further, and the residual is larger than was asked.
    Rounding,
}

/// The steps of a method.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// x where it ended.
    pub x: Vec<f64>,
    /// ‖∇f‖ (which is ‖A x - r‖ for a system A x = r) of each step, that of the start first.
    pub residuals: Vec<f64>,
    /// x of each step, that of the start first; empty without [`Record::Path`].
    pub path: Vec<Vec<f64>>,
    /// Products with A, or evaluations of f with its gradient.
    pub evaluations: usize,
    /// Why it ended.
    pub ended: Ended,
}

impl Trace {
    /// How many steps it made.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.residuals.len() - 1
    }
}

/// What the methods share: the start, the end, the memory.
pub(super) struct Recorder {
    residuals: Vec<f64>,
    path: Vec<Vec<f64>>,
    record: Record,
    max_steps: usize,
    tolerance: f64,
}

impl Recorder {
    /// Where a method starts, `[n]`.
    pub(super) fn start(options: &Options, n: usize) -> Result<Vec<f64>, QuadraticError> {
        let x = options.start.clone().unwrap_or_else(|| vec![0.0; n]);
        sized("the start", n, x.len())?;
        finite("the start", &x)?;
        Ok(x)
    }

    /// `scale` is what the relative tolerance is a share of.
    pub(super) fn new(options: &Options, n: usize, scale: f64) -> Self {
        Self {
            residuals: Vec::new(),
            path: Vec::new(),
            record: options.record,
            max_steps: options.max_steps.unwrap_or(10 * n + 1000),
            tolerance: options.absolute.max(options.relative * scale),
        }
    }

    /// Takes a step down; the reason to end, if there is one.
    pub(super) fn push(&mut self, x: &[f64], residual: f64) -> Option<Ended> {
        self.residuals.push(residual);
        if self.record == Record::Path {
            self.path.push(x.to_vec());
        }
        if residual <= self.tolerance {
            Some(Ended::Converged)
        } else if self.residuals.len() > self.max_steps {
            Some(Ended::Steps)
        } else {
            None
        }
    }

    /// The number of the step that comes next, from 1.
    pub(super) fn next(&self) -> usize {
        self.residuals.len()
    }

    pub(super) fn end(self, x: Vec<f64>, evaluations: usize, ended: Ended) -> Trace {
        Trace { x, residuals: self.residuals, path: self.path, evaluations, ended }
    }
}
