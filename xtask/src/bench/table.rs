//! Measurements, and the forms they are given in: text, markdown, JSON.

use std::fmt::Write;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::side::Case;

/// One time, and the memory it took where that was measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Seconds.
    pub seconds: f64,
    /// Peak resident memory of the process, in bytes.
    pub peak_memory: Option<u64>,
}

impl Measured {
    /// A time alone.
    pub fn seconds(seconds: f64) -> Self {
        Self { seconds, peak_memory: None }
    }
}

/// A program that Kiln is reported beside, and not judged against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// PyTorch's functions, compiled by `torch.compile`.
    Compiled,
    /// candle.
    Candle,
}

impl Beside {
    /// The head of its column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compiled => "torch.compile",
            Self::Candle => "candle",
        }
    }
}

/// All measurements of one case, in the order they were taken: `kiln[i]` and `torch[i]` are a pair.
pub struct Row {
    /// The case.
    pub case: Case,
    /// Kiln's.
    pub kiln: Vec<Measured>,
    /// PyTorch's, if it was asked.
    pub torch: Vec<Measured>,
    /// Those of the others that were asked; none of a case that one can't do.
    pub beside: Vec<(Beside, Vec<Measured>)>,
}

impl Row {
    /// A row with no measurement yet.
    pub fn new(case: Case) -> Self {
        Self { case, kiln: Vec::new(), torch: Vec::new(), beside: Vec::new() }
    }

    fn median_seconds(measured: &[Measured]) -> Option<f64> {
        median(&measured.iter().map(|one| one.seconds).collect::<Vec<_>>())
    }

    /// Kiln's time over PyTorch's, pair by pair: (least, median, greatest).
    fn ratio(&self) -> Option<(f64, f64, f64)> {
        self.ratio_to(&self.torch)
    }

    fn ratio_to(&self, other: &[Measured]) -> Option<(f64, f64, f64)> {
        let pairs = self.kiln.iter().zip(other);
        let ratios: Vec<f64> = pairs.map(|(kiln, other)| kiln.seconds / other.seconds).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some((least, median(&ratios)?, greatest))
    }

    /// Another's time, and Kiln's over it.
    fn time_beside(&self, measured: &[Measured]) -> String {
        let time = duration(Self::median_seconds(measured));
        self.ratio_to(measured).map_or_else(dash, |(_, ratio, _)| format!("{time} ({ratio:.2})"))
    }

    /// The best rate of matrix products that either side reached here, in FLOP/s.
    fn best_rate(&self) -> f64 {
        let all = self.kiln.iter().chain(&self.torch);
        all.map(|one| self.case.flop / one.seconds).fold(0.0, f64::max)
    }

    /// The row as it is told while the bench runs.
    pub fn line(&self) -> String {
        let mut line = format!("{}: {}", self.case.name, duration(Self::median_seconds(&self.kiln)));
        if let Some((least, ratio, greatest)) = self.ratio() {
            let torch = duration(Self::median_seconds(&self.torch));
            let _ = write!(line, ", torch {torch}, ratio {ratio:.2} ({least:.2} to {greatest:.2})");
        }
        for (beside, measured) in &self.beside {
            let _ = write!(line, ", {} {}", beside.name(), self.time_beside(measured));
        }
        line
    }
}

/// The types of floats that can be computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, 11 of them precision.
    F16,
    /// 16 bits, 8 of them precision.
    Bf16,
}

impl Dtype {
    /// What both sides' `--dtype` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// What the sides computed on, by the names that these give themselves.
#[derive(Clone, Debug)]
pub struct Devices {
    /// Kiln's.
    pub kiln: String,
    /// PyTorch's, if it was asked.
    pub torch: Option<String>,
}

/// One run of a bench.
pub struct Run {
    /// The bench's name.
    pub name: String,
    /// The backend that Kiln ran on.
    pub backend: String,
    /// The type of floats that both sides computed in.
    pub dtype: Dtype,
    /// What Kiln's backend and PyTorch computed on, where it was no program of `kiln`'s that was timed.
    pub devices: Option<Devices>,
    /// Threads of either side.
    pub threads: usize,
    /// Requests a case and side.
    pub rounds: u32,
    /// The cases.
    pub rows: Vec<Row>,
}

impl Run {
    /// The best rate of the plain matrix products (cases named `matmul …`) in the whole run, in FLOP/s: what shares of peak
    /// refer to. A convolution that saves products can be above it.
    fn peak(&self) -> f64 {
        let products = self.rows.iter().filter(|row| row.case.name.starts_with("matmul"));
        products.map(Row::best_rate).fold(0.0, f64::max)
    }

