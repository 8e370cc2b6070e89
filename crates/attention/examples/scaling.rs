//! Time and memory of softmax and of linear attention against the sequence's length, and the costs that
//! [`recommend`](kiln_attention::recommend()) goes by.
//!
//! ```sh
//! cargo run --release --package kiln-attention --example scaling -- --out docs/src/images/attention.svg
//! ```
//!
//! measures each point in a process of its own with one thread, draws both curves, prints them as a table, then fits the
//! constants of `recommend`. Time is processor time, and the least of `--rounds`: other work on the machine adds to it and
//! never takes from it. `--heads`, `--dim` and `--longest` change what is measured; `--point KIND N` measures one.

// A program that answers on its standard output.
#![allow(clippy::print_stdout)]

use std::error::Error;

use burn::tensor::{Device, Distribution, Tensor};
use kiln_attention::linear::{FeatureMap, mapped_linear_attention};
use kiln_attention::{AttentionOptions, recommend};
use kiln_backend::ops::scaled_dot_product_attention;
use plotters::prelude::*;

#[path = "common/process.rs"]
mod process;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const KINDS: [&str; 2] = ["softmax", "linear"];

#[derive(Clone)]
struct Arguments {
    heads: usize,
    dim: usize,
    longest: usize,
    rounds: usize,
    out: Option<String>,
    point: Option<(String, usize)>,
}

/// Processor time in seconds, and what the peak of memory rose by, in bytes.
#[derive(Clone, Copy)]
struct Measured {
    seconds: f64,
    memory: f64,
}

fn main() -> Outcome<()> {
    let arguments = arguments()?;
    if let Some((kind, n)) = &arguments.point {
        let Measured { seconds, memory } = measure(kind, *n, &arguments)?;
        println!("{seconds} {memory}");
        return Ok(());
    }
    let lengths: Vec<usize> = (5..).map(|power| 1 << power).take_while(|&n| n <= arguments.longest).collect();
    let mut curves = [Vec::new(), Vec::new()];
    println!("| n | softmax | linear | softmax, memory | linear, memory | recommended |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for &n in &lengths {
        for (kind, curve) in KINDS.iter().zip(&mut curves) {
            curve.push((n, apart(kind, n, &arguments)?));
        }
        let [softmax, linear] = curves.each_ref().map(|curve| curve[curve.len() - 1].1);
        println!(
            "| {n} | {:.3} ms | {:.3} ms | {:.1} MiB | {:.1} MiB | {:?} |",
            softmax.seconds * 1e3,
            linear.seconds * 1e3,
            mebibytes(softmax.memory),
            mebibytes(linear.memory),
            recommend(n, arguments.dim, arguments.heads),
        );
        // After each length: a run that is stopped leaves a whole picture.
        if let (Some(path), true) = (&arguments.out, n > 512) {
            draw(path, &curves).map_err(|error| error.to_string())?;
        }
    }
    println!();
    for (kind, curve) in KINDS.iter().zip(&curves) {
        let long: Vec<_> = curve.iter().filter(|(n, _)| *n >= 4096).collect();
        let power = |of: fn(&Measured) -> f64| {
            slope(&long.iter().map(|(n, m)| ((*n as f64).ln(), of(m).max(1.0).ln())).collect::<Vec<_>>())
        };
        if long.len() < 3 {
            continue;
        }
        let (time, memory) = (power(|m| m.seconds * 1e9), power(|m| m.memory));
        println!("{kind}: from 4096 tokens on, time grows as n^{time:.2} and memory as n^{memory:.2}");
    }
    println!();
    fit(&arguments)
}

