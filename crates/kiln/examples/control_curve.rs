//! The course of a control network's training, from the files of its run: the norm of the residuals, the loss, and the overlap of
//! drawn edges with those asked for. Where the norm leaps and the overlap follows is the "sudden convergence" of Zhang et al. 2023.
//!
//! `cargo run --release --package kiln --example control_curve RUN control.svg`
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

/// The mean of each value and the nineteen before it.
fn smooth(points: &[(f64, f64)]) -> Points {
    let mean = |i: usize| {
        let of = &points[i.saturating_sub(19)..=i];
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
    let (run, out) = arguments.next().zip(arguments.next()).ok_or("a run's folder and an SVG to write")?;
    let run = Path::new(&run);
    let root = SVGBackend::new(&out, (640, 620)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((3, 1));
    draw(&panels[0], "norm of the residuals", &column(&run.join("control.csv"), "residuals")?)?;
    draw(&panels[1], "loss, the mean of twenty steps", &smooth(&column(&run.join("losses.csv"), "loss")?))?;
    draw(&panels[2], "F1 of drawn edges, within a pixel", &column(&run.join("overlap.csv"), "f1")?)?;
    root.present()?;
    println!("{out}");
    Ok(())
}
