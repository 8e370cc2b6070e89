//! What was computed against what the reference file holds.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};
use burn::tensor::{Tensor, TensorData};
use kiln::checkpoint::Checkpoint;

const PREFIX: &str = "output.";

/// What a model computed, by the names that Python gives it.
#[derive(Debug, Default)]
pub struct Outputs(BTreeMap<String, TensorData>);

impl Outputs {
    /// Adds one, as f32 on the host.
    pub fn push<const D: usize>(&mut self, name: impl Into<String>, tensor: Tensor<D>) {
        self.push_data(name, tensor.into_data());
    }

    /// As [`push`](Self::push), for what is on the host.
    pub fn push_data(&mut self, name: impl Into<String>, data: TensorData) {
        self.0.insert(name.into(), data.convert::<f32>());
    }

    /// As they stand in a file.
    pub fn named(self) -> BTreeMap<String, TensorData> {
        self.0.into_iter().map(|(name, data)| (format!("{PREFIX}{name}"), data)).collect()
    }
}

/// One output against its reference.
#[derive(Debug)]
struct Row {
    name: String,
    shape: Vec<usize>,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    /// Both are there, and of one shape.
    Compared {
        /// The largest difference; NaN where either holds one.
        absolute: f64,
        /// The same, over the reference's largest absolute value; absolute where that is 0.
        relative: f64,
    },
    /// It was not computed.
    Missing,
    /// It has another shape.
    Shape(Vec<usize>),
}

/// Every output of a reference file against what was computed.
#[derive(Debug)]
pub struct Comparison {
    rows: Vec<Row>,
    tolerance: f64,
}

impl Comparison {
    /// Compares all that the reference holds.
    pub fn new(reference: &Checkpoint, outputs: &Outputs, tolerance: f64) -> Result<Self> {
        let names = reference.tensors().filter_map(|(name, info)| {
            Some((name, name.strip_prefix(PREFIX)?.to_owned(), info.shape.to_vec()))
        });
        let mut rows = Vec::new();
        for (full, name, shape) in names {
            let verdict = match outputs.0.get(&name) {
                None => Verdict::Missing,
                Some(found) if found.shape().to_vec() != shape => Verdict::Shape(found.shape().to_vec()),
                Some(found) => {
                    let expected = reference.tensor(full)?;
                    if !expected.dtype().is_float() {
                        bail!("{}: {full} holds {:?}, expected floats", reference.label(), expected.dtype());
                    }
                    compare(found, &expected)
                }
            };
            rows.push(Row { name, shape, verdict });
        }
        if rows.is_empty() {
            bail!("{}: there is nothing to compare with: no tensor `{PREFIX}<name>`", reference.label());
        }
        Ok(Self { rows, tolerance })
    }

    /// Whether every output is there and near enough.
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.verdict.holds(self.tolerance))
    }
}

impl Verdict {
    fn holds(&self, tolerance: f64) -> bool {
        match self {
            // A comparison with NaN is false.
            Self::Compared { relative, .. } => *relative <= tolerance,
            Self::Missing | Self::Shape(_) => false,
        }
    }
}

fn compare(found: &TensorData, expected: &TensorData) -> Verdict {
    let (mut absolute, mut scale) = (0.0_f64, 0.0_f64);
    for (found, expected) in found.iter::<f64>().zip(expected.iter::<f64>()) {
        let difference = (found - expected).abs();
        // `max` would pass over NaN. Infinity where infinity is expected gives NaN too, and is no number to agree on.
        if difference.is_nan() {
            absolute = f64::NAN;
            break;
        }
        absolute = absolute.max(difference);
        scale = scale.max(expected.abs());
    }
    let relative = if scale == 0.0 { absolute } else { absolute / scale };
    Verdict::Compared { absolute, relative }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rows.iter().map(|row| row.name.len()).chain(["output".len()]).max().unwrap_or(0);
        let shape = |shape: &[usize]| {
            let sides: Vec<_> = shape.iter().map(ToString::to_string).collect();
            format!("[{}]", sides.join(", "))
        };
        let shapes: Vec<_> = self.rows.iter().map(|row| shape(&row.shape)).collect();
        let widest = shapes.iter().map(String::len).chain(["shape".len()]).max().unwrap_or(0);
        writeln!(f, "{:names$}  {:widest$}  {:>10}  {:>10}", "output", "shape", "absolute", "relative")?;
        for (row, held) in self.rows.iter().zip(&shapes) {
            write!(f, "{:names$}  {held:widest$}  ", row.name)?;
            let verdict = if row.verdict.holds(self.tolerance) { "ok" } else { "FAILS" };
            match &row.verdict {
                Verdict::Compared { absolute, relative } => {
                    writeln!(f, "{absolute:>10.3e}  {relative:>10.3e}  {verdict}")?;
                }
                Verdict::Missing => writeln!(f, "{:>10}  {:>10}  {verdict}: not computed", "-", "-")?,
                Verdict::Shape(found) => {
                    writeln!(f, "{:>10}  {:>10}  {verdict}: computed as {}", "-", "-", shape(found))?;
                }
            }
        }
        let failing = self.rows.iter().filter(|row| !row.verdict.holds(self.tolerance)).count();
        match failing {
            0 => write!(f, "all within {:e}", self.tolerance),
            _ => write!(f, "{failing} of {} not within {:e}", self.rows.len(), self.tolerance),
        }
    }
}