    fn columns(&self) -> Vec<Vec<String>> {
        let with_torch = self.rows.iter().any(|row| !row.torch.is_empty());
        let with_memory = self.rows.iter().flat_map(|row| &row.kiln).any(|one| one.peak_memory.is_some());
        let with_work = self.rows.iter().any(|row| row.case.flop > 0.0 || row.case.bytes > 0.0);
        let mut table = Vec::new();
        let mut heads = vec!["case", "Kiln"];
        if with_torch {
            heads.extend(["PyTorch", "ratio (least to greatest)"]);
        }
        let others = self.rows.first().map_or(&[][..], |row| &row.beside);
        heads.extend(others.iter().map(|(beside, _)| beside.name()));
        if with_work {
            heads.extend(["share of peak", "GB/s"]);
        }
        if with_memory {
            heads.push("peak memory");
        }
        if with_torch && with_memory {
            heads.extend(["PyTorch's", "ratio"]);
        }
        table.push(heads.into_iter().map(str::to_owned).collect());
        let peak = self.peak();
        for row in &self.rows {
            let seconds = Row::median_seconds(&row.kiln);
            let rate = |work: f64| seconds.filter(|_| work > 0.0).map(|seconds| work / seconds);
            let mut cells = vec![row.case.name.clone(), duration(seconds)];
            if with_torch {
                cells.push(duration(Row::median_seconds(&row.torch)));
                cells.push(row.ratio().map_or_else(dash, |(a, r, b)| format!("{r:.2} ({a:.2} to {b:.2})")));
            }
            cells.extend(row.beside.iter().map(|(_, measured)| row.time_beside(measured)));
            if with_work {
                let share = rate(row.case.flop).filter(|_| peak > 0.0).map(|rate| 100.0 * rate / peak);
                cells.push(share.map_or_else(dash, |share| format!("{share:.0} %")));
                cells.push(rate(row.case.bytes).map_or_else(dash, |rate| format!("{:.1}", rate / 1e9)));
            }
            let most = |side: &[Measured]| side.iter().filter_map(|one| one.peak_memory).max();
            let mebibytes =
                |bytes: Option<u64>| bytes.map_or_else(dash, |bytes| format!("{} MiB", bytes >> 20));
            if with_memory {
                cells.push(mebibytes(most(&row.kiln)));
            }
            if with_torch && with_memory {
                cells.push(mebibytes(most(&row.torch)));
                let ratio =
                    most(&row.kiln).zip(most(&row.torch)).map(|(kiln, torch)| kiln as f64 / torch as f64);
                cells.push(ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")));
            }
            table.push(cells);
        }
        table
    }

    /// Where the page has this run's table: by the bench's name on the CPU in f32, else with backend and type.
    pub fn place(&self) -> String {
        let Self { name, backend, dtype, .. } = self;
        let backend = backend.split(':').next().unwrap_or(backend);
        match (backend, dtype) {
            ("flex", Dtype::F32) => name.clone(),
            _ => format!("{name} {backend} {}", dtype.name()),
        }
    }

    fn caption(&self) -> String {
        let Self { backend, dtype, threads, rounds, .. } = self;
        let mut caption = format!("{backend} in {}", dtype.name());
        match &self.devices {
            Some(Devices { kiln, torch: Some(torch) }) if kiln != torch => {
                let _ = write!(caption, " on {kiln}, PyTorch on {torch}");
            }
            Some(Devices { kiln, .. }) => {
                let _ = write!(caption, " on {kiln}");
            }
            None => {}
        }
        let _ = write!(caption, ", {threads} threads, medians of {rounds} rounds");
        if self.peak() > 0.0 {
            let _ = write!(caption, ", best matrix product {:.0} GFLOP/s", self.peak() / 1e9);
        }
        caption
    }

    /// The table for a terminal.
    pub fn text(&self) -> String {
        let table = self.columns();
        let widths: Vec<usize> = (0..table[0].len())
            .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("{} ({})\n", self.name, self.caption());
        for row in &table {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if column == 0 {
                    write!(text, "{cell:<width$}")
                } else {
                    write!(text, "  {cell:>width$}")
                };
            }
            text.push('\n');
        }
        text
    }

    /// The table for the book.
    pub fn markdown(&self) -> String {
        let table = self.columns();
        let mut text = format!("{}.\n\n", self.caption());
        for (index, row) in table.iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if index == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
        text
    }