fn arguments() -> Outcome<Arguments> {
    let mut arguments = Arguments { heads: 2, dim: 64, longest: 65_536, rounds: 3, out: None, point: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| format!("`{word}` wants a value"));
        match word.as_str() {
            "--heads" => arguments.heads = next()?.parse()?,
            "--dim" => arguments.dim = next()?.parse()?,
            "--longest" => arguments.longest = next()?.parse()?,
            "--rounds" => arguments.rounds = next()?.parse::<usize>()?.max(1),
            "--out" => arguments.out = Some(next()?),
            "--point" => arguments.point = Some((next()?, next()?.parse()?)),
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    Ok(arguments)
}

/// The least of some rounds, each in a process of its own, whose peak of memory is no one else's.
fn apart(kind: &str, n: usize, arguments: &Arguments) -> Outcome<Measured> {
    let mut least = Measured { seconds: f64::MAX, memory: f64::MAX };
    for _ in 0..arguments.rounds {
        let numbers = [("--heads", arguments.heads), ("--dim", arguments.dim)];
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.args(numbers.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
        command.args(["--point", kind, &n.to_string()]).env("RAYON_NUM_THREADS", "1");
        let output = command.output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [seconds, memory] = numbers[..] else {
            return Err(format!("{kind} at {n}: {}", String::from_utf8_lossy(&output.stderr)).into());
        };
        least = Measured { seconds: seconds.min(least.seconds), memory: memory.min(least.memory) };
    }
    Ok(least)
}

fn measure(kind: &str, n: usize, arguments: &Arguments) -> Outcome<Measured> {
    let device = Device::flex();
    let inputs = |n| {
        let shape = [1, arguments.heads, n, arguments.dim];
        [0, 1, 2].map(|_| Tensor::<4>::random(shape, Distribution::Default, &device))
    };
    let attend = |[q, k, v]: [Tensor<4>; 3]| -> Outcome<Tensor<4>> {
        match kind {
            "softmax" => Ok(scaled_dot_product_attention(q, k, v, AttentionOptions::default())),
            "linear" => Ok(mapped_linear_attention(q, k, v, FeatureMap::EluPlusOne)),
            other => Err(format!("`{other}` is neither softmax nor linear").into()),
        }
    };
    // The program's own pages and its thread's are there before memory is looked at.
    drop(attend(inputs(32))?);
    let inputs = inputs(n);
    let before = status("VmRSS:")?;
    let once = || -> Outcome<f64> {
        let start = process::processor_seconds()?;
        drop(attend(inputs.clone())?);
        Ok(process::processor_seconds()? - start)
    };
    let mut seconds = once()?;
    let memory = (status("VmHWM:")? - before).max(0.0);
    // As many more as fit a second.
    for _ in 0..(1.0 / seconds.max(1e-5)).min(2000.0) as usize {
        seconds = seconds.min(once()?);
    }
    Ok(Measured { seconds, memory })
}

/// A number of kilobytes that Linux tells of this process, in bytes.
fn status(field: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("Linux tells no such size")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The slope of a line through points, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let product: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    product / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

/// Measures heads of 32, 64 and 128 channels, and prints the constants of `recommend` with what they miss.
fn fit(arguments: &Arguments) -> Outcome<()> {
    /// What a kind's cost is a multiple of: softmax heads n^2 (A d + B), linear heads n d (C d + D).
    type Cost = fn(f64, f64) -> f64;
    let dims = [32_usize, 64, 128];
    let shapes: [(usize, Cost); 2] = [(4096, |n, _| n * n), (16_384, |n, d| n * d)];
    for ((kind, names), (n, multiple)) in KINDS.iter().zip([["A", "B"], ["C", "D"]]).zip(shapes) {
        let mut points = Vec::new();
        for dim in dims {
            let seconds = apart(kind, n, &Arguments { dim, ..arguments.clone() })?.seconds;
            let d = dim as f64;
            points.push((d, seconds * 1e9 / (arguments.heads as f64 * multiple(n as f64, d)), seconds));
        }
        let [a, b] = line(&points);
        println!("{kind}: {} = {a:.4}, {} = {b:.4} nanoseconds of a core", names[0], names[1]);
        for (d, cost, seconds) in points {
            let missed = 100.0 * ((a * d + b) / cost - 1.0);
            println!(
                "  n {n}, d {d}, {} heads: {:.3} ms, missed by {missed:+.1} %",
                arguments.heads,
                seconds * 1e3
            );
        }
    }
    Ok(())
}

/// a and b of the line a d + b through costs, with the least squares of what is missed as a share of the cost.
fn line(points: &[(f64, f64, f64)]) -> [f64; 2] {
    // Of the rows (d / cost, 1 / cost) times (a, b) = 1, the normal equations.
    let sum =
        |of: fn(f64, f64) -> f64| points.iter().map(|(d, cost, _)| of(d / cost, 1.0 / cost)).sum::<f64>();
    let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
    let (x, y) = (sum(|x, _| x), sum(|_, y| y));
    let determinant = xx * yy - xy * xy;
    [(x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant]
}

fn draw(path: &str, curves: &[Vec<(usize, Measured)>; 2]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (960, 380)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((1, 2));
    let of = |pick: fn(&Measured) -> f64, from: usize| {
        let points = |curve: &Vec<(usize, Measured)>| {
            curve.iter().filter(|(n, _)| *n >= from).map(|(n, m)| (*n as f64, pick(m))).collect::<Vec<_>>()
        };
        curves.each_ref().map(points)
    };
    let panel_of = [
        ("milliseconds of a core", of(|m| m.seconds * 1e3, 0)),
        ("MiB beside the inputs, at most", of(|m| mebibytes(m.memory).max(0.1), 512)),
    ];
    for (panel, (title, curves)) in panels.iter().zip(panel_of) {
        let all = || curves.iter().flatten();
        let range = |of: fn(&(f64, f64)) -> f64| {
            (all().map(of).fold(f64::MAX, f64::min), all().map(of).fold(0.0, f64::max))
        };
        let ((shortest, longest), (least, most)) = (range(|p| p.0), range(|p| p.1));
        let mut chart = ChartBuilder::on(panel)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d((shortest..longest).log_scale(), (least * 0.8..most * 1.25).log_scale())?;
        chart.configure_mesh().x_desc("tokens").light_line_style(WHITE).draw()?;
        for ((curve, name), colour) in curves.into_iter().zip(KINDS).zip([RED, BLUE]) {
            chart
                .draw_series(LineSeries::new(curve, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    }
    area.present()?;
    Ok(())
}
