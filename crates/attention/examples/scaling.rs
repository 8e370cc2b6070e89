//! Time and memory of softmax and of linear attention against the sequence's length.
//!
//! `cargo run --release --package kiln-attention --example scaling -- --out docs/src/images/attention.svg` measures each point
//! in a process of its own, draws both curves and prints them as a table. `--heads`, `--dim` and `--longest` change what is
//! measured; `--point KIND N` measures one.

// A program that answers on its standard output.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use kiln_attention::linear::{FeatureMap, mapped_linear_attention};
use kiln_attention::{AttentionOptions, recommend};
use kiln_backend::ops::scaled_dot_product_attention;
use plotters::prelude::*;

type Outcome<T> = Result<T, Box<dyn Error>>;

const KINDS: [&str; 2] = ["softmax", "linear"];

struct Arguments {
    heads: usize,
    dim: usize,
    longest: usize,
    out: Option<String>,
    point: Option<(String, usize)>,
}

/// Wall and processor time in seconds, and what the peak of memory rose by, in bytes.
#[derive(Clone, Copy)]
struct Measured {
    seconds: f64,
    processor: f64,
    memory: f64,
}

fn main() -> Outcome<()> {
    let arguments = arguments()?;
    if let Some((kind, n)) = &arguments.point {
        let Measured { seconds, processor, memory } = measure(kind, *n, &arguments)?;
        println!("{seconds} {processor} {memory}");
        return Ok(());
    }
    let lengths: Vec<usize> = (9..).map(|power| 1 << power).take_while(|&n| n <= arguments.longest).collect();
    let mut curves = [Vec::new(), Vec::new()];
    println!(
        "| n | softmax, of a core | linear, of a core | softmax | linear | softmax, memory | linear, memory | recommended |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for &n in &lengths {
        for (kind, curve) in KINDS.iter().zip(&mut curves) {
            curve.push((n, apart(kind, n, &arguments)?));
        }
        let [softmax, linear] = curves.each_ref().map(|curve| curve[curve.len() - 1].1);
        println!(
            "| {n} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} MiB | {:.1} MiB | {:?} |",
            softmax.processor * 1e3,
            linear.processor * 1e3,
            softmax.seconds * 1e3,
            linear.seconds * 1e3,
            softmax.memory / f64::from(1 << 20),
            linear.memory / f64::from(1 << 20),
            recommend(n, arguments.dim, arguments.heads),
        );
        // After each length: a run that is stopped leaves a whole picture.
        if let (Some(path), true) = (&arguments.out, curves[0].len() > 1) {
            draw(path, &curves)?;
        }
    }
    Ok(())
}

fn arguments() -> Outcome<Arguments> {
    let mut arguments = Arguments { heads: 2, dim: 64, longest: 65_536, out: None, point: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| format!("`{word}` wants a value"));
        match word.as_str() {
            "--heads" => arguments.heads = next()?.parse()?,
            "--dim" => arguments.dim = next()?.parse()?,
            "--longest" => arguments.longest = next()?.parse()?,
            "--out" => arguments.out = Some(next()?),
            "--point" => arguments.point = Some((next()?, next()?.parse()?)),
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    Ok(arguments)
}

/// In a process of its own, whose peak of memory is no one else's.
fn apart(kind: &str, n: usize, arguments: &Arguments) -> Outcome<Measured> {
    let numbers = [("--heads", arguments.heads), ("--dim", arguments.dim)];
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(numbers.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
    let output = command.args(["--point", kind, &n.to_string()]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match numbers[..] {
        [seconds, processor, memory] => Ok(Measured { seconds, processor, memory }),
        _ => Err(format!("{kind} at {n}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn measure(kind: &str, n: usize, arguments: &Arguments) -> Outcome<Measured> {
    let device = Device::flex();
    let shape = [1, arguments.heads, n, arguments.dim];
    let [q, k, v] = [0, 1, 2].map(|_| Tensor::<4>::random(shape, Distribution::Default, &device));
    let attend = || -> Outcome<Tensor<4>> {
        let (q, k, v) = (q.clone(), k.clone(), v.clone());
        match kind {
            "softmax" => Ok(scaled_dot_product_attention(q, k, v, AttentionOptions::default())),
            "linear" => Ok(mapped_linear_attention(q, k, v, FeatureMap::EluPlusOne)),
            other => Err(format!("`{other}` is neither softmax nor linear").into()),
        }
    };
    let before = status("VmRSS:")?;
    let first = Instant::now();
    drop(attend()?);
    let memory = (status("VmHWM:")? - before).max(0.0);
    // As many more as fit a second, at least one.
    let repetitions = (1.0 / first.elapsed().as_secs_f64().max(1e-4)).clamp(1.0, 500.0) as u32;
    let processor = processor_seconds()?;
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..repetitions {
        let start = Instant::now();
        drop(attend()?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let processor = (processor_seconds()? - processor) / f64::from(repetitions);
    Ok(Measured { seconds: seconds[seconds.len() / 2], processor, memory })
}

/// A number of kilobytes that Linux tells of this process, in bytes.
fn status(field: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("Linux tells no such size")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// User and system time of this process, which Linux counts in hundredths of a second.
fn processor_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The program's name, which may have spaces, ends at the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| {
        fields.get(field).ok_or("no such field")?.parse::<f64>().map_err(Box::<dyn Error>::from)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn draw(path: &str, curves: &[Vec<(usize, Measured)>; 2]) -> Outcome<()> {
    let area = SVGBackend::new(path, (960, 380)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((1, 2));
    let of = |pick: fn(&Measured) -> f64| {
        curves.each_ref().map(|curve| curve.iter().map(|(n, m)| (*n as f64, pick(m))).collect::<Vec<_>>())
    };
    let panel_of = [
        ("milliseconds of a core", of(|m| (m.processor * 1e3).max(1e-3))),
        ("MiB beside the inputs, at most", of(|m| (m.memory / f64::from(1 << 20)).max(0.1))),
    ];
    for (panel, (title, curves)) in panels.iter().zip(panel_of) {
        let all = || curves.iter().flatten();
        let (least, most) =
            (all().map(|p| p.1).fold(f64::MAX, f64::min), all().map(|p| p.1).fold(0.0, f64::max));
        let longest = all().map(|p| p.0).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d((512.0..longest).log_scale(), (least * 0.8..most * 1.25).log_scale())?;
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