    /// Every single measurement.
    pub fn json(&self) -> Value {
        let seconds = |all: &[Measured]| all.iter().map(|one| one.seconds).collect::<Vec<_>>();
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let mut object = json!({
                    "case": row.case.name,
                    "flop": row.case.flop,
                    "bytes": row.case.bytes,
                    "kiln_seconds": seconds(&row.kiln),
                    "torch_seconds": seconds(&row.torch),
                    "kiln_peak_memory": row.kiln.iter().filter_map(|one| one.peak_memory).max(),
                    "ratio": row.ratio().map(|(least, median, greatest)| [least, median, greatest]),
                });
                for (beside, measured) in &row.beside {
                    object[format!("{}_seconds", beside.name())] = seconds(measured).into();
                }
                object
            })
            .collect();
        json!({
            "bench": self.name,
            "backend": self.backend,
            "dtype": self.dtype.name(),
            "device": self.devices.as_ref().map(|devices| &devices.kiln),
            "torch_device": self.devices.as_ref().and_then(|devices| devices.torch.as_ref()),
            "threads": self.threads,
            "rounds": self.rounds,
            "peak_flop_per_second": self.peak(),
            "rows": rows,
        })
    }
}

/// The middle of some numbers: nothing if there is none, or one that is no number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    if sorted.is_empty() || sorted.iter().any(|value| value.is_nan()) {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 { sorted[middle] } else { 0.5 * (sorted[middle - 1] + sorted[middle]) })
}

fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => dash(),
        Some(seconds) if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

fn dash() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(flop: f64, kiln: &[f64], torch: &[f64]) -> Row {
        let all = |seconds: &[f64]| seconds.iter().copied().map(Measured::seconds).collect();
        Row {
            kiln: all(kiln),
            torch: all(torch),
            ..Row::new(Case { name: "matmul".into(), flop, bytes: 0.0 })
        }
    }

    fn run(rows: Vec<Row>) -> Run {
        let (name, backend) = ("ops".into(), "flex".into());
        Run { name, backend, dtype: Dtype::F32, devices: None, threads: 2, rounds: 3, rows }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let (least, middle, greatest) = row(0.0, &[2.0, 30.0, 1.0], &[1.0, 10.0, 1.0]).ratio().unwrap();
        assert_eq!((least, middle, greatest), (1.0, 2.0, 3.0));
        assert!(row(0.0, &[1.0], &[]).ratio().is_none());
    }

    #[test]
    fn peak_is_the_best_of_either_side() {
        let mut saving = row(1e9, &[0.1], &[1.0]);
        saving.case.name = "conv2d".into();
        let run = run(vec![row(8e9, &[2.0], &[1.0]), row(1e9, &[0.5], &[1.0]), saving]);
        assert_eq!(run.peak(), 8e9);
        let table = run.columns();
        assert_eq!(table[1][4], "50 %");
        assert_eq!(table[2][4], "25 %");
        assert_eq!(table[3][4], "125 %");
    }

    #[test]
    fn others_have_a_column_each() {
        let mut row = row(0.0, &[0.001], &[0.002]);
        let candle = vec![Measured::seconds(0.004)];
        row.beside = vec![(Beside::Compiled, Vec::new()), (Beside::Candle, candle)];
        let table = run(vec![row]).columns();
        assert_eq!(table[0][3..], ["ratio (least to greatest)", "torch.compile", "candle"]);
        assert_eq!(table[1][4..], ["–", "4.00 ms (0.25)"]);
    }

    #[test]
    fn a_gpu_is_named_and_has_its_own_place() {
        let on_cpu = run(Vec::new());
        assert_eq!(on_cpu.place(), "ops");
        let devices = |torch: &str| Some(Devices { kiln: "a GPU".into(), torch: Some(torch.into()) });
        let on_gpu = Run { backend: "cuda:1".into(), dtype: Dtype::Bf16, devices: devices("CPU"), ..on_cpu };
        assert_eq!(on_gpu.place(), "ops cuda bf16");
        assert!(on_gpu.caption().starts_with("cuda:1 in bf16 on a GPU, PyTorch on CPU, 2 threads"));
        let same = Run { devices: devices("a GPU"), ..on_gpu };
        assert!(same.caption().starts_with("cuda:1 in bf16 on a GPU, 2 threads"));
    }

    #[test]
    fn a_table_without_torch_has_no_ratio() {
        let run = run(vec![row(1e9, &[0.002], &[])]);
        assert_eq!(run.columns()[0], ["case", "Kiln", "share of peak", "GB/s"]);
        assert!(run.markdown().contains("| matmul | 2.00 ms | 100 % | – |"), "{}", run.markdown());
        assert!(
            run.text().starts_with("ops (flex in f32, 2 threads, medians of 3 rounds, best matrix product")
        );
    }
}
