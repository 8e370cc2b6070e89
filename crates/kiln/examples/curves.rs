//! The course of a training, from the CSV files of its run: a panel for each column that is asked for, against the first column.
//!
//! `cargo run --release --package kiln --example curves OUT.svg FILE.csv:COLUMN:TITLE…`, where `COLUMN~20` is the mean of twenty rows.
#![allow(clippy::print_stdout)] // a program speaks

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Points = Vec<(f64, f64)>;

/// The first column of a CSV file and the one of this name.
fn column(path: &Path, name: &str) -> Result<Points, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    let mut rows = text.lines();
    let head = rows.next().ok_or("no head")?;
    let at = head.split(',').position(|column| column == name).ok_or_else(|| format!("no column {name}"))?;
    rows.map(|row| {
        let fields: Vec<&str> = row.split(',').collect();
        Ok((fields[0].parse()?, fields.get(at).ok_or("a short row")?.parse()?))
    })
    .collect()
}

/// The mean of each value and those before it, `window` in all.
fn smooth(points: &[(f64, f64)], window: usize) -> Points {
    let mean = |i: usize| {
        let of = &points[(i + 1).saturating_sub(window)..=i];
        of.iter().map(|(_, value)| value).sum::<f64>() / of.len() as f64
    };
    points.iter().enumerate().map(|(i, (step, _))| (*step, mean(i))).collect()
}

fn draw(panel: &Panel<'_>, title: &str, points: &[(f64, f64)]) -> Result<(), Box<dyn Error>> {
    let last = points.last().ok_or("no rows")?.0;
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = points.iter().fold(ends, |(low, high), (_, value)| (low.min(*value), high.max(*value)));
    let margin = 0.05 * (high - low).max(1e-9);
    let mut chart = ChartBuilder::on(panel)
        .margin(8)
        .caption(title, ("sans-serif", 15))
        .x_label_area_size(24)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..last, low - margin..high + margin)?;
    chart.configure_mesh().light_line_style(WHITE).x_labels(7).y_labels(5).draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), RGBColor(31, 119, 180).stroke_width(2)))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().ok_or("an SVG to write, and FILE.csv:COLUMN:TITLE for each panel")?;
    let panels: Vec<String> = arguments.collect();
    let height = u32::try_from(panels.len())? * 206;
    let root = SVGBackend::new(&out, (640, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        let mut parts = panel.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(|| format!("`{panel}` is not FILE.csv:COLUMN:TITLE"));
        let (file, name, title) = (part()?, part()?, part()?);
        let (name, window) = match name.split_once('~') {
            Some((name, window)) => (name, window.parse()?),
            None => (name, 1),
        };
        draw(area, title, &smooth(&column(Path::new(file), name)?, window))?;
    }
    root.present()?;
    println!("{out}");
    Ok(())
}
